"""Reinforcement learning: the symmetries of environments, declared and checked by their simulators, and policies."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bayes_rpp.rl.declarations import environment_symmetry
from bayes_rpp.rl.environment_symmetry import EnvironmentSymmetry, signed_permutation
from bayes_rpp.rl.features import QuaternionFeatures, RawFeatures
from bayes_rpp.rl.planner import CrossEntropyPlanner
from bayes_rpp.rl.rollout_data import TransitionData, rollouts
from bayes_rpp.rl.sac.presets import sac_settings
from bayes_rpp.rl.verification import SymmetryReport

if TYPE_CHECKING:
    from bayes_rpp.rl.sac.normalizer import SymmetricVecNormalize
    from bayes_rpp.rl.sac.policy import RPPSACPolicy

__all__ = [
    "CrossEntropyPlanner",
    "EnvironmentSymmetry",
    "QuaternionFeatures",
    "RPPSACPolicy",
    "RawFeatures",
    "SymmetricVecNormalize",
    "SymmetryReport",
    "TransitionData",
    "environment_symmetry",
    "rollouts",
    "sac_settings",
    "signed_permutation",
]


_NEED_STABLE_BASELINES = {"RPPSACPolicy": "policy", "SymmetricVecNormalize": "normalizer"}


def __getattr__(name: str) -> Any:
    """Import what needs Stable-Baselines3 when it is first used."""
    if name not in _NEED_STABLE_BASELINES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"bayes_rpp.rl.sac.{_NEED_STABLE_BASELINES[name]}"), name)
    except ModuleNotFoundError as error:
        raise ImportError(f"{name} needs {error.name}: pip install 'bayes_rpp[rl]'.") from error


def __dir__() -> list[str]:
    return __all__
