"""Pyro guides that several tests use."""

from __future__ import annotations

import functools

from pyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoIAFNormal,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
)

from inference import PyroGuide

QUICK = PyroGuide(AutoNormal, steps=4, draws=5)


AUTOMATIC = [
    AutoNormal,
    AutoDiagonalNormal,
    AutoMultivariateNormal,
    functools.partial(AutoLowRankMultivariateNormal, rank=2),
    functools.partial(AutoIAFNormal, hidden_dim=[40]),
    AutoDelta,
]
