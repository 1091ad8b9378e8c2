"""Linear models with Gaussian noise in closed form: evidence, posterior and leave-one-out.

    y = f_0 + Phi theta + e,   theta ~ N(0, Sigma),   e ~ N(0, V),   y ~ N(f_0, K),   K = Phi Sigma Phi^T + V

With Sigma = S S^T and B = V^(-1/2) Phi S, K = V^(1/2) (I + B B^T) V^(1/2). All follows from one QR decomposition:
in the space of weights of [B; I] = Q R, so that R^T R = I + B^T B; in that of functions of [B^T; I], so that R^T R =
I + B B^T. Neither Sigma^-1 nor a Gram matrix is formed: where some priors are very broad and others very narrow, they
would lose half of the digits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp import PathwayNormal

Space = Literal["auto", "weights", "functions"]


@dataclass(frozen=True)
class PriorRoot:
    """S with S S^T = Sigma for independent PathwayNormals: [V_b^(1/2), Q_1 V_1^(1/2), ...] for each of them. The
    bases need not be orthogonal to each other. It is differentiable in positive variances.
    """

    laws: Sequence[PathwayNormal]  # in the order of the coordinates, of ``size`` coordinates in all

    @property
    def width(self) -> int:
        """The number of columns of S."""
        return sum(sum(self._widths(law)) for law in self.laws)

    def pull(self, rows: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch width"]:
        """S^T v of every row v."""
        columns = []
        for law, part in zip(self.laws, rows.split([law.numel for law in self.laws], dim=-1), strict=True):
            columns.append(law.dense_variances.to(part).sqrt() * part)
            for basis, variance in zip(law.bases, law.coordinate_variances, strict=True):
                columns.append(variance.to(part).sqrt() * basis.coordinates(part))
        return torch.cat(columns, dim=-1)

    def color(self, noise: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch size"]:
        """S w of every row w."""
        parts = iter(noise.split([width for law in self.laws for width in self._widths(law)], dim=-1))
        values = []
        for law in self.laws:
            total = law.dense_variances.to(noise).sqrt() * next(parts)
            for basis, variance in zip(law.bases, law.coordinate_variances, strict=True):
                total = total + basis.expand(variance.to(noise).sqrt() * next(parts))
            values.append(total)
        return torch.cat(values, dim=-1)

    @staticmethod
    def _widths(law: PathwayNormal) -> list[int]:
        return [law.numel, *(basis.rank for basis in law.bases)]


@dataclass(frozen=True)
class GaussianLaw:
    """N(mean, F^T F), with F the ``factor``."""

    mean: Float[Tensor, " size"]
    factor: Float[Tensor, "width size"]

    def covariance(self) -> Float[Tensor, "size size"]:
        """F^T F."""
        return self.factor.mT @ self.factor

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count size"]:
        """Draws; the noise comes from the generator's device."""
        noise = torch.randn(count, len(self.factor), generator=generator, dtype=torch.float64, device=generator.device)
        return self.mean + noise.to(self.mean) @ self.factor


@dataclass(frozen=True)
class LinearGaussian:
    """A linear model with known Gaussian noise, and its data; in float64. Everything that it computes is a pure
    function of the prior, differentiable in its variances.
    """

    features: Float[Tensor, "example output size"]  # Phi, the derivative of every example's outputs in the parameters
    residual: Float[Tensor, "example output"]  # y - f_0, with f_0 the outputs at theta = 0
    noise: Float[Tensor, " output"]  # the variance of every output
    shapes: Mapping[str, torch.Size]  # of the parameters, in the order of the coordinates

    def log_evidence(self, prior: Mapping[str, PathwayNormal], space: Space = "auto") -> Float[Tensor, ""]:
        """log N(y; f_0, K), in nats. The cost is cubic in the number of coordinates and pathway coordinates in the
        space "weights", and in the number of observed numbers in "functions"; "auto" takes the cheaper.
        """
        white, data = self._whitened(prior)
        if self.space(prior, space) == "weights":
            left, root = _decompose(white)
            weights = _solve(root, left.mT @ data)
            # At the least of a quadratic function, where errors of the weights count in second order only.
            misfit = (data - white @ weights).square().sum() + weights.square().sum()
        else:
            root = _decompose(white.mT)[1]
            misfit = _solve(root, data, transposed=True).square().sum()
        determinant = 2 * root.diagonal().abs().log().sum() + len(self.features) * self.noise.log().sum()
        return -0.5 * (misfit + determinant + data.numel() * math.log(2 * math.pi))

    def posterior(self, prior: Mapping[str, PathwayNormal]) -> GaussianLaw:
        """p(theta | y) = N(S (I + B^T B)^-1 B^T V^(-1/2) (y - f_0), S (I + B^T B)^-1 S^T)."""
        white, data = self._whitened(prior)
        left, root = _decompose(white)
        color, eye = self._root(prior).color, torch.eye(len(root), dtype=root.dtype, device=root.device)
        inverse = torch.linalg.solve_triangular(root, eye, upper=True)
        return GaussianLaw(color(_solve(root, left.mT @ data)), color(inverse.mT))

    def leave_one_out(self, prior: Mapping[str, PathwayNormal], space: Space = "auto") -> Float[Tensor, " example"]:
        """log p(y_i | y_-i) of every example i, all of its outputs together, in nats.

        With P_i the block of K^-1 that belongs to example i, y_i | y_-i has covariance P_i^-1 and mean y_i - P_i^-1
        [K^-1 (y - f_0)]_i (Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006, eqs. 5.10-5.12, for
        blocks).
        """
        white, data = self._whitened(prior)
        count, outputs = self.residual.shape
        if self.space(prior, space) == "weights":  # (I + B B^T)^-1 = I - Q Q^T, with the upper rows of Q
            left = _decompose(white)[0]
            solved = data - left @ (left.mT @ data)
            own = left.unflatten(0, (count, outputs))
            blocks = torch.eye(outputs, dtype=own.dtype, device=own.device) - own @ own.mT
        else:
            root = _decompose(white.mT)[1]
            eye = torch.eye(len(root), dtype=root.dtype, device=root.device)
            inverse = torch.linalg.solve_triangular(root, eye, upper=True)
            solved = inverse @ (inverse.mT @ data)
            own = inverse.unflatten(0, (count, outputs))
            blocks = own @ own.mT
        cholesky = torch.linalg.cholesky(blocks)
        errors = torch.linalg.solve_triangular(cholesky, solved.reshape(count, outputs, 1), upper=False)
        half_determinant = cholesky.diagonal(dim1=-2, dim2=-1).log().sum(-1) - 0.5 * self.noise.log().sum()
        return half_determinant - 0.5 * (errors.square().sum((-2, -1)) + outputs * math.log(2 * math.pi))

    def space(self, prior: Mapping[str, PathwayNormal], wanted: Space = "auto") -> Literal["weights", "functions"]:
        """The space that is wanted, or the cheaper one."""
        if wanted != "auto":
            return wanted
        return "weights" if self._root(prior).width <= self.residual.numel() else "functions"

    def _root(self, prior: Mapping[str, PathwayNormal]) -> PriorRoot:
        return PriorRoot([prior[name] for name in self.shapes])

    def _whitened(self, prior: Mapping[str, PathwayNormal]) -> tuple[Float[Tensor, "row width"], Float[Tensor, " row"]]:
        """B and V^(-1/2) (y - f_0)."""
        scale = self.noise.sqrt()
        features = (self.features / scale[:, None]).flatten(0, 1)
        return self._root(prior).pull(features), (self.residual / scale).flatten()


def _decompose(
    matrix: Float[Tensor, "row column"],
) -> tuple[Float[Tensor, "row column"], Float[Tensor, "column column"]]:
    """The rows of Q that belong to A, and R, of [A; I] = Q R."""
    eye = torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    orthogonal, root = torch.linalg.qr(torch.cat([matrix, eye]))
    return orthogonal[: len(matrix)], root


def _solve(root: Float[Tensor, "n n"], vector: Float[Tensor, " n"], transposed: bool = False) -> Float[Tensor, " n"]:
    """R^-1 v or R^-T v."""
    matrix = root.mT if transposed else root
    solution: Tensor = torch.linalg.solve_triangular(matrix, vector[:, None], upper=not transposed)
    return solution[:, 0]
