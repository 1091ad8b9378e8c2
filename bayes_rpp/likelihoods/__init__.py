"""Likelihoods: what the data are, given the network's output."""

from bayes_rpp.likelihoods.classification import Bernoulli, Categorical
from bayes_rpp.likelihoods.counts import Poisson
from bayes_rpp.likelihoods.gaussian import NOISE, Gaussian
from bayes_rpp.likelihoods.heavy_tailed import LaplaceNoise, StudentT
from bayes_rpp.likelihoods.heteroscedastic import HeteroscedasticGaussian
from bayes_rpp.likelihoods.likelihood import Likelihood

__all__ = [
    "NOISE",
    "Bernoulli",
    "Categorical",
    "Gaussian",
    "HeteroscedasticGaussian",
    "LaplaceNoise",
    "Likelihood",
    "Poisson",
    "StudentT",
]
