"""Data sets with a known, approximate or unknown symmetry."""

from bayes_rpp.datasets.double_pendulum import double_pendulum
from bayes_rpp.datasets.inertia import inertia
from bayes_rpp.datasets.regression_data import RegressionData, Split
from bayes_rpp.datasets.trajectories import TrajectoryData, trajectories

__all__ = ["RegressionData", "Split", "TrajectoryData", "double_pendulum", "inertia", "trajectories"]
