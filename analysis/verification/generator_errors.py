"""A function at transformed points: how far each generator of a group is from being its symmetry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.symmetry.equivariance import Function
from bayes_rpp import Group, Rep

# How far to go along a Lie-algebra element of spectral norm 1: angles of rotations, no simple fractions of a turn, that
# leave no accidental symmetry; small steps of others, which soon leave f's domain. A coarse measurement uses the first.
_ANGLES, _RAPIDITIES = (1.0, 0.5, 2.0), (0.5, -0.5)

Images = Float[Tensor, "element batch m"]

ROWS_AT_ONCE = 8192  # for f: bounds memory, and costs no time compared with one call for all


@dataclass(frozen=True)
class Layout:
    """How data columns are to be read as a representation's coordinates: z_k = signs_k x_(order_k)."""

    rep: Rep
    order: Int[Tensor, " size"]
    signs: Float[Tensor, " size"]

    @staticmethod
    def plain(rep: Rep) -> Layout:
        """Columns as they are."""
        return Layout(rep, torch.arange(rep.size), torch.ones(rep.size, dtype=torch.float64))

    def transform(
        self, g: Float[Tensor, "*batch d d"], x: Float[Tensor, "*batch size"]
    ) -> Float[Tensor, "*batch size"]:
        """Act on data columns."""
        signs = self.signs.to(x)
        moved = self.rep.apply(g, x[..., self.order] * signs) * signs
        return moved[..., self.order.argsort()]

    def transposed_matrices(self, elements: Float[Tensor, "element d d"]) -> Float[Tensor, "element size size"]:
        """The transposes of the matrices by which elements act on data columns."""
        return self.transform(elements[:, None], torch.eye(self.rep.size, dtype=torch.float64))


@dataclass(frozen=True)
class SampledFunction:
    """A function, points x with the values y there, and the group elements to compare at."""

    f: Function
    x: Float[Tensor, "batch n"]
    y: Float[Tensor, "batch m"]
    elements: Float[Tensor, "element d d"]
    owner: Int[Tensor, " element"]  # the generator to which each element belongs

    @property
    def rounding(self) -> float:
        """An error that rounding may cause: the square root of the machine epsilon, half of all digits."""
        return max(torch.finfo(part.dtype).eps for part in (self.x, self.y)) ** 0.5

    def images(self, inputs: Sequence[Layout]) -> list[Images]:
        """f(rho_in(g) x), for several layouts of the input in one go."""
        moved = [layout.transform(self.elements[:, None], self.x).flatten(0, 1) for layout in inputs]
        values = torch.cat([self.f(rows) for rows in torch.cat(moved).split(ROWS_AT_ONCE)])
        return list(values.reshape(len(inputs), len(self.elements), *self.y.shape).unbind())

    def errors(self, output: Layout, images: Images) -> Float[Tensor, " generator"]:
        """The mean of ||a - b|| / (||a|| + ||b||) for each generator, with a = rho_out(g) f(x), b = f(rho_in(g) x)."""
        return self._by_generator(relative_distance(self._transformed(output), images).mean(-1))

    def chance(self, output: Layout, images: Images) -> Float[Tensor, " generator"]:
        """The error if each point's a were compared with another point's b."""
        return self._by_generator(relative_distance(self._transformed(output), images.roll(1, dims=1)).mean(-1))

    def column_errors(self, output: Layout, images: Images) -> Float[Tensor, "generator m"]:
        """rms(a_k - b_k) / (rms(a_k) + rms(b_k)) of each output column k, and 1 where f is not finite."""
        a = self._transformed(output)
        difference, left, right = (
            self._by_generator(v.double().square().mean(1)).sqrt() for v in (a - images, a, images)
        )
        return (difference / (left + right).clamp_min(torch.finfo(torch.float64).tiny)).nan_to_num(nan=1.0)

    def coarse(self, points: int) -> SampledFunction:
        """Fewer points, and the first element alone of each generator."""
        is_first = torch.cat([self.owner.new_ones(1), self.owner.diff()]).bool()
        return replace(
            self, x=self.x[:points], y=self.y[:points], elements=self.elements[is_first], owner=self.owner[is_first]
        )

    def _transformed(self, output: Layout) -> Images:
        """rho_out(g) f(x)."""
        return output.transform(self.elements[:, None], self.y)

    def _by_generator(self, values: Float[Tensor, "element *rest"]) -> Float[Tensor, "generator *rest"]:
        """The mean over each generator's elements."""
        counts = self.owner.bincount()
        sums = values.new_zeros(len(counts), *values.shape[1:]).index_add(0, self.owner, values)
        return sums / counts.reshape(-1, *[1] * (values.ndim - 1))


def relative_distance(a: Float[Tensor, "*batch m"], b: Float[Tensor, "*batch m"]) -> Float[Tensor, "*batch"]:
    """||a - b|| / (||a|| + ||b||), and 1 where it is undefined because f is not finite."""
    a, b = a.double(), b.double()
    size = (a.norm(dim=-1) + b.norm(dim=-1)).clamp_min(torch.finfo(torch.float64).tiny)
    return ((a - b).norm(dim=-1) / size).nan_to_num(nan=1.0, posinf=1.0)


def elements_to_try(group: Group) -> tuple[Float[Tensor, "element d d"], Int[Tensor, " element"]]:
    """Elements of the one-parameter subgroups, then the discrete generators; and the generator of each, in order."""
    found = [*map(_one_parameter_subgroup, group.lie_algebra), *(g[None] for g in group.generators)]
    if not found:
        raise ValueError(f"{group} has no generators, so there is no symmetry to verify.")
    counts = torch.tensor([len(part) for part in found])
    return torch.cat(found), torch.arange(len(found)).repeat_interleave(counts)


def _one_parameter_subgroup(a: Float[Tensor, "d d"]) -> Float[Tensor, "element d d"]:
    """Exp(t a / ||a||) for a few t."""
    times = torch.tensor(_ANGLES if torch.allclose(a.T, -a) else _RAPIDITIES, dtype=a.dtype)
    size = torch.linalg.matrix_norm(a, 2).clamp_min(torch.finfo(a.dtype).tiny)
    return torch.linalg.matrix_exp(times[:, None, None] * a / size)
