"""Learning curves of soft actor-critic: RPP policies against Stable-Baselines3's MlpPolicy of the same widths.

Both have that library's settings. Every 2,000 steps the deterministic policy is run for five episodes. "Area" is the mean
of these returns over training.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from matplotlib.figure import Figure
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from tqdm import tqdm

sys.path.append(str(Path(__file__).parents[1]))

from recording.result_pages import rows_of
from recording.resumed_runs import Results, known, run_all

from analysis.plots.style import COLORS
from bayes_rpp.rl import RPPSACPolicy, environment_symmetry
from bayes_rpp.rl.rollout_data import replayed

ENVIRONMENTS: dict[str, dict[str, Any]] = {
    "Walker2d-v5": {},
    "Swimmer-v5": {},
    "Hopper-v5": {},
    "HalfCheetah-v5": {},
    "Ant-v5": {"include_cfrc_ext_in_observation": False},
    "Humanoid-v5": {
        f"include_{name}_in_observation": False for name in ("cinert", "cvel", "qfrc_actuator", "cfrc_ext")
    },
}
KINDS: dict[str, dict[str, Any] | None] = {  # arguments of the policy; None is the MlpPolicy
    "RPP": {},
    "RPP, plain critics": {"rpp_critic": False},
    "MLP": None,
}
EVERY, EPISODES = 2000, 5


class Curve(BaseCallback):
    """The return of the deterministic policy, now and then."""

    def __init__(self, env: gymnasium.Env, every: int, bar: tqdm) -> None:
        super().__init__()
        self.env, self.every, self.bar = env, every, bar
        self.steps: list[int] = []
        self.returns: list[float] = []

    def _on_step(self) -> bool:
        self.bar.update(self.num_timesteps - self.bar.n)
        if self.num_timesteps % self.every == 0:
            with torch.random.fork_rng():
                mean, _ = evaluate_policy(self.model, self.env, EPISODES, warn=False)
            self.steps.append(self.num_timesteps)
            self.returns.append(float(mean))
        return True


def keep_transitions(model: SAC, path: Path) -> None:
    """Keep what the run saw, for transition models (see ``bayes_rpp.rl.rollouts``)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **replayed(model.replay_buffer))


def file_of(env_id: str, kind: str, steps: str, trial: str) -> str:
    return f"{env_id}_{kind}_{steps}_{trial}.npz"


def run(env_id: str, kind: str, steps: str, trial: str, every: int, transitions: Path | None) -> dict[str, Any]:
    options, seed = ENVIRONMENTS[env_id], int(trial)
    env, evaluation = gymnasium.make(env_id, **options), gymnasium.make(env_id, **options)
    evaluation.reset(seed=1000 + seed)
    if (policy := KINDS[kind]) is None:
        model = SAC("MlpPolicy", env, seed=seed, device="cpu")
    else:
        policy_kwargs = {"symmetry": environment_symmetry(env_id), **policy}
        model = SAC(RPPSACPolicy, env, policy_kwargs=policy_kwargs, seed=seed, device="cpu")
    began = time.process_time()
    with tqdm(total=int(steps), desc=f"{env_id} {kind} {trial}", disable=not sys.stderr.isatty()) as bar:
        curve = Curve(evaluation, every, bar)
        model.learn(int(steps), callback=curve)
    if transitions is not None:
        keep_transitions(model, transitions / file_of(env_id, kind, steps, trial))
    return {
        "steps": curve.steps,
        "returns": curve.returns,
        "area": float(np.mean(curve.returns)),
        "last": float(np.mean(curve.returns[-3:])),
        "seconds": time.process_time() - began,
    }


def trials_of(results: Results, env_id: str, kind: str) -> list[dict[str, Any]]:
    """Those with the most steps."""
    steps = [int(key.split("/")[2]) for key in results if key.startswith(f"{env_id}/")]
    return [row for key, row in results.items() if key.startswith(f"{env_id}/{kind}/{max(steps, default=0)}/")]


def table(results: Results, kinds: Sequence[str]) -> str:
    """Of environments in which agents were trained, the first kind compared with the last."""
    rows, first, last = [], kinds[0], kinds[-1]
    for env_id in ENVIRONMENTS:
        found = {kind: trials_of(results, env_id, kind) for kind in kinds}
        if not any(found.values()):
            continue
        area = {kind: statistics.mean(row["area"] for row in trials) for kind, trials in found.items() if trials}
        compared = first in area and last in area and min(area[first], area[last]) > 0
        rows.append(
            (
                env_id,
                str(next(row["steps"][-1] for trials in found.values() for row in trials)),
                *(f"{area[kind]:.0f}" if kind in area else "" for kind in kinds),
                f"{area[first] / area[last]:.2f}" if compared else "",
                *(" ".join(f"{row['last']:.0f}" for row in found[kind]) for kind in kinds),
            )
        )
    areas, returns = ([f"{what}: {kind}" for kind in kinds] for what in ("area", "last returns"))
    return rows_of(("environment", "steps", *areas, f"{first} / {last}", *returns), rows)


def picture(results: Results, kinds: Sequence[str]) -> Figure:
    """Returns against steps: every run, and the mean of each kind."""
    drawn = [env_id for env_id in ENVIRONMENTS if any(trials_of(results, env_id, kind) for kind in kinds)]
    rows = -(-max(len(drawn), 1) // 3)
    made = Figure(figsize=(11, 3.2 * rows), layout="constrained")
    for env_id, axes in zip(drawn, made.subplots(rows, 3, squeeze=False).flat, strict=False):
        for color, kind in zip(COLORS, kinds, strict=False):
            if trials := trials_of(results, env_id, kind):
                for row in trials:
                    axes.plot(row["steps"], row["returns"], color=color, alpha=0.3, linewidth=1)
                axes.plot(trials[0]["steps"], np.mean([row["returns"] for row in trials], 0), color=color, label=kind)
        axes.set(title=env_id, xlabel="steps", ylabel="return")
        axes.legend(fontsize=8)
    for axes in made.axes[len(drawn) :]:
        axes.set_axis_off()
    return made


def run_cases(chosen: argparse.Namespace, kinds: Sequence[str]) -> Results:
    """The runs that the command line asks for, with those that were recorded."""
    torch.set_num_threads(1)
    steps, every = (400, 200) if chosen.quick else (chosen.steps, EVERY)
    cases = [
        (env_id, kind, str(steps), str(trial))
        for trial in range(chosen.trials)
        for env_id in ENVIRONMENTS
        if chosen.only in env_id
        for kind in kinds
    ]
    transitions = getattr(chosen, "transitions", None)
    recorded = known(chosen.out)
    for case in cases if transitions else []:
        if "/".join(case) in recorded and not (transitions / file_of(*case)).exists():
            print(f"{'/'.join(case)} is recorded, and is not run again for its transitions.", file=sys.stderr)
    settings = partial(run, every=every, transitions=transitions)
    return run_all(chosen.out, [] if chosen.report_only else cases, settings)
