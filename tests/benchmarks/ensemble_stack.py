"""Training ten members as one stack against the same ten one after another, on the same threads."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

import torch
from record import keep
from side_by_side import median_seconds, ratio

from bayes_rpp import RPPEMLP, BayesianModel, Gaussian, RPPPrior
from bayes_rpp.datasets import inertia
from inference.training.parameter_stack import joint_stack

MEMBERS, BATCH, ROUNDS = 10, 100, 8
CHANNELS = (16, 32, 64, 128, 256, 384)


def one_after_another(single_steps: list[Callable[[], object]]) -> Callable[[], object]:
    def step() -> None:
        for single in single_steps:
            single()

    return step


def main() -> None:
    data, numbers = inertia(train=BATCH, test=1), {}
    print(f"{MEMBERS} members, batch {BATCH}, {torch.get_num_threads()} thread(s): a step of all, apart / stacked")
    for channels in CHANNELS:
        network = RPPEMLP(data.rep_in, data.rep_out, data.group, channels=channels)
        model = BayesianModel(network, RPPPrior(), Gaussian(0.2))
        x, y = (part.expand(MEMBERS, *part.shape) for part in data.train)
        singles = [partial(joint_stack(model, [member], BATCH).step, (x[:1], y[:1]), 1e-3) for member in range(MEMBERS)]
        stacked = partial(joint_stack(model, list(range(MEMBERS)), BATCH).step, (x, y), 1e-3)
        seconds = median_seconds({"apart": one_after_another(singles), "stacked": stacked}, ROUNDS)
        numbers[f"channels {channels}"] = ratio(seconds, "apart", "stacked")
        print(
            f"  channels {channels:3}: {numbers[f'channels {channels}']:.2f}x faster stacked "
            f"({1e3 * statistics.median(seconds['stacked']):.1f} ms a step)"
        )
    keep("ensemble_stack", numbers)


if __name__ == "__main__":
    main()
