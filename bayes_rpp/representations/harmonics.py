"""Irreducible representations of SO(2), O(2), SO(3) and O(3) in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


class _PlanarHarmonics:
    """Degree k acts on (Re z^k, Im z^k), z = x + iy."""

    def size(self, degree: int) -> int:
        return 2 if degree else 1

    def rho(self, degree: int, g: Tensor) -> Tensor:
        if not degree:
            return g.new_ones(*g.shape[:-2], 1, 1)
        angle = degree * torch.atan2(g[..., 1, 0], g[..., 0, 0])
        c, s, sign = angle.cos(), angle.sin(), torch.linalg.det(g).sign()
        return torch.stack([torch.stack([c, -s * sign], -1), torch.stack([s, c * sign], -1)], -2)

    def drho(self, degree: int, a: Tensor) -> Tensor:
        return degree * a if degree else a.new_zeros(1, 1)


class _SphericalHarmonics:
    """Degree l acts on the real spherical harmonics Y_lm, m = -l, ..., l (degree 1 is (y, z, x)): Y(R x) = D(R) Y(x).
    O(3) acts on them as polynomials: -1 by (-1)^l.
    """

    def size(self, degree: int) -> int:
        return 2 * degree + 1

    def rho(self, degree: int, g: Tensor) -> Tensor:
        exact = g.double()
        sign = torch.linalg.det(exact).sign()[..., None, None]
        alpha, beta, gamma = _euler_angles(sign * exact)
        turn_y, turn_z = (_one_parameter(degree, axis) for axis in (1, 2))
        rotation = turn_z.turn(alpha) @ turn_y.turn(beta) @ turn_z.turn(gamma)
        return (rotation * sign**degree).to(g.dtype)

    def drho(self, degree: int, a: Tensor) -> Tensor:
        rates = torch.stack([a[2, 1], a[0, 2], a[1, 0]]).double()
        generators = torch.stack([_one_parameter(degree, axis).generator for axis in range(3)])
        return torch.einsum("k,kij->ij", rates, generators).to(a.dtype)


def _euler_angles(r: Float[Tensor, "*batch 3 3"]) -> tuple[Tensor, Tensor, Tensor]:
    """alpha, beta, gamma with R = Rz(alpha) Ry(beta) Rz(gamma). Near the poles alpha is ill-determined, but harmless if
    gamma makes up for it: it comes from the sum of both near beta = 0 and from the difference near beta = pi, which
    are well-determined there.
    """
    alpha = torch.atan2(r[..., 1, 2], r[..., 0, 2])
    beta = torch.atan2(alpha.cos() * r[..., 0, 2] + alpha.sin() * r[..., 1, 2], r[..., 2, 2])
    total = torch.atan2(r[..., 1, 0] - r[..., 0, 1], r[..., 0, 0] + r[..., 1, 1])
    difference = torch.atan2(-r[..., 0, 1] - r[..., 1, 0], r[..., 1, 1] - r[..., 0, 0])
    return alpha, beta, torch.where(r[..., 2, 2] > 0, total - alpha, alpha - difference)


@dataclass(frozen=True)
class _OneParameter:
    """Rotations about one axis, exp(t generator) = Re(V exp(i m t) V^H), with m = -l, ..., l."""

    generator: Float[Tensor, "size size"]
    weights: Float[Tensor, " size"]
    vectors: Tensor

    def turn(self, angle: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch size size"]:
        phases = torch.polar(torch.ones(()).double(), angle[..., None] * self.weights)
        return ((self.vectors * phases[..., None, :]) @ self.vectors.mH).real


@lru_cache(maxsize=128)
def _one_parameter(degree: int, axis: int) -> _OneParameter:
    m = np.arange(-degree, degree + 1)
    raising = np.diag(np.sqrt(degree * (degree + 1) - m[:-1] * (m[:-1] + 1.0)), -1).astype(complex)
    momenta = (raising + raising.T) / 2, (raising - raising.T) / 2j, np.diag(m).astype(complex)
    to_real = np.zeros((len(m), len(m)), dtype=complex)
    to_real[degree, degree] = 1.0
    for k in range(1, degree + 1):
        up, down, sign = degree + k, degree - k, (-1.0) ** k
        to_real[up, up], to_real[up, down] = sign / np.sqrt(2), 1 / np.sqrt(2)
        to_real[down, up], to_real[down, down] = sign / (1j * np.sqrt(2)), -1 / (1j * np.sqrt(2))
    generator = (to_real @ (1j * momenta[axis].T) @ to_real.conj().T).real
    values, vectors = np.linalg.eigh(-1j * generator)
    return _OneParameter(
        torch.from_numpy(generator), torch.from_numpy(np.round(values)), torch.from_numpy(np.ascontiguousarray(vectors))
    )
