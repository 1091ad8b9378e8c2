"""A training step (forward, backward, Adam) of RPPConvNet against the sum of those of its convolutions alone and of its
dense layers alone, each with its prior, and the memory that it holds against that of the dense layers.

    python tests/benchmarks/image_step.py
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from record import keep
from side_by_side import median_seconds, ratio

from bayes_rpp import BayesianModel, Categorical, RPPConvNet, RPPPrior
from inference.memory import HeldMemory
from inference.training.parameter_stack import joint_stack

ROUNDS = 40
IMAGES = {  # image, channels, batch
    "2 x 4": ((1, 2, 4), [32, 32, 32], 100),
    "8 x 8": ((1, 8, 8), [16, 16], 200),
    "16 x 16": ((3, 16, 16), [8, 8], 200),
    "32 x 32": ((3, 32, 32), [4, 4], 50),
}


def measure(label: str, members: int = 1) -> dict[str, float]:
    """RPPConvNet's step over the sum of the steps of the convolutions and of the dense layers, each with its prior, and
    what it holds at its peak over what the dense layers' step holds.
    """
    image, channels, batch = IMAGES[label]
    functions: dict[str, Callable[[], object]] = {}
    held = {}
    for kind in ("rpp", "conv", "mlp"):
        net = RPPConvNet(image, 10, channels, kind)  # type: ignore[arg-type]
        stack = joint_stack(BayesianModel(net, RPPPrior(), Categorical()), list(range(members)), batch)
        data = torch.randn(members, batch, *image), torch.randint(10, (members, batch))
        functions[kind] = partial(stack.step, data, 1e-3)
        with HeldMemory() as memory:
            stack.gradients(data)
        held[kind] = max(memory.bytes)
    seconds = median_seconds(functions, ROUNDS)
    both = [conv + mlp for conv, mlp in zip(seconds["conv"], seconds["mlp"], strict=True)]
    label += f", {members} members" * (members > 1)
    numbers = {
        f"{label}, step": ratio(seconds | {"both": both}, "rpp", "both"),
        f"{label}, memory": held["rpp"] / held["mlp"],
    }
    for name, value in numbers.items():
        print(f"  {name} {value:.2f}x", flush=True)
    return numbers


def main() -> None:
    torch.set_num_threads(1)
    numbers: dict[str, float] = {}
    for label in IMAGES:
        numbers |= measure(label)
    keep("image_step", numbers | measure("8 x 8", 5))


if __name__ == "__main__":
    main()
