"""Engines from data to a posterior."""

from inference.ensemble import DeepEnsemble
from inference.map import MAP
from inference.posterior import Posterior, Snapshot
from inference.predictive import Prediction
from inference.sghmc import SGHMC
from inference.sgld import SGLD

__all__ = ["MAP", "SGHMC", "SGLD", "DeepEnsemble", "Posterior", "Prediction", "Snapshot"]
