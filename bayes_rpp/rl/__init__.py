"""Reinforcement learning: the symmetries of environments, declared and checked by their simulators."""

from bayes_rpp.rl.declarations import environment_symmetry
from bayes_rpp.rl.environment_symmetry import EnvironmentSymmetry, signed_permutation
from bayes_rpp.rl.features import QuaternionFeatures, RawFeatures
from bayes_rpp.rl.verification import SymmetryReport

__all__ = [
    "EnvironmentSymmetry",
    "QuaternionFeatures",
    "RawFeatures",
    "SymmetryReport",
    "environment_symmetry",
    "signed_permutation",
]


def __dir__() -> list[str]:
    return __all__
