"""Bayesian inference with Residual Pathway Priors: what a model is."""

from bayes_rpp.bases.equivariant import EquivariantBasis, equivariant_basis, equivariant_maps
from bayes_rpp.bases.structured_maps import banded_maps, block_diagonal_maps, entry_maps, low_frequency_maps
from bayes_rpp.bases.subgroup_chain import chain_basis, chain_maps
from bayes_rpp.bayesian_model import BayesianModel
from bayes_rpp.groups.cubes import Cube, RubiksCube
from bayes_rpp.groups.group import Group
from bayes_rpp.groups.named import O13, SL, SO, SO13, D, DkeR3, Lorentz, O, O2eR3, S, SO2eR3, SO13p, Sp, Trivial, Z
from bayes_rpp.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    HeteroscedasticGaussian,
    LaplaceNoise,
    Likelihood,
    Poisson,
    StudentT,
)
from bayes_rpp.log_density import LogDensity
from bayes_rpp.networks import (
    EMLP,
    MLP,
    RPPEMLP,
    HamiltonianRollout,
    InvariantLift,
    LiftedNetwork,
    ResidualSum,
    RPPConv2d,
    RPPConvNet,
    RPPLinear,
    TransitionRollout,
    uniform_rep,
)
from bayes_rpp.normalization import NormalizedNetwork, Standardizer
from bayes_rpp.notation import parse_group, parse_rep
from bayes_rpp.priors.pathway_normal import PathwayNormal
from bayes_rpp.priors.rpp_prior import RPPPrior
from bayes_rpp.representations.constructors import Irrep, Regular, irreps, matrix_rep
from bayes_rpp.representations.images import image_rep
from bayes_rpp.representations.rep import PseudoScalar, Rep, Scalar, T, Vector
from bayes_rpp.representations.restriction import restrict

__all__ = [
    "EMLP",
    "MLP",
    "O13",
    "RPPEMLP",
    "SL",
    "SO",
    "SO13",
    "BayesianModel",
    "Bernoulli",
    "Categorical",
    "Cube",
    "D",
    "DkeR3",
    "EquivariantBasis",
    "Gaussian",
    "Group",
    "HamiltonianRollout",
    "HeteroscedasticGaussian",
    "InvariantLift",
    "Irrep",
    "LaplaceNoise",
    "LiftedNetwork",
    "Likelihood",
    "LogDensity",
    "Lorentz",
    "NormalizedNetwork",
    "O",
    "O2eR3",
    "PathwayNormal",
    "Poisson",
    "PseudoScalar",
    "RPPConv2d",
    "RPPConvNet",
    "RPPLinear",
    "RPPPrior",
    "Regular",
    "Rep",
    "ResidualSum",
    "RubiksCube",
    "S",
    "SO2eR3",
    "SO13p",
    "Scalar",
    "Sp",
    "Standardizer",
    "StudentT",
    "T",
    "TransitionRollout",
    "Trivial",
    "Vector",
    "Z",
    "banded_maps",
    "block_diagonal_maps",
    "chain_basis",
    "chain_maps",
    "entry_maps",
    "equivariant_basis",
    "equivariant_maps",
    "image_rep",
    "irreps",
    "low_frequency_maps",
    "matrix_rep",
    "parse_group",
    "parse_rep",
    "restrict",
    "uniform_rep",
]

__version__ = "0.1.0"


def __dir__() -> list[str]:
    return __all__
