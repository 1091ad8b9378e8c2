"""Square roots S of covariances H^-1 = S S^T, from blocks of the precision H = L L^T: S = L^-T.

A draw of N(0, H^-1) is S e with standard normal e; S^-1 z is white, and S^T g is the gradient over u of a function of
z = S u. All functions take batches of vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor


class NotPositiveDefiniteError(torch.linalg.LinAlgError):
    """A precision matrix that is not positive definite."""


class CovarianceRoot(Protocol):
    """z = S u, its transpose and its inverse."""

    def color(self, u: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """S u."""

    def pull(self, gradient: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """S^T g."""

    def whiten(self, z: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """S^-1 z."""


@dataclass(frozen=True)
class FactorRoot:
    """S = L^-T by division or triangular solves; differentiable in L."""

    factor: Float[Tensor, "size size"] | Float[Tensor, " size"]  # L, or its diagonal where H is diagonal

    def color(self, u: Tensor) -> Tensor:
        """See CovarianceRoot."""
        return u / self.factor if self.factor.ndim == 1 else _solved(self.factor, u, upper=False)

    def pull(self, gradient: Tensor) -> Tensor:
        """See CovarianceRoot."""
        return gradient / self.factor if self.factor.ndim == 1 else _solved(self.factor.mT, gradient, upper=True)

    def whiten(self, z: Tensor) -> Tensor:
        """See CovarianceRoot."""
        return z * self.factor if self.factor.ndim == 1 else z @ self.factor

    def log_determinant(self) -> Float[Tensor, ""]:
        """log det H."""
        diagonal = self.factor if self.factor.ndim == 1 else self.factor.diagonal()
        return 2 * diagonal.log().sum()

    def variances(self) -> Float[Tensor, " size"]:
        """The diagonal of H^-1."""
        if self.factor.ndim == 1:
            return self.factor.square().reciprocal()
        return self.pull(torch.eye(len(self.factor)).to(self.factor)).square().sum(-1)


@dataclass(frozen=True)
class FormedRoot:
    """S and S^-1 as matrices, or as vectors where they are diagonal: products are faster than solves."""

    matrix: Float[Tensor, "size size"] | Float[Tensor, " size"]
    inverse: Float[Tensor, "size size"] | Float[Tensor, " size"]

    def color(self, u: Tensor) -> Tensor:
        """See CovarianceRoot."""
        return u * self.matrix if self.matrix.ndim == 1 else u @ self.matrix.mT

    def pull(self, gradient: Tensor) -> Tensor:
        """See CovarianceRoot."""
        return gradient * self.matrix if self.matrix.ndim == 1 else gradient @ self.matrix

    def whiten(self, z: Tensor) -> Tensor:
        """See CovarianceRoot."""
        return z * self.inverse if self.inverse.ndim == 1 else z @ self.inverse.mT


@dataclass(frozen=True)
class BlockRoot:
    """Roots of blocks of the coordinates, in order; coordinates in no block are fixed, with variance 0."""

    spans: Sequence[slice]
    parts: Sequence[CovarianceRoot]

    def color(self, u: Tensor) -> Tensor:
        """See CovarianceRoot."""
        return self._joined(u, [part.color(u[..., span]) for span, part in zip(self.spans, self.parts, strict=True)])

    def pull(self, gradient: Tensor) -> Tensor:
        """See CovarianceRoot."""
        blocks = zip(self.spans, self.parts, strict=True)
        return self._joined(gradient, [part.pull(gradient[..., span]) for span, part in blocks])

    def whiten(self, z: Tensor) -> Tensor:
        """See CovarianceRoot; 0 for fixed coordinates."""
        return self._joined(z, [part.whiten(z[..., span]) for span, part in zip(self.spans, self.parts, strict=True)])

    def _joined(self, like: Tensor, pieces: list[Tensor]) -> Tensor:
        """The pieces of the blocks, and zeros for what lies in none."""
        parts, start = [], 0
        for span, piece in zip(self.spans, pieces, strict=True):
            parts += [torch.zeros_like(like[..., start : span.start]), piece]
            start = span.stop
        return torch.cat([*parts, torch.zeros_like(like[..., start:])], dim=-1)


@dataclass(frozen=True)
class PermutedRoot:
    """A root of coordinates in another order."""

    root: CovarianceRoot
    order: Int[Tensor, " size"]  # of the root's coordinates: where each of them is

    def color(self, u: Tensor) -> Tensor:
        """See CovarianceRoot."""
        return self.root.color(u[..., self.order])[..., self.order.argsort()]

    def pull(self, gradient: Tensor) -> Tensor:
        """See CovarianceRoot."""
        return self.root.pull(gradient[..., self.order])[..., self.order.argsort()]

    def whiten(self, z: Tensor) -> Tensor:
        """See CovarianceRoot."""
        return self.root.whiten(z[..., self.order])[..., self.order.argsort()]


def root_of(precision: Float[Tensor, "size size"] | Float[Tensor, " size"]) -> FactorRoot:
    """The root for a precision matrix, or for the diagonal of one; differentiable. Raises NotPositiveDefiniteError if
    the matrix is not positive definite, or not finite.
    """
    if not precision.isfinite().all():
        raise NotPositiveDefiniteError("the precision matrix holds NaN or infinite numbers.")
    if precision.ndim == 1:
        if not (precision > 0).all():
            raise NotPositiveDefiniteError(f"the precision is not positive: its least entry is {precision.min():.3g}.")
        return FactorRoot(precision.sqrt())
    cholesky, failed = torch.linalg.cholesky_ex(precision)
    if failed:
        least = torch.linalg.eigvalsh(precision.detach()).min()
        raise NotPositiveDefiniteError(
            f"the precision matrix is not positive definite: its least eigenvalue is {least:.3g}."
        )
    return FactorRoot(cholesky)


def formed_root(precision: Float[Tensor, "size size"] | Float[Tensor, " size"], dtype: torch.dtype) -> FormedRoot:
    """As ``root_of``, but formed; a matrix is factorised in float64."""
    if precision.ndim == 1:
        return FormedRoot(precision.to(dtype).rsqrt(), precision.to(dtype).sqrt())
    exact = precision.double()
    cholesky = root_of((exact + exact.mT) / 2).factor
    matrix = torch.linalg.solve_triangular(cholesky.mT, torch.eye(len(exact)).to(exact), upper=True)
    return FormedRoot(matrix.to(dtype), cholesky.mT.to(dtype))


def _solved(matrix: Tensor, rows: Tensor, upper: bool) -> Tensor:
    """r M^-1 of every row r."""
    flat = rows.reshape(-1, rows.shape[-1])
    return torch.linalg.solve_triangular(matrix, flat, upper=upper, left=False).reshape(rows.shape)
