"""The prior of one parameter as a function of the variances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.bases.equivariant import EquivariantBasis
from bayes_rpp.priors.pathway_normal import PathwayNormal


class Share(NamedTuple):
    """A variance of a parameter: that of a setting's entry, by its name, or 1 if there is none, over the fan-in, which
    is one number for all coordinates or one for each; or over 1 without scaling.
    """

    setting: str | None
    divisor: float | Float[Tensor, " coordinate"]

    @property
    def relative(self) -> Float[Tensor, " coordinate"] | None:
        """What the entry is multiplied by, for each coordinate; None if they share one divisor."""
        return 1 / self.divisor if isinstance(self.divisor, Tensor) else None


@dataclass(frozen=True)
class ParameterPrior:
    """The prior of one parameter as a function of the variances."""

    shape: tuple[int, ...]  # of the parameter
    dtype: torch.dtype
    dense: Share  # the variance everywhere
    bases: tuple[EquivariantBasis, ...] = ()  # of a collapsed parameter: the structured pathways
    pathways: tuple[Share, ...] = ()  # and their variances

    @property
    def settings(self) -> tuple[str, ...]:
        """The entries that the prior depends on."""
        shares = self.dense, *self.pathways
        return tuple(share.setting for share in shares if share.setting is not None)

    @property
    def varies(self) -> bool:
        """Whether the variances of its coordinates differ by their fan-ins."""
        return any(share.relative is not None for share in (self.dense, *self.pathways))

    def at(self, variances: Mapping[str, float | Float[Tensor, ""]]) -> PathwayNormal:
        """The prior at variances, by the entries' names; differentiable in those that are tensors."""
        tensors = [value for value in variances.values() if isinstance(value, Tensor)]
        device = tensors[0].device if tensors else None

        def variance(share: Share) -> Tensor:
            value = 1.0 if share.setting is None else variances[share.setting]
            value = value if isinstance(share.divisor, Tensor) else value / share.divisor
            if isinstance(value, Tensor):
                return value.to(self.dtype)
            return torch.tensor(value, dtype=self.dtype, device=device)

        pathways = [variance(share) for share in self.pathways]
        relative = [share.relative for share in self.pathways] if self.bases else [self.dense.relative]
        return PathwayNormal(self.shape, variance(self.dense), self.bases, pathways, relative, validate_args=False)
