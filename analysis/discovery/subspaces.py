"""Subspaces by orthonormal bases: the angles between them, and the mean of several.

A basis is (k, r), its columns orthonormal. Eigenvectors have arbitrary signs and mix within a subspace, so that means
are taken of projectors (Edelman, Arias & Smith, "The geometry of algorithms with orthogonality constraints", SIAM J.
Matrix Anal. Appl. 20, 1998), never of vectors.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def principal_angles(
    first: Float[Tensor, "*batch k r"], second: Float[Tensor, "*#batch k s"]
) -> Float[Tensor, "*batch p"]:
    """The p = min(r, s) principal angles between two subspaces in radians, the largest first.

    Angles below 1e-8 are exact too: the sine is taken of what of the smaller subspace is orthogonal to the larger one
    (Bjorck & Golub, Math. Comp. 27, 1973), and the cosine only for angles above 45 degrees.

    Examples
    --------
    >>> principal_angles(torch.eye(3)[:, :1], torch.eye(3)[:, :2])
    tensor([0.])
    """
    small, large = (first, second) if first.shape[-1] <= second.shape[-1] else (second, first)
    inside = large.mT @ small
    sines = torch.linalg.svdvals(small - large @ inside).clamp_max(1.0)
    cosines = torch.linalg.svdvals(inside).flip(-1).clamp_max(1.0)
    return torch.where(sines.square() < 0.5, sines.asin(), cosines.acos())


def mean_subspace(bases: Float[Tensor, "draw k r"]) -> Float[Tensor, "k r"]:
    """The subspace nearest to several on average: the leading eigenvectors of the mean of their projectors, which
    minimise the mean of the sum of squared sines.
    """
    projectors = bases @ bases.mT
    return torch.linalg.eigh(projectors.mean(0)).eigenvectors.flip(-1)[:, : bases.shape[-1]]
