"""Square roots S of covariances H^-1 = S S^T, from blocks of the precision H = L L^T: S = L^-T.

A draw of N(0, H^-1) is S e with standard normal e; S^-1 z is white, and S^T g is the gradient over u of a function of
z = S u. All functions take batches of vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor


class NotPositiveDefiniteError(torch.linalg.LinAlgError):
    """A matrix that should be a precision is none."""


class CovarianceRoot(Protocol):
    """z = S u, its transpose and its inverse."""

    def color(self, u: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """S u."""

    def pull(self, gradient: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """S^T g."""

    def whiten(self, z: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """S^-1 z."""


@dataclass(frozen=True)
class DiagonalRoot:
    """S = diag(precision)^(-1/2)."""

    precision: Float[Tensor, " size"]

    def color(self, u: Tensor) -> Tensor:
        """See CovarianceRoot."""
        return u / self.precision.sqrt()

    def pull(self, gradient: Tensor) -> Tensor:
        """See CovarianceRoot."""
        return gradient / self.precision.sqrt()

    def whiten(self, z: Tensor) -> Tensor:
        """See CovarianceRoot."""
        return z * self.precision.sqrt()

    def log_determinant(self) -> Float[Tensor, ""]:
        """log det H."""
        return self.precision.log().sum()

    def covariance(self) -> Float[Tensor, "size size"]:
        """H^-1."""
        return torch.diag_embed(1 / self.precision)

    def variances(self) -> Float[Tensor, " size"]:
        """The diagonal of H^-1."""
        return 1 / self.precision


@dataclass(frozen=True)
class CholeskyRoot:
    """S = L^-T, by triangular solves; differentiable in L."""

    cholesky: Float[Tensor, "size size"]

    def color(self, u: Tensor) -> Tensor:
        """See CovarianceRoot."""
        return self._solve(self.cholesky, u, upper=False)

    def pull(self, gradient: Tensor) -> Tensor:
        """See CovarianceRoot."""
        return self._solve(self.cholesky.mT, gradient, upper=True)

    def whiten(self, z: Tensor) -> Tensor:
        """See CovarianceRoot."""
        return z @ self.cholesky

    def log_determinant(self) -> Float[Tensor, ""]:
        """log det H."""
        return 2 * self.cholesky.diagonal().log().sum()

    def covariance(self) -> Float[Tensor, "size size"]:
        """H^-1."""
        return torch.cholesky_inverse(self.cholesky)

    def variances(self) -> Float[Tensor, " size"]:
        """The diagonal of H^-1."""
        eye = torch.eye(len(self.cholesky)).to(self.cholesky)
        return torch.linalg.solve_triangular(self.cholesky, eye, upper=False).square().sum(0)

    @staticmethod
    def _solve(matrix: Tensor, rows: Tensor, upper: bool) -> Tensor:
        """r M^-1 of every row r."""
        flat = rows.reshape(-1, rows.shape[-1])
        return torch.linalg.solve_triangular(matrix, flat, upper=upper, left=False).reshape(rows.shape)


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
    """Roots of blocks of the coordinates, in order; coordinates in no block are fixed, with variance 0.

    Attributes
    ----------
    spans : the coordinates of every block.
    parts : its root.
    """

    spans: Sequence[slice]
    parts: Sequence[CovarianceRoot]

    def color(self, u: Tensor) -> Tensor:
        """See CovarianceRoot."""
        return self._by_block(u, lambda part, own: part.color(own))

    def pull(self, gradient: Tensor) -> Tensor:
        """See CovarianceRoot."""
        return self._by_block(gradient, lambda part, own: part.pull(own))

    def whiten(self, z: Tensor) -> Tensor:
        """See CovarianceRoot; 0 for fixed coordinates."""
        return self._by_block(z, lambda part, own: part.whiten(own))

    def _by_block(self, vectors: Tensor, operation: Callable[[CovarianceRoot, Tensor], Tensor]) -> Tensor:
        pieces, start = [], 0
        for span, part in zip(self.spans, self.parts, strict=True):
            if start < span.start:
                pieces.append(torch.zeros_like(vectors[..., start : span.start]))
            pieces.append(operation(part, vectors[..., span]))
            start = span.stop
        if start < vectors.shape[-1]:
            pieces.append(torch.zeros_like(vectors[..., start:]))
        return torch.cat(pieces, dim=-1)


def root_of(precision: Float[Tensor, "size size"] | Float[Tensor, " size"]) -> CholeskyRoot | DiagonalRoot:
    """The root for a precision matrix, or for the diagonal of one; differentiable.

    Raises
    ------
    NotPositiveDefiniteError
        If the matrix is not positive definite, or not finite.
    """
    if not precision.isfinite().all():
        raise NotPositiveDefiniteError("the precision matrix holds NaN or infinite numbers.")
    if precision.ndim == 1:
        if not (precision > 0).all():
            raise NotPositiveDefiniteError(f"the precision is not positive: its least entry is {precision.min():.3g}.")
        return DiagonalRoot(precision)
    cholesky, failed = torch.linalg.cholesky_ex(precision)
    if failed:
        least = torch.linalg.eigvalsh(precision.detach()).min()
        raise NotPositiveDefiniteError(
            f"the precision matrix is not positive definite: its least eigenvalue is {least:.3g}."
        )
    return CholeskyRoot(cholesky)


def formed_root(precision: Float[Tensor, "size size"] | Float[Tensor, " size"], dtype: torch.dtype) -> FormedRoot:
    """The root for a precision matrix, which is factorised in float64, or for the diagonal of one.

    Raises
    ------
    NotPositiveDefiniteError
        If a matrix is not positive definite, or not finite.
    """
    if precision.ndim == 1:
        return FormedRoot(precision.to(dtype).rsqrt(), precision.to(dtype).sqrt())
    exact = precision.double()
    root = root_of((exact + exact.mT) / 2)
    assert isinstance(root, CholeskyRoot)
    eye = torch.eye(len(exact)).to(exact)
    matrix = torch.linalg.solve_triangular(root.cholesky.mT, eye, upper=True)
    return FormedRoot(matrix.to(dtype), root.cholesky.mT.to(dtype))
