"""Engines from data to a posterior."""

from inference.empirical_bayes.empirical_bayes import EmpiricalBayes
from inference.laplace.laplace import Laplace
from inference.laplace.posterior import LaplacePosterior
from inference.posterior.draws import Snapshot
from inference.posterior.posterior import Posterior
from inference.posterior.prediction import Prediction
from inference.sampling.hmc.hmc import HMC
from inference.sampling.nuts.nuts import NUTS
from inference.sampling.stochastic_gradient.schedules import Constant, Cyclical, Polynomial
from inference.sampling.stochastic_gradient.sghmc import SGHMC
from inference.sampling.stochastic_gradient.sgld import SGLD
from inference.training.augmentation import FlipsAndCrops
from inference.training.ensemble import DeepEnsemble
from inference.training.map import MAP
from inference.variational.pyro_guide import PyroGuide

__all__ = [
    "HMC",
    "MAP",
    "NUTS",
    "SGHMC",
    "SGLD",
    "Constant",
    "Cyclical",
    "DeepEnsemble",
    "EmpiricalBayes",
    "FlipsAndCrops",
    "Laplace",
    "LaplacePosterior",
    "Polynomial",
    "Posterior",
    "Prediction",
    "PyroGuide",
    "Snapshot",
]


def __dir__() -> list[str]:
    return __all__
