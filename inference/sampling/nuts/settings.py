"""The settings of NUTS."""

from __future__ import annotations

from dataclasses import dataclass

from inference.curvature.names import MetricName
from inference.sampling.settings import ChainSettings
from inference.settings import require_integers


@dataclass(frozen=True, kw_only=True)
class NUTSSettings(ChainSettings):
    """See ``NUTS``."""

    metric: MetricName | None = None
    target_accept: float = 0.8
    max_tree_depth: int = 10
    dense_mass: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.target_accept < 1:
            raise ValueError(f"target_accept must lie between 0 and 1, got {self.target_accept}.")
        require_integers(self, max_tree_depth=1)
        if not isinstance(self.dense_mass, bool):
            raise ValueError(f"dense_mass must be True or False, got {self.dense_mass!r}.")
