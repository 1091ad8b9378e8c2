"""Types that all packages share."""

from __future__ import annotations

from torch import Tensor

Params = dict[str, Tensor]
