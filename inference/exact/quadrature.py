r"""Integrals of a few logarithms of variances over a lattice that grows where the density is high.

    log int exp f(u) du  ~  log sum_k exp f(u_k) + sum_axis log h_axis

The trapezoidal rule: for a smooth density that dies out on both sides it converges faster than any power of the
spacing (Trefethen & Weideman, SIAM Review 2014).
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

Point = tuple[int, ...]
Heights = dict[Point, float]
LogDensity = Callable[[Float[Tensor, "point axis"]], Float[Tensor, " point"]]

_RANGE = (math.log(1e-16), math.log(1e12))  # of the logarithm of a variance
_UNIT = 1 / 64  # the finest spacing
_COARSE, _LAST = 256, math.floor((_RANGE[1] - _RANGE[0]) / _UNIT)  # in these units: the first spacing, the end
_CUT = 14.0  # nats below the highest point, where the lattice ends
_CLOSE = 1e-3  # nats, by which half the spacing may change the log integral
_LOST = 1e-3  # of the probability, that may lie at the ends of the range
_MARGIN = 0.1  # nats, on the largest ratio that the first proposals have
_BROAD = 32  # units, the spacing down to which every local maximum is followed
_PROPOSALS = 1000  # at least, to find that ratio


@dataclass(frozen=True)
class Lattice:
    """Points whose coordinates, in units of the finest spacing, are multiples of the strides.

    ``log_density`` is f, of rows of coordinates u, and ``heights`` has its values at the points where it is high. The
    ``peaks`` are its local maxima, high or not: on a finer lattice a lower one may be the higher.
    """

    log_density: LogDensity
    strides: Point
    heights: Heights
    peaks: tuple[Point, ...] = ()

    @property
    def points(self) -> Float[Tensor, "point axis"]:
        """The coordinates u."""
        return _RANGE[0] + _UNIT * torch.tensor(list(self.heights), dtype=torch.float64)

    @property
    def probabilities(self) -> Float[Tensor, " point"]:
        """The probabilities of the points, for expectations of smooth functions."""
        return torch.tensor(list(self.heights.values()), dtype=torch.float64).softmax(0)

    @property
    def log_integral(self) -> float:
        """log int exp f(u) du."""
        volume = sum(math.log(_UNIT * stride) for stride in self.strides)
        return float(torch.tensor(list(self.heights.values()), dtype=torch.float64).logsumexp(0)) + volume

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count axis"]:
        """Independent draws from the density, by rejection from its multilinear interpolation between the points."""
        strides, many, bound = torch.tensor(self.strides, dtype=torch.float64), max(count, _PROPOSALS), None
        kept = torch.empty(0, len(self.strides), dtype=torch.float64)
        positions = torch.tensor(list(self.heights), dtype=torch.float64)
        while len(kept) < count:
            corner = torch.multinomial(self.probabilities, many, replacement=True, generator=generator)
            hat, level = torch.rand(2, many, 2 * len(strides), generator=generator, dtype=torch.float64)
            proposals = positions[corner] + strides * (hat.unflatten(1, (-1, 2)).sum(-1) - 1)
            ratio = self.log_density(_RANGE[0] + _UNIT * proposals) - self._interpolated(proposals)
            bound = float(ratio.max()) + _MARGIN if bound is None else bound
            kept = torch.cat([kept, proposals[level[:, 0].log() < ratio - bound]])
        return _RANGE[0] + _UNIT * kept[:count]

    def _interpolated(self, positions: Float[Tensor, "count axis"]) -> Float[Tensor, " count"]:
        """The logarithm of the interpolation of exp f."""
        best = max(self.heights.values())
        strides = torch.tensor(self.strides, dtype=torch.float64)
        lower = (positions / strides).floor() * strides
        share = (positions - lower) / strides
        total = torch.zeros(len(positions), dtype=torch.float64)
        for step in itertools.product((0, 1), repeat=len(self.strides)):
            upper = torch.tensor(step, dtype=torch.float64)
            weight = torch.where(upper > 0, share, 1 - share).prod(1)
            corners = (lower + upper * strides).long().tolist()
            above = [self.heights.get(tuple(corner), -math.inf) - best for corner in corners]
            total = total + weight * torch.tensor(above, dtype=torch.float64).exp()
        return total.log() + best

    def filled(self, known: Heights, wanted: Iterable[Point]) -> Lattice:
        """Evaluate what is wanted, then all neighbours of what is high and of local maxima, until these are known."""
        here = {p: h for p, h in known.items() if not any(map(operator.mod, p, self.strides))}
        new, result = sorted(set(wanted) - here.keys()), self
        while new or result is self:
            if new:
                values = self.log_density(_RANGE[0] + _UNIT * torch.tensor(new, dtype=torch.float64))
                here.update(zip(new, values.tolist(), strict=True))
            best = max(here.values())
            high = {p: height for p, height in here.items() if height > best - _CUT}
            followed = here if min(self.strides) >= _BROAD else {}
            peaks = tuple(p for p, height in followed.items() if height > -math.inf and self._is_peak(p, here))
            result = replace(self, heights=high, peaks=peaks)
            new = sorted(self.around([*high, *peaks]) - here.keys())
        known.update(here)
        return result

    def _is_peak(self, point: Point, here: Heights) -> bool:
        """Whether no known neighbour along an axis is higher."""
        steps = [(axis, step) for axis, stride in enumerate(self.strides) for step in (-stride, stride)]
        beside = ((*point[:axis], point[axis] + step, *point[axis + 1 :]) for axis, step in steps)
        return all(here.get(other, -math.inf) <= here[point] for other in beside)

    def around(self, points: Iterable[Point]) -> set[Point]:
        """The points and their next neighbours, along and across the axes."""
        steps = list(itertools.product(*((-stride, 0, stride) for stride in self.strides)))
        found = {tuple(map(operator.add, point, step)) for point in points for step in steps}
        return {point for point in found if all(0 <= coordinate <= _LAST for coordinate in point)}


def integrate(log_density: LogDensity, names: Sequence[str]) -> Lattice:
    """The lattice that integrates a density; the spacing of an axis is halved as long as the integral changes.

    ``log_density`` is f, of rows of logarithms of variances, minus infinity where the density is 0. Raises ValueError,
    with the variance's name, if the density is too narrow for the finest spacing, or reaches beyond 1e-16 to 1e12.
    """
    known: Heights = {}
    axes, positions = len(names), range(0, _LAST + 1, _COARSE)
    lattice = Lattice(log_density, (_COARSE,) * axes, {}).filled(known, itertools.product(positions, repeat=axes))
    changed, settled = True, [False] * axes
    while changed:
        changed = False
        for axis in range(axes):
            settled[axis] = False
            while lattice.strides[axis] > 1 and not settled[axis]:
                strides = tuple(s // 2 if k == axis else s for k, s in enumerate(lattice.strides))
                finer = replace(lattice, strides=strides)
                finer = finer.filled(known, finer.around([*lattice.heights, *lattice.peaks]))
                settled[axis] = abs(finer.log_integral - lattice.log_integral) < _CLOSE
                if not settled[axis]:
                    lattice, changed = finer, True
    _check(lattice, names, settled)
    return lattice


def _check(lattice: Lattice, names: Sequence[str], settled: list[bool]) -> None:
    probabilities = dict(zip(lattice.heights, lattice.probabilities.tolist(), strict=True))
    for axis, name in enumerate(names):
        stride = lattice.strides[axis]
        lost = sum(p for point, p in probabilities.items() if not stride <= point[axis] <= _LAST - stride)
        if lost > _LOST:
            raise ValueError(
                f"the posterior of {name} reaches beyond {math.exp(_RANGE[0]):.1g} to {math.exp(_RANGE[1]):.1g}: "
                "rescale the data, or give it a hyperprior with lighter tails."
            )
        if not settled[axis]:
            raise ValueError(
                f"the posterior of {name} is narrower than the finest spacing, {_UNIT:.3g} in its logarithm, or ends "
                "too abruptly, as at the floor of a noise variance: give a number in its place, or lower the floor."
            )
