"""Settings of gradient training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from inference.compilation import Compile, check_compile
from inference.settings import require_integers, require_positive
from inference.training.augmentation import Augmentation

Schedule = Literal["constant", "cosine"]


@dataclass(frozen=True)
class TrainingSettings:
    """The settings of every engine that trains by Adam, see ``DeepEnsemble``."""

    epochs: int = 500
    batch_size: int | None = 500
    lr: float = 3e-3
    schedule: Schedule = "cosine"
    snapshots: int = 0
    compile: Compile = "auto"
    augment: Augmentation | None = None
    bfloat16: bool = False

    def __post_init__(self) -> None:
        require_integers(self, epochs=1, snapshots=0)
        if self.batch_size is not None:
            require_integers(self, batch_size=1)
        require_positive("lr", self.lr)
        check_compile(self.compile)
        if not (self.augment is None or callable(self.augment)):
            raise TypeError(f"augment must be such as FlipsAndCrops(), or None, got {self.augment!r}.")
        if self.snapshots and self.snapshots >= self.epochs:
            raise ValueError(f"snapshots = {self.snapshots} must be fewer than epochs = {self.epochs}.")
        if self.schedule not in ("constant", "cosine"):
            raise ValueError(f"schedule must be 'constant' or 'cosine', got {self.schedule!r}.")

    def rate(self, share: float) -> float:
        """The learning rate after this share of the training."""
        return self.lr * cosine(share) if self.schedule == "cosine" else self.lr

    @property
    def snapshot_epochs(self) -> set[int]:
        """The epochs, evenly spread, before which to take a snapshot."""
        return {round(self.epochs * (k + 1) / (self.snapshots + 1)) for k in range(self.snapshots)}


def cosine(share: float) -> float:
    """Half a cosine, from one down to zero as ``share`` goes from zero to one."""
    return 0.5 * (1 + math.cos(math.pi * share))
