"""A Gaussian with a given precision matrix: dense, block diagonal or diagonal, and differentiable in it.

    N(mean, H^-1),    H = L L^T block by block

A draw is mean + L^-T e with standard normal e, and J H^-1 J^T = (J L^-T) (J L^-T)^T, so that no inverse is formed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from inference.memory import check_matrix


class NotPositiveDefiniteError(RuntimeError):
    """A matrix that should be a precision is none."""


@dataclass(frozen=True)
class _DenseBlock:
    """Consecutive coordinates with a dense precision L L^T."""

    place: slice
    cholesky: Float[Tensor, "size size"]

    def log_determinant(self) -> Float[Tensor, ""]:
        return 2 * self.cholesky.diagonal().log().sum()

    def color(self, noise: Float[Tensor, "row size"]) -> Float[Tensor, "row size"]:
        """L^-T e of every row e."""
        return torch.linalg.solve_triangular(self.cholesky, noise, upper=False, left=False)

    def whiten(self, rows: Float[Tensor, "row size"]) -> Float[Tensor, "row size"]:
        """L^-1 r of every row r."""
        return torch.linalg.solve_triangular(self.cholesky.mT, rows, upper=True, left=False)

    def covariance(self) -> Float[Tensor, "size size"]:
        return torch.cholesky_inverse(self.cholesky)

    def variances(self) -> Float[Tensor, " size"]:
        eye = torch.eye(len(self.cholesky), dtype=self.cholesky.dtype, device=self.cholesky.device)
        return torch.linalg.solve_triangular(self.cholesky, eye, upper=False).square().sum(0)


@dataclass(frozen=True)
class _DiagonalBlock:
    """Consecutive coordinates with a diagonal precision."""

    place: slice
    precision: Float[Tensor, " size"]

    def log_determinant(self) -> Float[Tensor, ""]:
        return self.precision.log().sum()

    def color(self, noise: Float[Tensor, "row size"]) -> Float[Tensor, "row size"]:
        return noise / self.precision.sqrt()

    def whiten(self, rows: Float[Tensor, "row size"]) -> Float[Tensor, "row size"]:
        return rows / self.precision.sqrt()

    def covariance(self) -> Float[Tensor, "size size"]:
        return torch.diag_embed(1 / self.precision)

    def variances(self) -> Float[Tensor, " size"]:
        return 1 / self.precision


class GaussianApproximation:
    """N(mean, H^-1) from the blocks of H; coordinates in no block are fixed at the mean.

    Everything is differentiable in the blocks.

    Parameters
    ----------
    mean : (size,).
    precision : pairs of a place, as a slice of the coordinates, and H there: a matrix, or a vector for a diagonal one.
        Places do not overlap.

    Attributes
    ----------
    size : the number of coordinates.
    dimension : how many of them are not fixed.

    Raises
    ------
    NotPositiveDefiniteError
        If a block is not positive definite, or not finite.

    Examples
    --------
    >>> approximation = GaussianApproximation(torch.zeros(3), [(slice(0, 3), torch.full((3,), 4.0))])
    >>> approximation.variances()
    tensor([0.2500, 0.2500, 0.2500])
    """

    def __init__(self, mean: Float[Tensor, " size"], precision: Sequence[tuple[slice, Tensor]]) -> None:
        self.mean, self.size = mean, len(mean)
        self.blocks = tuple(_factorise(place, matrix) for place, matrix in precision)
        self.dimension = sum(len(mean[place]) for place, _ in precision)

    def __repr__(self) -> str:
        fixed = self.size - self.dimension
        return f"GaussianApproximation({self.dimension} coordinates in {len(self.blocks)} block(s), {fixed} fixed)"

    @property
    def log_determinant(self) -> Float[Tensor, ""]:
        """log det H over the coordinates that are not fixed."""
        return torch.stack([block.log_determinant() for block in self.blocks]).sum()

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count size"]:
        """Draws; the noise comes from the generator's device."""
        noise = torch.randn(count, self.size, generator=generator, dtype=self.mean.dtype, device=generator.device)
        return self.mean + self._by_block("color", noise.to(self.mean.device))

    def covariance(self) -> Float[Tensor, "size size"]:
        """H^-1, dense, with zeros for fixed coordinates.

        Raises
        ------
        ValueError
            If it would take more than 2 GiB.
        """
        needed = self.size**2 * self.mean.element_size()
        check_matrix(f"the dense covariance of {self.size:,} coordinates", needed, "Use variances() or project().")
        result = self.mean.new_zeros(self.size, self.size)
        for block in self.blocks:
            result[block.place, block.place] = block.covariance()
        return result

    def variances(self) -> Float[Tensor, " size"]:
        """The diagonal of H^-1."""
        result = torch.zeros_like(self.mean)
        for block in self.blocks:
            result[block.place] = block.variances()
        return result

    def project(self, jacobian: Float[Tensor, "*batch output size"]) -> Float[Tensor, "*batch output output"]:
        """J H^-1 J^T, the covariance of linear functions J z."""
        flat = jacobian.reshape(-1, self.size)
        total = jacobian.new_zeros(*jacobian.shape[:-1], jacobian.shape[-2])
        for block in self.blocks:
            white = block.whiten(flat[:, block.place]).reshape(*jacobian.shape[:-1], -1)
            total = total + white @ white.mT
        return total

    def covariance_times(self, vector: Float[Tensor, " size"]) -> Float[Tensor, " size"]:
        """H^-1 v."""
        return self._by_block("color", self._by_block("whiten", vector[None]))[0]

    def _by_block(self, operation: str, rows: Float[Tensor, "row size"]) -> Float[Tensor, "row size"]:
        result = torch.zeros_like(rows)
        for block in self.blocks:
            result[:, block.place] = getattr(block, operation)(rows[:, block.place])
        return result


def _factorise(place: slice, precision: Tensor) -> _DenseBlock | _DiagonalBlock:
    if not precision.isfinite().all():
        raise NotPositiveDefiniteError("the precision matrix holds NaN or infinite numbers.")
    if precision.ndim == 1:
        if not (precision > 0).all():
            raise NotPositiveDefiniteError(f"the precision is not positive: its least entry is {precision.min():.3g}.")
        return _DiagonalBlock(place, precision)
    cholesky, failed = torch.linalg.cholesky_ex(precision)
    if failed:
        least = torch.linalg.eigvalsh(precision.detach()).min()
        raise NotPositiveDefiniteError(
            f"the precision matrix is not positive definite: its least eigenvalue is {least:.3g}."
        )
    return _DenseBlock(place, cholesky)
