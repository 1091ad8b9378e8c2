"""Data sets with a known, approximate or unknown symmetry."""

from bayes_rpp.datasets.cifar import cifar10
from bayes_rpp.datasets.digits import digits
from bayes_rpp.datasets.double_pendulum import double_pendulum
from bayes_rpp.datasets.image_data import ImageData, LabelledImages
from bayes_rpp.datasets.inertia import inertia
from bayes_rpp.datasets.regression_data import RegressionData, RegressionTable, Split
from bayes_rpp.datasets.trajectories import TrajectoryData, trajectories
from bayes_rpp.datasets.uci import as_images, uci

__all__ = [
    "ImageData",
    "LabelledImages",
    "RegressionData",
    "RegressionTable",
    "Split",
    "TrajectoryData",
    "as_images",
    "cifar10",
    "digits",
    "double_pendulum",
    "inertia",
    "trajectories",
    "uci",
]
