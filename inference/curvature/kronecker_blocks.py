"""The curvature K of one effective weight in its eigenbasis, and what the evidence needs of it: log det(I + Sigma K).

Sigma = v_b I + sum_k v_k Q_k Q_k^T is the prior's covariance. Both kinds are differentiable in the variances.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from jaxtyping import Float
from pyro.distributions import Distribution
from torch import Tensor

from inference.curvature.log_determinant import log_determinant

Priors = Mapping[str, Distribution]


class CurvatureBlock(Protocol):
    """The curvature of one parameter, or of several that add up to one effective weight."""

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters."""

    def scaled(self, factor: float | Tensor) -> CurvatureBlock:
        """That of factor x K."""

    def log_determinant(self, priors: Priors) -> Float[Tensor, ""]:
        """log det(I + Sigma K) under priors of the parameters, by name."""


@dataclass(frozen=True)
class SpectralBlock:
    r"""K with its eigenvalues, and the structured bases in its eigenbasis.

        log det(I + Sigma K) = log det(I + v_b K) + log det(I + V^(1/2) Q^T K (I + v_b K)^-1 Q V^(1/2))

    Attributes
    ----------
    eigenvalues : of K, (size,).
    rows : names of structured coordinates -> the basis Q_k in the eigenbasis of K, (rank, size).
    whole : the name of the parameter that has all coordinates, dense or collapsed; None in an equivariant layer.
    """

    eigenvalues: Float[Tensor, " size"]
    rows: dict[str, Float[Tensor, "rank size"]]
    whole: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """See CurvatureBlock; a collapsed parameter has no coordinates of its own."""
        return (*self.rows, *([] if self.whole is None else [self.whole]))

    def scaled(self, factor: float | Tensor) -> SpectralBlock:
        """See CurvatureBlock."""
        return replace(self, eigenvalues=self.eigenvalues * factor)

    def log_determinant(self, priors: Priors) -> Float[Tensor, ""]:
        """See CurvatureBlock."""
        dense, broad = pathway_variances(priors, self.whole, list(self.rows), self.eigenvalues)
        stretch = 1 + dense * self.eigenvalues
        result = stretch.log().sum()
        if not self.rows:
            return result
        rows = torch.cat(list(self.rows.values()))
        roots = torch.cat([v.sqrt().expand(len(own)) for v, own in zip(broad, self.rows.values(), strict=True)])
        # The variances outside of the product: rows have no gradient, which halves the way back.
        inside = roots[:, None] * ((rows * (self.eigenvalues / stretch)) @ rows.mT) * roots
        return result + log_determinant(inside + torch.eye(len(inside)).to(inside))


@dataclass(frozen=True)
class CommutingBlock:
    r"""A K that commutes with the projectors on the pathways, which are orthogonal to each other.

        log det(I + Sigma K) = sum_ij log(1 + v_b k_ij) + sum_k n_k,ij [log(1 + (v_b + v_k) k_ij) - log(1 + v_b k_ij)]

    n_k,ij is how much of the eigenvector ij lies in pathway k. Nothing larger than the weight itself is formed.

    Attributes
    ----------
    eigenvalues : k, (size,).
    shares : names of structured coordinates -> n_k, (size,).
    whole : see SpectralBlock.
    """

    eigenvalues: Float[Tensor, " size"]
    shares: dict[str, Float[Tensor, " size"]]
    whole: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """See SpectralBlock."""
        return (*self.shares, *([] if self.whole is None else [self.whole]))

    def scaled(self, factor: float | Tensor) -> CommutingBlock:
        """See CurvatureBlock."""
        return replace(self, eigenvalues=self.eigenvalues * factor)

    def log_determinant(self, priors: Priors) -> Float[Tensor, ""]:
        """See CurvatureBlock."""
        dense, broad = pathway_variances(priors, self.whole, list(self.shares), self.eigenvalues)
        outside = (dense * self.eigenvalues).log1p()
        result = outside.sum()
        for variance, share in zip(broad, self.shares.values(), strict=True):
            result = result + (share * (((dense + variance) * self.eigenvalues).log1p() - outside)).sum()
        return result


def pathway_variances(
    priors: Priors, whole: str | None, structured: list[str], like: Tensor
) -> tuple[Float[Tensor, ""], list[Float[Tensor, ""]]]:
    """v_b and the v_k of an effective weight, from the priors of its parameters in either parametrization."""
    own = None if whole is None else priors[whole]
    dense = like.new_zeros(()) if own is None else own.dense_variance.to(like)
    if own is not None and own.bases:  # collapsed: the prior of the sum has them all
        held = [variance for variance, basis in zip(own.pathway_variances, own.bases, strict=True) if basis.rank]
        return dense, [variance.to(like) for variance in held]
    return dense, [priors[name].dense_variance.to(like) for name in structured]
