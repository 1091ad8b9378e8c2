"""A Gaussian with a given precision matrix: dense, block diagonal or diagonal, and differentiable in it.

    N(mean, H^-1),    H^-1 = S S^T block by block

A draw is mean + S e with standard normal e, and J H^-1 J^T = (J S) (J S)^T, so that no inverse is formed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from inference.curvature.covariance_root import BlockRoot, root_of
from inference.curvature.laplace_formula import laplace_evidence
from inference.memory import check_matrix


class GaussianApproximation:
    """N(mean, H^-1) from the blocks of H; coordinates in no block are fixed at the mean, and do not count for
    ``dimension``. ``precision`` has pairs of a slice of the coordinates and H there: a matrix, or a vector for a
    diagonal one. Slices are in order, and do not overlap. Everything is differentiable in the blocks; ``root`` is S.
    Raises NotPositiveDefiniteError if a block is not positive definite, or not finite.
    """

    def __init__(self, mean: Float[Tensor, " size"], precision: Sequence[tuple[slice, Tensor]]) -> None:
        self.mean, self.size = mean, len(mean)
        self._blocks = [(span, root_of(matrix)) for span, matrix in precision]
        self.root = BlockRoot(*zip(*self._blocks, strict=True))
        self.dimension = sum(len(mean[span]) for span, _ in precision)

    def __repr__(self) -> str:
        fixed = self.size - self.dimension
        return f"GaussianApproximation({self.dimension} coordinates in {len(self._blocks)} block(s), {fixed} fixed)"

    @property
    def log_determinant(self) -> Float[Tensor, ""]:
        """log det H over the coordinates that are not fixed."""
        return torch.stack([root.log_determinant() for _, root in self._blocks]).sum()

    def log_integral(self, log_density: float | Tensor) -> Float[Tensor, ""]:
        """log of the integral of a density with this shape and ``log_density`` at the mean: Laplace's method."""
        return laplace_evidence(log_density, self.log_determinant, self.dimension)

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count size"]:
        """Draws; the noise comes from the generator's device."""
        noise = torch.randn(count, self.size, generator=generator, dtype=self.mean.dtype, device=generator.device)
        return self.mean + self.root.color(noise.to(self.mean.device))

    def covariance(self) -> Float[Tensor, "size size"]:
        """H^-1, dense, with zeros for fixed coordinates; raises ValueError if it would take more than 2 GiB."""
        needed = self.size**2 * self.mean.element_size()
        check_matrix(f"the dense covariance of {self.size:,} coordinates", needed, "Use variances() or project().")
        return self.project(torch.eye(self.size).to(self.mean))

    def variances(self) -> Float[Tensor, " size"]:
        """The diagonal of H^-1."""
        result = torch.zeros_like(self.mean)
        for span, root in self._blocks:
            result[span] = root.variances()
        return result

    def project(self, jacobian: Float[Tensor, "*batch output size"]) -> Float[Tensor, "*batch output output"]:
        """J H^-1 J^T, the covariance of linear functions J z."""
        white = self.root.pull(jacobian)
        return white @ white.mT

    def covariance_times(self, vector: Float[Tensor, " size"]) -> Float[Tensor, " size"]:
        """H^-1 v."""
        return self.root.color(self.root.pull(vector))
