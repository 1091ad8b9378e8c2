"""Settings of soft actor-critic by name."""

from __future__ import annotations

from typing import Any, Literal

from bayes_rpp.rl.declarations import environment_symmetry

_SLOW_TARGETS = ("Walker2d", "Swimmer")  # tau 0.004 in place of 0.005, for RPP


def sac_settings(env_id: str, preset: Literal["default", "paper"] = "default") -> dict[str, Any]:
    """Arguments of ``stable_baselines3.SAC`` for an environment whose symmetry is declared.

    "default" has that library's settings. "paper" has those of Finzi, Benton & Wilson (2021), table 4: the rate tau of
    the target networks, Adam's betas (0.5, 0.999), and initial weights of the actor's last layer 100 times smaller.

    Raises
    ------
    ValueError
        If the preset is unknown, or no symmetry is declared for the environment.

    Examples
    --------
    >>> model = SAC(RPPSACPolicy, gymnasium.make("Walker2d-v5"), **sac_settings("Walker2d-v5", "paper"))
    """
    policy: dict[str, Any] = {"symmetry": environment_symmetry(env_id)}
    if preset == "default":
        return {"policy_kwargs": policy}
    if preset != "paper":
        raise ValueError(f"preset must be 'default' or 'paper', got {preset!r}.")
    policy |= {"last_scale": 0.01, "optimizer_kwargs": {"betas": (0.5, 0.999)}}
    return {"tau": 0.004 if env_id.startswith(_SLOW_TARGETS) else 0.005, "policy_kwargs": policy}
