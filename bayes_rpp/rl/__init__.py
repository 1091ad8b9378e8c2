"""Reinforcement learning: the symmetries of environments, declared and checked by their simulators, and policies."""

from typing import TYPE_CHECKING, Any

from bayes_rpp.rl.declarations import environment_symmetry
from bayes_rpp.rl.environment_symmetry import EnvironmentSymmetry, signed_permutation
from bayes_rpp.rl.features import QuaternionFeatures, RawFeatures
from bayes_rpp.rl.verification import SymmetryReport

if TYPE_CHECKING:
    from bayes_rpp.rl.sac.policy import RPPSACPolicy

__all__ = [
    "EnvironmentSymmetry",
    "QuaternionFeatures",
    "RPPSACPolicy",
    "RawFeatures",
    "SymmetryReport",
    "environment_symmetry",
    "signed_permutation",
]


def __getattr__(name: str) -> Any:
    """Import what needs Stable-Baselines3 when it is first used."""
    if name != "RPPSACPolicy":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from bayes_rpp.rl.sac.policy import RPPSACPolicy
    except ModuleNotFoundError as error:
        raise ImportError(f"{name} needs {error.name}: pip install 'bayes_rpp[rl]'.") from error
    return RPPSACPolicy


def __dir__() -> list[str]:
    return __all__
