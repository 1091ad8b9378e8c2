"""Model-based reinforcement learning: a swimmer that plans with an ensemble of transition models.

After 200 random actions, an ensemble of three transition models is trained on all that was seen, and the next 200 steps
are taken by the first actions of plans (CrossEntropyPlanner) under it, and so on. The return of each 200 steps is what
is shown, for RPP and MLP ensembles. A swimmer's episode has 1,000 steps: returns of 200 are a fifth of what is usual.
Every finished run is kept, so that the script resumes where it was stopped.

    python examples/dynamics/planning_swimmer.py --trials 3  # an hour on one core
    python examples/dynamics/planning_swimmer.py --quick --out quick/planning_swimmer.json  # a minute: short, small
    python examples/dynamics/planning_swimmer.py --report-only
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure

sys.path.append(str(Path(__file__).parents[1]))

from recording.result_pages import RESULTS, captioned, figure, page, parser, publish, rows_of, trial_options
from recording.resumed_runs import Results, run_all
from torch import Tensor

from analysis.plots.style import COLORS
from bayes_rpp import (
    MLP,
    RPPEMLP,
    BayesianModel,
    LaplaceNoise,
    NormalizedNetwork,
    Regular,
    RPPPrior,
    TransitionRollout,
)
from bayes_rpp.rl import CrossEntropyPlanner, TransitionData, environment_symmetry, rollouts
from inference import DeepEnsemble, Posterior

RECORD = RESULTS / "planning_swimmer.json"
ENVIRONMENT = "Swimmer-v5"
KINDS = {"RPP": RPPEMLP, "MLP": MLP}
STEPS, FORWARD = 5, 3  # of the chunks to train on, and the place of the forward velocity among observations


class Size(NamedTuple):
    width: int
    passes: int
    between: int  # steps between two fits
    rounds: int
    candidates: int
    horizon: int


FULL, QUICK = Size(128, 2500, 200, 8, 100, 20), Size(16, 20, 40, 1, 20, 5)


def fitted(kind: str, data: TransitionData, seed: int, size: Size) -> Posterior:
    hidden = size.width // 2 * Regular
    change = KINDS[kind](data.rep_state + data.rep_action, data.rep_state, data.group, channels=hidden, layers=2)
    rollout = TransitionRollout(NormalizedNetwork.fit(change, *data.one_step), data.rep_action, data.steps)
    model = BayesianModel(rollout, RPPPrior(dense_variance=1e-2), LaplaceNoise(0.1, learned=True, per_output=True))
    epochs = -(-size.passes * 100 // len(data.train.x))
    return DeepEnsemble(members=3, epochs=epochs, batch_size=100, lr=3e-3).fit(model, data.train, seed=seed)


def velocity(state: Tensor, action: Tensor, after: Tensor) -> Float[Tensor, "*batch"]:
    """The forward velocity at the end of a step. The reward is its mean over the step, less a small cost of actions."""
    return after[..., FORWARD]


def run(kind: str, trial: str, size: Size) -> dict[str, Any]:
    env, seed, began = gymnasium.make(ENVIRONMENT), int(trial), time.process_time()
    env.action_space.seed(seed)
    low, high = torch.tensor(env.action_space.low), torch.tensor(env.action_space.high)
    seen: list[tuple[np.ndarray, ...]] = []
    returns: list[float] = []
    planner, plan = None, None
    for episode in range(size.rounds + 1):
        total, (state, _) = 0.0, env.reset(seed=1000 * seed + episode)
        for step in range(size.between):
            if planner is None:
                action = env.action_space.sample()
            else:
                start = None if plan is None else torch.cat([plan[1:], plan[-1:]])
                plan = planner.plan(torch.as_tensor(state, dtype=torch.float32), seed=step, start=start)
                action = plan[0].numpy()
            after, reward, *_ = env.step(action)
            seen.append((state, action, after, step == size.between - 1))
            state, total = after, total + float(reward)
        returns.append(total)
        if episode < size.rounds:
            names = ("observations", "actions", "next_observations", "dones")
            source = {name: np.array(part) for name, part in zip(names, zip(*seen, strict=True), strict=True)}
            chunks = (episode + 1) * (size.between - STEPS)
            symmetry = environment_symmetry(ENVIRONMENT)
            data = rollouts(source, symmetry, steps=STEPS, chunks=chunks, tests=0, seed=seed)
            rollout = partial(fitted(kind, data, seed, size).rollout, particles=3, noise=False)
            options = {"horizon": size.horizon, "candidates": size.candidates, "elites": 10, "iterations": 3}
            planner, plan = CrossEntropyPlanner(rollout, velocity, low, high, **options), None
    return {"returns": returns, "between": size.between, "seconds": time.process_time() - began}


def trials_of(results: Results, kind: str) -> list[dict[str, Any]]:
    return [row for key, row in results.items() if key.startswith(f"{kind}/")]


def table(results: Results) -> str:
    rows = []
    for kind in KINDS:
        if trials := trials_of(results, kind):
            returns = np.array([row["returns"] for row in trials])
            means = (f"{value:.1f}" for value in (returns[:, 0].mean(), returns[:, 1:].mean(), returns[:, -1].mean()))
            rows.append((kind, *means, str(returns[0, 1:].size * trials[0]["between"]), str(len(trials))))
    header = ("ensemble", "random actions", "mean return while planning", "last return", "planned steps", "trials")
    return rows_of(header, rows)


def picture(results: Results) -> Figure:
    """Returns against steps: every trial, and the mean of each kind."""
    made = Figure(figsize=(5, 3.2), layout="constrained")
    axes = made.subplots()
    for color, kind in zip(COLORS, KINDS, strict=False):
        if trials := trials_of(results, kind):
            returns = np.array([row["returns"] for row in trials])
            steps = trials[0]["between"] * np.arange(1, returns.shape[1] + 1)
            axes.plot(steps, returns.T, color=color, alpha=0.3, linewidth=1)
            axes.plot(steps, returns.mean(0), color=color, label=kind)
    axes.set(xlabel="steps of the environment", ylabel="return of 200 steps")
    axes.legend(fontsize=8)
    return made


def report(results: Results) -> str:
    caption = (
        "Returns of 200 steps of a swimmer that plans with an ensemble of three transition models, trained anew on all "
        "that was seen after every 200 steps; the first 200 are random actions."
    )
    return page(
        __file__,
        "Planning with an ensemble",
        figure("planning_swimmer", "Returns against steps of planners with RPP and MLP ensembles"),
        captioned(caption, table(results)),
    )


def main() -> None:
    chosen = trial_options(parser(__doc__, RECORD), 3)
    torch.set_num_threads(1)
    cases = [(kind, str(trial)) for trial in range(chosen.trials) for kind in KINDS]
    settings = partial(run, size=QUICK if chosen.quick else FULL)
    results = run_all(chosen.out, [] if chosen.report_only else cases, settings)
    publish(chosen.out, report(results), {"planning_swimmer": picture(results)})


if __name__ == "__main__":
    main()
