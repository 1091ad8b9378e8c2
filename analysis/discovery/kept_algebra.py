"""What ``kept_symmetry`` finds: a Lie algebra, how sure it is, and what it is called."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
import xarray as xr
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from analysis.discovery.subalgebra import Subalgebra
from analysis.discovery.subalgebra_names import Known, recognise
from analysis.discovery.subspaces import principal_angles
from analysis.in_words import InWords
from bayes_rpp import Group

FEW_DRAWS = 8  # whose spread says little of what is kept
_TOO_UNSURE = 0.3  # of the local error of unrelated terms
_CLOSED = 1e-6  # what brackets of a Lie algebra leave by, for rounding


@dataclass(frozen=True, repr=False)
class KeptAlgebra(InWords):
    """The part of a Lie algebra that a posterior, or a function, keeps.

    Attributes
    ----------
    group : whose Lie algebra was searched.
    subalgebra : what is kept: the mean of the draws' subspaces.
    distances : (direction,), d_1 <= ... <= d_k: how many posterior standard deviations the mean Lie derivative is from
        0; of a function, its local errors.
    distances_along : (direction,), the same along each of ``along``.
    detectable : (direction,), the local error along each of ``along`` that would be told from 0: of a poor fit, it is
        large.
    share : of the draws that keep as many dimensions.
    along : (direction, d, d), orthonormal matrices: first those of ``subalgebra``, then the others.
    local_errors : (chain, draw, direction), or (direction) for a function: the local equivariance error along each, a
        ratio of norms over all points. See ``local_equivariance_error`` for the unit: one a radian for rotations.
    bases : (draw, k, r), orthonormal: the subspace of that dimension that each draw, or the function, keeps best.
    chance : the local error of a function of which the two terms of the Lie derivative have nothing to do with each
        other.
    inflation : by which the draws' spread was multiplied, since it is too small for their error on held-out data.
    """

    group: Group
    subalgebra: Subalgebra
    distances: xr.DataArray
    distances_along: xr.DataArray
    detectable: xr.DataArray
    share: float
    along: Float[Tensor, "direction d d"]
    local_errors: xr.DataArray
    bases: Float[Tensor, "draw k r"]
    chance: float
    inflation: float = 1.0

    @property
    def dimension(self) -> int:
        """Of what is kept."""
        return self.subalgebra.dimension

    @property
    def angles(self) -> xr.DataArray:
        """(chain, draw), how far each draw's subspace is from ``subalgebra``, in degrees: the root of the sum of
        squares of the principal angles.
        """
        angles = torch.rad2deg(principal_angles(self.bases, self.subalgebra.basis).norm(dim=-1))
        errors = self.local_errors
        return xr.DataArray(angles.reshape(errors.shape[:-1]).numpy(), dims=errors.dims[:-1])

    @cached_property
    def is_unsure(self) -> bool:
        """Whether draws break what is kept so much, by 0.3 of ``chance`` or more on average, that nothing is known."""
        kept = self.local_errors.values.reshape(-1, len(self.along))[:, : self.dimension]
        return bool(((kept**2).mean(0) ** 0.5 > _TOO_UNSURE * self.chance).any())

    @cached_property
    def closed(self) -> Subalgebra | None:
        """The nearest subspace that is closed under brackets; None if there is none within 45 degrees."""
        return self.subalgebra.closed()

    @cached_property
    def known(self) -> Known | None:
        """The algebra of a known name near it, exactly; None if there is none."""
        return recognise(self.closed or self.subalgebra)

    def as_group(self) -> Group:
        """The connected group of the known algebra, or of the closed one, for a model with this symmetry. Raises
        ValueError if nothing is kept, or no algebra is near.
        """
        found = self.known.algebra if self.known else self.closed
        if found is None or not found.dimension:
            raise ValueError("no group: " + ("nothing is kept." if found else "what is kept is near no Lie algebra."))
        return Group(lie_algebra=found.matrices, name=f"kept({self.group})")

    def radius(self, probability: float = 0.9) -> float:
        """How far from ``subalgebra`` what the truth keeps lies with this probability, in degrees; 0 if all is kept or
        nothing, else nan for a function.

        It is to the draws as they are to each other. Subspaces near each other differ by p = r (k - r) coordinates,
        taken as normal and alike in all directions, so that squared angles follow F(p, p (draws - 1)).
        """
        r, k = self.subalgebra.basis.shape[1], len(self.along)
        p, draws = r * (k - r), self.angles.size
        if p == 0:
            return 0.0
        if draws < 2:
            return math.nan
        variance = self.inflation**2 * float((self.angles**2).sum()) / (p * (draws - 1))
        radius = math.sqrt(p * variance * (1 + 1 / draws) * stats.f.ppf(probability, p, p * (draws - 1)))
        return min(radius, 90 * math.sqrt(min(r, k - r)))  # no subspaces are further apart

    def __str__(self) -> str:
        k, r, draws = len(self.along), self.dimension, self.angles.size
        words = f"It keeps {r} of the {k} directions of {self.group}"
        if self.angles.ndim:
            words += f", in {round(self.share * draws)} of {draws} draws"
        if r:
            words += f": {self._name()}"
        words += "."
        if self.angles.ndim and draws < FEW_DRAWS:
            words += f" From {draws} draws this is hardly known; fit ten or more."
        if self.is_unsure:
            words += " But the draws differ so much that this may be ignorance."
        if self.angles.ndim:
            words += f" {self._distances()}"
        return words

    def _name(self) -> str:
        known, radius = self.known, self.radius()
        if known is None:
            defect = self.subalgebra.bracket_defect
            name = "a Lie algebra without a name"
            name += f", which brackets leave by {defect:.2g}" if defect > _CLOSED else ""
        else:
            name = known.words
        return f"{name}, +- {radius:.2g} degrees (90 %)" if radius > 0 else name

    def _distances(self) -> str:
        r, distances = self.dimension, self.distances.values
        parts = [f"at most {distances[r - 1]:.2g} along these"] if r else []
        others = "the others" if r else "all directions"
        parts += [f"at least {distances[r]:.2g} along {others}"] if r < len(distances) else []
        words = f"In posterior standard deviations, the Lie derivative is from 0 {', '.join(parts)}."
        if r:
            words += f" Local errors below {float(self.detectable[:r].max()):.2g} along these are not told from 0."
        return words
