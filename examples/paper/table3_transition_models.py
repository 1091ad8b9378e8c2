"""Table 3 of the RPP paper: transition models learned from what an agent saw, RPP against MLP.

Networks x_{t+1} = x_t + f(x_t, u_t), two hidden layers of 256, trained on chunks of 10 steps of the replay buffer of one
soft actor-critic with an MlpPolicy (see figure5_sac.py), and tested on trajectories of 100 steps that share no state
with a chunk. The dense variance of RPP is the one with the least error on chunks that are left out of the training data.
Every finished ensemble is kept, so that the script resumes where it was stopped.

    python examples/paper/figure5_sac.py --steps 20000 --only Hopper --trials 1 --transitions runs/transitions  # and so on
    python examples/paper/table3_transition_models.py --transitions runs/transitions  # an hour on one core
    python examples/paper/table3_transition_models.py --quick --out quick/table3.json  # two minutes: random actions
    python examples/paper/table3_transition_models.py --report-only
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1]))

from learning_curves import ENVIRONMENTS, file_of
from recording.result_pages import RESULTS, captioned, page, parser, publish, rows_of, trial_options
from recording.resumed_runs import Results, known, run_all

from analysis import equivariance_error
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
from bayes_rpp.rl import EnvironmentSymmetry, TransitionData, environment_symmetry, rollouts
from inference import DeepEnsemble, Posterior

RECORD = RESULTS / "table3_transition_models.json"
NAMES = ("Swimmer-v5", "Hopper-v5", "Ant-v5")
PAPER = {
    "Swimmer-v5": {"RPP": (0.40, 1.26, 2.75), "MLP": (0.51, 1.6, 3.9)},
    "Hopper-v5": {"RPP": (0.9, 3.1, 7.0), "MLP": (1.1, 3.8, 9.8)},
    "Ant-v5": {"RPP": (5.2, 13.9, 20.0), "MLP": (4.2, 11.3, 16.0)},
}
TIMES = (10, 30, 100)
STEPS = "20000"  # of the agent's training
DENSE = (1e-2, 1e-1, 1.0)  # variances to choose from
TUNING, TUNING_SEED = "tuning", "100"


class Size(NamedTuple):
    width: int
    members: int
    epochs: int
    chunks: int
    tests: int


FULL, QUICK = Size(256, 2, 80, 8000, 50), Size(16, 2, 2, 100, 2)


def random_transitions(env_id: str, steps: int) -> dict[str, np.ndarray]:
    """What random actions lead to."""
    env, seen = gymnasium.make(env_id, **ENVIRONMENTS[env_id]), []
    state, _ = env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(steps):
        action = 0.2 * env.action_space.sample()
        following, _, terminated, truncated, _ = env.step(action)
        seen.append((state, action, following, terminated or truncated))
        state = env.reset()[0] if seen[-1][3] else following
    names = ("observations", "actions", "next_observations", "dones")
    return {name: np.array(part) for name, part in zip(names, zip(*seen, strict=True), strict=True)}


def data_of(
    env_id: str, symmetry: EnvironmentSymmetry, seed: int, size: Size, transitions: Path | None
) -> TransitionData:
    """Chunks for a seed, with tests that are the same for all seeds and share no state with any chunk; for tuning, tests
    are chunks of their own among what is left.
    """
    if transitions is None:
        source, length = random_transitions(env_id, 1500), 30
    else:
        path = transitions / file_of(env_id, "MLP", STEPS, "0")
        if not path.exists():
            raise SystemExit(f"there is no {path}: see the first command of --help.")
        source, length = dict(np.load(path)), max(TIMES)
    tested = rollouts(source, symmetry, chunks=1, test_steps=length, tests=size.tests)
    tuning = {"test_steps": 10, "tests": 4 * size.tests} if seed == int(TUNING_SEED) else {"tests": 0}
    rest = without(source, states_of(*tested.test, tested.rep_state.size), symmetry)
    data = rollouts(rest, symmetry, chunks=size.chunks, seed=seed, **tuning)
    return data if seed == int(TUNING_SEED) else replace(data, test=tested.test, test_steps=length)


def states_of(x: Float[Tensor, "chunk size_in"], y: Float[Tensor, "chunk size_out"], n: int) -> set[bytes]:
    """All states of chunks."""
    return {state.numpy().tobytes() for state in torch.cat([x[:, :n], y.reshape(-1, n)])}


def without(source: dict[str, np.ndarray], taken: set[bytes], symmetry: EnvironmentSymmetry) -> dict[str, np.ndarray]:
    """The transitions that neither begin nor end in one of these states. Where some are missing, the rest does not go
    on, and no chunk runs over the gap.
    """
    before, after = (
        symmetry.features.of(torch.as_tensor(source[name], dtype=torch.float64)).float()
        for name in ("observations", "next_observations")
    )
    free = [taken.isdisjoint(state.numpy().tobytes() for state in ends) for ends in zip(before, after, strict=True)]
    return {name: part[free] for name, part in source.items()}


def fitted(kind: str, data: TransitionData, dense: float, seed: int, size: Size) -> Posterior:
    hidden = size.width // data.group.order * Regular
    network = {"RPP": RPPEMLP, "MLP": MLP}[kind]
    change = network(data.rep_state + data.rep_action, data.rep_state, data.group, channels=hidden, layers=2)
    rollout = TransitionRollout(NormalizedNetwork.fit(change, *data.one_step), data.rep_action, data.steps)
    noise = LaplaceNoise(0.1, learned=True, per_output=True)
    model = BayesianModel(rollout, RPPPrior(dense_variance=dense), noise)
    engine = DeepEnsemble(members=size.members, epochs=size.epochs, batch_size=200, lr=3e-3, compile=size is FULL)
    return engine.fit(model, data.train, seed=seed)


def relative_error(a: Float[Tensor, "*batch n"], b: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    return (a - b).norm(dim=-1) / (a.norm(dim=-1) + b.norm(dim=-1))


def geometric_means(errors: Float[Tensor, "*batch time"]) -> list[float]:
    """Over the first steps, in per cent."""
    return [100 * float(errors[..., :time].clamp_min(1e-12).log().mean().exp()) for time in TIMES]


def run(env_id: str, kind: str, *which: str, size: Size, transitions: Path | None, out: Path) -> dict[str, Any]:
    """An ensemble of a seed, or one network of one of the variances to choose from."""
    symmetry, (*variance, seed) = environment_symmetry(env_id), which
    if kind == TUNING:
        size, dense = size._replace(members=1), float(variance[0])
    else:
        dense = chosen_variance(known(out), env_id)
    data, began = data_of(env_id, symmetry, int(seed), size, transitions), time.process_time()
    posterior = fitted("MLP" if kind == "MLP" else "RPP", data, dense, int(seed), size)
    seconds = time.process_time() - began
    state, actions = data.parts(data.test.x)
    true = data.test.y.unflatten(1, (*actions.shape[1:2], -1))
    paths = posterior.rollout(state, actions, particles=size.members, noise=False)[:, :, 1:]
    particles = posterior.rollout(state, actions[:, : data.steps], particles=200, seed=1)[:, :, -1]
    low, high = particles.quantile(torch.tensor([0.05, 0.95]), dim=0)
    last = data.first(data.test, data.steps).y[:, -state.shape[1] :]
    return {
        "one network": geometric_means(relative_error(paths, true)),
        "ensemble": geometric_means(relative_error(paths.mean(0), true)),
        "nothing moves": geometric_means(relative_error(state[:, None].expand_as(true), true)),
        "coverage": float(((last >= low) & (last <= high)).float().mean()),
        "equivariance_error": float(equivariance_error(posterior, data.first(data.test, data.steps).x).median()),
        "dense_variance": None if kind == "MLP" else dense,
        "seconds": seconds,
    }


def chosen_variance(results: Results, env_id: str) -> float:
    errors = {d: results.get(f"{env_id}/{TUNING}/{d}/{TUNING_SEED}") for d in DENSE}
    found = {dense: row["one network"][0] for dense, row in errors.items() if row}
    return min(found, key=found.__getitem__) if found else DENSE[0]


def trials_of(results: Results, env_id: str, kind: str) -> list[dict[str, Any]]:
    return [row for key, row in results.items() if key.startswith(f"{env_id}/{kind}/")]


def table(results: Results) -> str:
    rows = []
    for env_id in NAMES:
        for kind in ("RPP", "MLP"):
            if trials := trials_of(results, env_id, kind):
                errors = {
                    how: np.exp(np.log([row[how] for row in trials]).mean(0)) for how in ("one network", "ensemble")
                }
                rows.append(
                    (
                        env_id,
                        kind,
                        " / ".join(f"{value:.3g}" for value in errors["one network"]),
                        " / ".join(f"{value:.3g}" for value in errors["ensemble"]),
                        " / ".join(f"{value:g}" for value in PAPER[env_id][kind]),
                        f"{100 * np.mean([row['coverage'] for row in trials]):.0f} %",
                        f"{np.mean([row['equivariance_error'] for row in trials]):.2g}",
                        f"{trials[0]['dense_variance']:g}" if kind == "RPP" else "",
                        str(len(trials)),
                    )
                )
        if trials:
            still = " / ".join(f"{value:.3g}" for value in trials[0]["nothing moves"])
            rows.append((env_id, "nothing moves", still, "", "", "", "", "", ""))
    header = (
        "environment",
        "network",
        "one network: 10 / 30 / 100 steps",
        "ensemble",
        "paper",
        "90 % band",
        "equivariance error",
        "dense variance",
        "seeds",
    )
    return rows_of(header, rows)


def ratios(results: Results) -> str:
    """Errors of RPP over those of the MLP, of the same seeds."""
    found = []
    for env_id in NAMES:
        pairs = [
            np.log(np.array(results[f"{env_id}/RPP/{seed}"]["one network"]) / mlp["one network"])
            for seed in range(len(trials_of(results, env_id, "MLP")))
            if (mlp := results[f"{env_id}/MLP/{seed}"]) and f"{env_id}/RPP/{seed}" in results
        ]
        if pairs:
            found.append(f"{env_id} " + " / ".join(f"{value:.2f}" for value in np.exp(np.mean(pairs, axis=0))))
    return "; ".join(found)


def report(results: Results) -> str:
    caption = (
        "Relative errors ||a - b|| / (||a|| + ||b||) of states (rotation matrices in place of quaternions) in per cent, "
        "geometric means over 50 test trajectories and the first 10, 30 and 100 steps; of one network, and of the mean of "
        f"an ensemble. The data are from the first {int(STEPS):,} steps of one agent; seeds are those of chunks and "
        "weights, on the same tests. The paper's are of its own agents. The MLP has the default variance, 1. Bands are "
        "from 5 to 95 % of 200 particles after 10 steps: they should hold 90 % of the test data. Errors of one RPP "
        f"network over those of the MLP: {ratios(results)}."
    )
    return page(__file__, "Transition models", captioned(caption, table(results)))


def main() -> None:
    options = parser(__doc__, RECORD)
    options.add_argument("--only", default="", help="environments whose name holds this")
    options.add_argument("--transitions", type=Path, help="the folder that figure5_sac.py was given")
    chosen = trial_options(options, 3)
    if not (chosen.quick or chosen.report_only or chosen.transitions):
        options.error("--transitions is needed: the folder that figure5_sac.py was given")
    size = QUICK if chosen.quick else FULL
    names = [name for name in NAMES if chosen.only in name]
    tuning = [(name, TUNING, str(dense), TUNING_SEED) for name in names for dense in DENSE if size is FULL]
    seeds = [(name, kind, str(trial)) for trial in range(chosen.trials) for name in names for kind in ("RPP", "MLP")]
    settings = partial(run, size=size, transitions=None if chosen.quick else chosen.transitions, out=chosen.out)
    results = run_all(chosen.out, [] if chosen.report_only else tuning + seeds, settings)
    publish(chosen.out, report(results))


if __name__ == "__main__":
    main()
