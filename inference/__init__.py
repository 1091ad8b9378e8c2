"""Engines from data to a posterior."""

from inference.ensemble import DeepEnsemble
from inference.map import MAP
from inference.posterior import Posterior, Snapshot
from inference.predictive import Prediction

__all__ = ["MAP", "DeepEnsemble", "Posterior", "Prediction", "Snapshot"]
