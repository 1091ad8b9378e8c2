"""Figure 5 of the RPP paper: soft actor-critic with and without residual pathways.

RPP policies and critics against Stable-Baselines3's MlpPolicy of the same widths, both with that library's settings, on
six MuJoCo environments. Every 2,000 steps the deterministic policy is run for five episodes. "Area" is the mean of
these returns over training. Each finished run is kept, so that the script resumes where it was stopped.

    python examples/paper/figure5_sac.py --steps 100000 --trials 2   # half an hour a run on one core
    python examples/paper/figure5_sac.py --only Walker2d --steps 20000 --transitions runs/transitions
    python examples/paper/figure5_sac.py --quick --out quick/figure5_sac.json  # two minutes: a few hundred steps
    python examples/paper/figure5_sac.py --report-only
"""

from __future__ import annotations

import statistics
import sys
import time
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

from recording.result_pages import RESULTS, captioned, figure, page, parser, publish, rows_of, trial_options
from recording.resumed_runs import Results, run_all

from analysis.plots.panels import COLORS
from bayes_rpp.rl import RPPSACPolicy, environment_symmetry

RECORD = RESULTS / "figure5_sac.json"
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
KINDS = ("RPP", "MLP")
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
    """Keep what the run saw, in its order, for transition models (see ``bayes_rpp.rl.rollouts``)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = model.replay_buffer
    assert buffer is not None
    names = ("observations", "actions", "next_observations", "dones")
    np.savez_compressed(path, **{name: getattr(buffer, name)[: buffer.size(), 0] for name in names})


def run(env_id: str, kind: str, steps: str, trial: str, every: int, transitions: Path | None) -> dict[str, Any]:
    options, seed = ENVIRONMENTS[env_id], int(trial)
    env, evaluation = gymnasium.make(env_id, **options), gymnasium.make(env_id, **options)
    evaluation.reset(seed=1000 + seed)
    if kind == "RPP":
        policy_kwargs = {"symmetry": environment_symmetry(env_id)}
        model = SAC(RPPSACPolicy, env, policy_kwargs=policy_kwargs, seed=seed, device="cpu")
    else:
        model = SAC("MlpPolicy", env, seed=seed, device="cpu")
    began = time.process_time()
    with tqdm(total=int(steps), desc=f"{env_id} {kind} {trial}", disable=not sys.stderr.isatty()) as bar:
        curve = Curve(evaluation, every, bar)
        model.learn(int(steps), callback=curve)
    if transitions is not None:
        keep_transitions(model, transitions / f"{env_id}_{kind}_{steps}_{trial}.npz")
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


def table(results: Results) -> str:
    rows = []
    for env_id in ENVIRONMENTS:
        found = {kind: trials_of(results, env_id, kind) for kind in KINDS}
        if all(found.values()):
            area = {kind: statistics.mean(row["area"] for row in trials) for kind, trials in found.items()}
            rows.append(
                (
                    env_id,
                    str(found["RPP"][0]["steps"][-1]),
                    *(f"{area[kind]:.0f}" for kind in KINDS),
                    f"{area['RPP'] / area['MLP']:.2f}" if min(area.values()) > 0 else "",
                    *(" ".join(f"{row['last']:.0f}" for row in found[kind]) for kind in KINDS),
                )
            )
    header = ("environment", "steps", "area, RPP", "area, MLP", "RPP / MLP", "last returns, RPP", "last returns, MLP")
    return rows_of(header, rows)


def picture(results: Results) -> Figure:
    """Returns against steps: every run, and the mean of each kind."""
    drawn = [env_id for env_id in ENVIRONMENTS if any(trials_of(results, env_id, kind) for kind in KINDS)]
    rows = -(-max(len(drawn), 1) // 3)
    made = Figure(figsize=(11, 3.2 * rows), layout="constrained")
    for env_id, axes in zip(drawn, made.subplots(rows, 3, squeeze=False).flat, strict=False):
        for color, kind in zip(COLORS, KINDS, strict=False):
            if trials := trials_of(results, env_id, kind):
                for row in trials:
                    axes.plot(row["steps"], row["returns"], color=color, alpha=0.3, linewidth=1)
                axes.plot(trials[0]["steps"], np.mean([row["returns"] for row in trials], 0), color=color, label=kind)
        axes.set(title=env_id, xlabel="steps", ylabel="return")
        axes.legend(fontsize=8)
    for axes in made.axes[len(drawn) :]:
        axes.set_axis_off()
    return made


def report(results: Results) -> str:
    caption = (
        "Soft actor-critic with residual pathways and without, in networks of two hidden layers of 256: the mean of the "
        "returns over training, and of the last three for each run. Symmetries are the defaults of environment_symmetry."
    )
    return page(
        __file__,
        "Soft actor-critic",
        figure("figure5_sac", "Returns against steps of RPP and MLP policies"),
        captioned(caption, table(results)),
    )


def main() -> None:
    options = parser(__doc__, RECORD)
    options.add_argument("--steps", type=int, default=100_000, help="of the environment (default: %(default)s)")
    options.add_argument("--only", default="", help="environments whose name holds this")
    options.add_argument("--transitions", type=Path, help="a folder for what the runs saw")
    chosen = trial_options(options, 2)
    torch.set_num_threads(1)
    steps, every = (400, 200) if chosen.quick else (chosen.steps, EVERY)
    cases = [
        (env_id, kind, str(steps), str(trial))
        for trial in range(chosen.trials)
        for env_id in ENVIRONMENTS
        if chosen.only in env_id
        for kind in KINDS
    ]
    results = run_all(
        chosen.out, [] if chosen.report_only else cases, partial(run, every=every, transitions=chosen.transitions)
    )
    publish(chosen.out, report(results), {"figure5_sac": picture(results)})


if __name__ == "__main__":
    main()
