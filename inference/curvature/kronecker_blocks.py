"""The curvature K of one effective weight in its eigenbasis, and what the evidence needs of it: log det(I + Sigma K).

Sigma = v_b I + sum_k v_k Q_k Q_k^T is the prior's covariance. Both kinds of blocks are differentiable in the variances.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from pyro.distributions import Distribution
from torch import Tensor

from bayes_rpp import EquivariantBasis
from bayes_rpp.networks.layers.pathway_sums import PathwaySum
from inference.curvature.log_determinant import log_determinant

Priors = Mapping[str, Distribution]


class EffectiveWeight(NamedTuple):
    """A weight or a bias as the sum of its pathways, by the full names of their parameters. ``whole`` has all
    coordinates, dense or collapsed; it is None in an equivariant layer. ``structured`` maps the coordinates of
    structured pathways to their bases; beside a collapsed parameter they are no parameters.
    """

    whole: str | None
    structured: dict[str, EquivariantBasis]


def effective_weights(path: str, sums: Iterable[PathwaySum], free: Container[str]) -> list[EffectiveWeight]:
    """The effective weights of a layer's sums of pathways, with those of their parameters that are free: of a frozen
    pathway nothing is left. Beside a collapsed parameter all pathways stay, since its prior has them.
    """
    prefix, result = f"{path}." if path else "", []
    for parts in sums:
        total, dense = prefix + parts.total, prefix + parts.dense
        collapsed = total in free
        whole = total if collapsed else dense if dense in free else None
        named = {prefix + name: basis for name, basis in parts.held.items()}
        kept = {name: basis for name, basis in named.items() if collapsed or name in free}
        result.append(EffectiveWeight(whole, kept))
    return result


@dataclass(frozen=True)
class CurvatureBlock:
    """The curvature of one effective weight, whose parameters are as in EffectiveWeight."""

    eigenvalues: Float[Tensor, " size"]  # of K
    structured: dict[str, Tensor]  # what the eigenbasis of K has of the bases, by the names of the coordinates
    whole: str | None

    @property
    def names(self) -> list[str]:
        """The parameters."""
        return [*self.structured, *([] if self.whole is None else [self.whole])]

    def log_determinant(self, priors: Priors) -> Float[Tensor, ""]:
        """log det(I + Sigma K) under priors of the parameters, by name."""
        raise NotImplementedError


class SpectralBlock(CurvatureBlock):
    r"""K with its eigenvalues; ``structured`` holds the basis Q_k in the eigenbasis of K, (rank, size).

    log det(I + Sigma K) = log det(I + v_b K) + log det(I + V^(1/2) Q^T K (I + v_b K)^-1 Q V^(1/2))
    """

    def log_determinant(self, priors: Priors) -> Float[Tensor, ""]:
        """See CurvatureBlock."""
        dense, broad = prior_variances(priors, self.whole, list(self.structured), self.eigenvalues)
        stretch = 1 + dense * self.eigenvalues
        result = stretch.log().sum()
        if not self.structured:
            return result
        rows = torch.cat(list(self.structured.values()))
        roots = [v.sqrt().expand(len(own)) for v, own in zip(broad, self.structured.values(), strict=True)]
        root = torch.cat(roots)
        # The variances outside of the product: rows have no gradient, which halves the way back.
        inside = root[:, None] * ((rows * (self.eigenvalues / stretch)) @ rows.mT) * root
        return result + log_determinant(inside + torch.eye(len(inside)).to(inside))


@dataclass(frozen=True)
class CommutingBlock(CurvatureBlock):
    r"""A K that commutes with Q_k V_k Q_k^T of all pathways, which are orthogonal to each other; ``structured`` holds
    n_k, (size,): n_k,ij is how much of the eigenvector ij lies in pathway k.

        log det(I + Sigma K) = sum_ij l_ij + sum_k n_k,ij [log(1 + (v_b + v_k,ij) k_ij) - l_ij],
        l_ij = log(1 + v_b k_ij)

    Nothing larger than the weight itself is formed. v_k,ij is the variance of the coordinate ``representatives[k][ij]``
    of pathway k: one of those from which the output piece of the eigenvector has its part in the pathway.
    """

    representatives: dict[str, Int[Tensor, " size"]]

    def log_determinant(self, priors: Priors) -> Float[Tensor, ""]:
        """See CurvatureBlock."""
        dense, broad = prior_variances(priors, self.whole, list(self.structured), self.eigenvalues)
        outside = (dense * self.eigenvalues).log1p()
        result = outside.sum()
        for variance, (name, share) in zip(broad, self.structured.items(), strict=True):
            along = dense + (variance[self.representatives[name]] if variance.ndim else variance)
            result = result + (share * ((along * self.eigenvalues).log1p() - outside)).sum()
        return result


def prior_variances(
    priors: Priors, whole: str | None, structured: list[str], like: Tensor
) -> tuple[Float[Tensor, "*size"], list[Float[Tensor, "*rank"]]]:
    """v_b and the v_k of an effective weight, one for all coordinates or one for each, from the priors of its
    parameters in either parametrization.
    """
    own = None if whole is None else priors[whole]
    dense = like.new_zeros(()) if own is None else own.dense_variances.to(like)
    if own is not None and own.bases:  # collapsed: the prior of the sum has them all
        held = [variance for variance, basis in zip(own.coordinate_variances, own.bases, strict=True) if basis.rank]
        return dense, [variance.to(like) for variance in held]
    return dense, [priors[name].dense_variances.to(like) for name in structured]
