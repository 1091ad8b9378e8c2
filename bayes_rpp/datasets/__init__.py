"""Data sets with a known, approximate or unknown symmetry."""

from bayes_rpp.datasets.inertia import inertia
from bayes_rpp.datasets.regression_data import RegressionData, Split

__all__ = ["RegressionData", "Split", "inertia"]
