"""Bayesian inference with Residual Pathway Priors: what a model is."""

from bayes_rpp.bases import EquivariantBasis, equivariant_basis, equivariant_maps
from bayes_rpp.bayesian_model import BayesianModel, LogDensity
from bayes_rpp.distributions import PathwayNormal
from bayes_rpp.groups import SL, SO, D, Group, O, O2eR3, S, SO2eR3, Trivial, Z
from bayes_rpp.likelihoods import Categorical, Gaussian
from bayes_rpp.networks import EMLP, MLP, RPPEMLP, RPPLinear, uniform_rep
from bayes_rpp.normalization import NormalizedNetwork, Standardizer
from bayes_rpp.notation import parse_group, parse_rep
from bayes_rpp.priors import RPPPrior
from bayes_rpp.representations import PseudoScalar, Rep, Scalar, T, Vector

__all__ = [
    "EMLP",
    "MLP",
    "RPPEMLP",
    "SL",
    "SO",
    "BayesianModel",
    "Categorical",
    "D",
    "EquivariantBasis",
    "Gaussian",
    "Group",
    "LogDensity",
    "NormalizedNetwork",
    "O",
    "O2eR3",
    "PathwayNormal",
    "PseudoScalar",
    "RPPLinear",
    "RPPPrior",
    "Rep",
    "S",
    "SO2eR3",
    "Scalar",
    "Standardizer",
    "T",
    "Trivial",
    "Vector",
    "Z",
    "equivariant_basis",
    "equivariant_maps",
    "parse_group",
    "parse_rep",
    "uniform_rep",
]
