"""How many members are trained together: as many as memory takes."""

from __future__ import annotations

import logging

import numpy as np
import torch
from jaxtyping import Int

from inference.data import Model
from inference.memory import HeldMemory, free_memory
from inference.training.minibatches import Minibatches
from inference.training.parameter_stack import joint_stack
from inference.training.settings import TrainingSettings

logger = logging.getLogger(__name__)

_KEPT = 3  # numbers between steps for each weight: itself, and the two that Adam keeps
_MEASURED_FROM = 16  # times: what the members' weights take of the free memory, from where on the rest is measured
_SHARE = 0.8  # of the free memory that training may take


def members_at_once(
    settings: TrainingSettings, model: Model, seeds: list[int], minibatches: Minibatches, device: torch.device
) -> int:
    """All members, unless they would take more than four fifths of the memory that is free; at least one.

    Raises
    ------
    ValueError
        If a single member would take more than what is free.
    """
    free = free_memory(device)
    weights = _KEPT * sum(value.nbytes for value in model.initial_params(seeds[0]).values())
    if free is None or _MEASURED_FROM * weights * len(seeds) < free:
        return len(seeds)
    each = weights + bytes_of_a_step(settings, model, seeds[0], minibatches, device)
    if each > free:
        raise ValueError(
            f"training one member takes about {each:,} bytes on the {device.type}, and {free:,} are free: take a "
            "smaller batch_size, a smaller network, or another device."
        )
    at_once = max(1, min(len(seeds), int(_SHARE * free / each)))
    if at_once < len(seeds):
        logger.warning(
            "a member takes about %s bytes to train, and %s are free: %d of %d are trained at a time.",
            f"{each:,}", f"{free:,}", at_once, len(seeds),
        )  # fmt: skip
    return at_once


def bytes_of_a_step(
    settings: TrainingSettings, model: Model, seed: int, minibatches: Minibatches, device: torch.device
) -> int:
    """What the values and gradients of a member hold at their peak, for a batch of the largest size. What is held after
    each operation is linear in the rows, and follows from what two and three rows hold.
    """
    batch = minibatches.example()
    stack = joint_stack(model, [seed], len(minibatches.examples or ()), device, settings.bfloat16)

    def held(rows: int | None) -> Int[np.ndarray, " operation"]:
        part = None if batch is None else (batch[0][:1, :rows], batch[1][:1, :rows])
        with HeldMemory() as memory:
            stack.gradients(part)
        return np.array(memory.bytes)

    rows = 0 if batch is None else batch[0].shape[1]
    if rows <= 3:
        return int(held(None).max())
    two, three = held(2), held(3)
    if len(two) != len(three):  # other operations
        return int(held(None).max())
    return int((two + (rows - 2) * np.maximum(three - two, 0)).max())
