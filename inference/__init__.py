"""Engines from data to a posterior."""

from inference.empirical_bayes import EmpiricalBayes
from inference.ensemble import DeepEnsemble
from inference.hmc import HMC
from inference.laplace import Laplace
from inference.laplace_posterior import LaplacePosterior
from inference.map import MAP
from inference.nuts import NUTS
from inference.posterior import Posterior, Snapshot
from inference.predictive import Prediction
from inference.pyro_guide import PyroGuide
from inference.sghmc import SGHMC
from inference.sgld import SGLD

__all__ = [
    "HMC",
    "MAP",
    "NUTS",
    "SGHMC",
    "SGLD",
    "DeepEnsemble",
    "EmpiricalBayes",
    "Laplace",
    "LaplacePosterior",
    "Posterior",
    "Prediction",
    "PyroGuide",
    "Snapshot",
]
