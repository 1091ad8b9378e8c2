"""The group elements at which a function is measured: a few for every point, or the same ones for all."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bayes_rpp import Group, Rep
from bayes_rpp.representations.rep import Element
from bayes_rpp.seeding import later_seed, seeded_generator
from inference.memory import even_slices

_BYTES_OF_A_BLOCK = 2**23  # of matrices; to draw them takes several times as much
_ROWS_AT_ONCE = 8_192
_ATTEMPTS = 60  # to find elements that move something


class GroupElements:
    """As many elements for each point, drawn independently, or the given ones, the same for every point.

    Parameters
    ----------
    group : the group.
    elements : how many for each point, or the elements, (element, d, d) or a tuple of such for a direct product.
    points : the number of points.
    seed : of the draws.
    moving : representations on all of which no drawn element may act as the identity: such ones are drawn anew.
    shared : draw the same elements for all points.

    Attributes
    ----------
    blocks : of points, whose elements are drawn together, each once; a large number of points has several, so that the
        elements of one block alone are in memory. The first has those of the seed itself, the others of seeds drawn
        from it.

    Raises
    ------
    ValueError
        If the number is below 1, the shape is wrong, or there seem to be no elements that move something.
    """

    def __init__(
        self,
        group: Group,
        elements: int | Element,
        points: int,
        seed: int,
        moving: tuple[Rep, ...] = (),
        shared: bool = False,
    ) -> None:
        self.group, self.moving, self.blocks = group, moving, [slice(0, points)]
        self._shared: Tensor | None = None
        if not isinstance(elements, int):
            self._shared = _given(group, elements)
            self.count = len(self._shared)
        elif elements < 1:
            raise ValueError(f"elements must be at least 1, got {elements}.")
        else:
            self.count = elements
            if shared:
                self._shared = self._draw(1, seed)
            else:
                self.blocks = even_slices(self.blocks[0], _BYTES_OF_A_BLOCK // (8 * group.d**2 * elements))
        seeds = torch.randint(2**62, (len(self.blocks) - 1,), generator=seeded_generator(seed)).tolist()
        self._seeds = dict(zip((block.start for block in self.blocks), [seed, *seeds], strict=True))
        self._block, self._drawn = slice(0, 0), torch.empty(0)

    def at(self, points: slice) -> Float[Tensor, "element some d d"]:
        """The elements of some points of one block; of shared ones, (element, 1, d, d)."""
        if self._shared is not None:
            return self._shared
        if not self._block.start <= points.start < self._block.stop:
            self._block = next(block for block in self.blocks if block.start <= points.start < block.stop)
            self._drawn = torch.empty(0)  # at most one block is in memory
            self._drawn = self._draw(self._block.stop - self._block.start, self._seeds[self._block.start])
        return self._drawn[:, points.start - self._block.start : points.stop - self._block.start]

    def _draw(self, points: int, seed: int) -> Float[Tensor, "element points d d"]:
        drawn = self.group.join(self.group.sample(self.count * points, seed))
        if self.moving:
            drawn = _redraw_still(self.group, drawn, seed, self.moving)
        return drawn.unflatten(0, (self.count, points))


def _given(group: Group, elements: Element) -> Float[Tensor, "element 1 d d"]:
    given = group.join(elements) if isinstance(elements, tuple) else torch.as_tensor(elements)
    if given.ndim != 3 or given.shape[1:] != (group.d, group.d):
        raise ValueError(
            f"elements must be a number or have shape (element, {group.d}, {group.d}), got {tuple(given.shape)}."
        )
    return given[:, None]


def _redraw_still(group: Group, drawn: Float[Tensor, "element d d"], seed: int, reps: tuple[Rep, ...]) -> Tensor:
    for attempt in range(_ATTEMPTS):
        still = torch.cat([_acts_trivially(some, reps) for some in drawn.split(_ROWS_AT_ONCE)])
        if not still.any():
            return drawn
        anew = group.join(group.sample(len(drawn), later_seed(seed, attempt + 1)))
        drawn = torch.where(still[:, None, None], anew, drawn)
    raise ValueError(
        f"the elements of {group} that were sampled act as the identity on {' and on '.join(map(str, reps))}: there is "
        "nothing to be equivariant to."
    )


def _acts_trivially(g: Float[Tensor, "element d d"], reps: tuple[Rep, ...]) -> Bool[Tensor, " element"]:
    """Whether elements move no vector of any representation, by what they do to one generic vector."""
    still = torch.ones(len(g), dtype=torch.bool)
    for rep in reps:
        generic = torch.arange(1.0, rep.size + 1, dtype=torch.float64).sin()
        still &= (rep.apply(g, generic) - generic).abs().amax(-1) < 1e-9
    return still
