"""Data sets with a known, approximate or unknown symmetry."""

from bayes_rpp.datasets.inertia import RegressionData, Split, inertia

__all__ = ["RegressionData", "Split", "inertia"]
