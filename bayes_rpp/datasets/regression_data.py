"""A regression problem with its representations and its group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from bayes_rpp.groups.named import Group
from bayes_rpp.representations.rep import Rep


class Split(NamedTuple):
    """Inputs and outputs."""

    x: Float[Tensor, "batch size_in"]
    y: Float[Tensor, "batch size_out"]


@dataclass(frozen=True)
class RegressionTable:
    """Examples to train on and to test on, with their representations.

    Attributes
    ----------
    train, test : (x, y).
    rep_in, rep_out, group : the representations, bound to the group.
    """

    train: Split
    test: Split
    rep_in: Rep
    rep_out: Rep
    group: Group


@dataclass(frozen=True)
class RegressionData(RegressionTable):
    """A regression problem whose true function is known, with a symmetry that may hold only roughly.

    Attributes
    ----------
    function : what generated y from x.
    """

    function: Callable[[Float[Tensor, "batch size_in"]], Float[Tensor, "batch size_out"]]
