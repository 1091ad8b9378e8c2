"""How far from isotropic a posterior is in a sampler's coordinates."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad

from bayes_rpp.forward_mode import jvp
from bayes_rpp.validation import without_validation
from inference.curvature.block_structure import Structure
from inference.curvature.gauss_newton import gauss_newton_product, network_and_data, potential_at_fixed_outputs
from inference.curvature.hessian_blocks import precision_at
from inference.metrics.preconditioned import PreconditionedDensity

_DENSE = 1_500
_PURPOSE = "the condition number"
_LANCZOS_STEPS = 100


def condition_number(preconditioned: PreconditionedDensity, z: Float[Tensor, " size"]) -> float:
    """The ratio of the largest to the smallest eigenvalue of S^T H S at z, with H the Gauss-Newton matrix plus the
    curvature of the prior. A trajectory of HMC takes about as many steps as its square root. Up to 1,500 coordinates it
    is exact; beyond, Lanczos' method bounds it from below. Raises TypeError for a LogDensity.
    """
    if preconditioned.size <= _DENSE:
        values = torch.linalg.eigvalsh(_dense(preconditioned, z))
    else:
        generator = torch.Generator().manual_seed(0)
        start = torch.randn(preconditioned.size, generator=generator, dtype=torch.float64).to(z)
        values = torch.linalg.eigvalsh(_tridiagonal(_product(preconditioned, z), start))
    smallest, largest = float(values[0]), float(values[-1])
    return largest / smallest if smallest > 0 else float("inf")


def _dense(preconditioned: PreconditionedDensity, z: Tensor) -> Float[Tensor, "size size"]:
    """S^T H S."""
    density = preconditioned.density
    network_and_data(density, _PURPOSE)
    (matrix,) = precision_at(density, z, Structure.of(density, "full"), progress=False).total
    if preconditioned.metric is None:
        return matrix
    factor = preconditioned.free(torch.eye(preconditioned.size).to(z)).double()  # the rows are S e_i
    return factor @ matrix.double() @ factor.mT


def _product(preconditioned: PreconditionedDensity, z: Tensor) -> Callable[[Tensor], Tensor]:
    """S^T H S u, as a function of u."""
    density = preconditioned.density
    model, x, _ = network_and_data(density, _PURPOSE)
    with torch.no_grad():
        outputs = model.output(density.params(z), x)

    def at_fixed_outputs(v: Tensor) -> Tensor:
        named = density.unpack(v).items()
        return torch.stack([potential_at_fixed_outputs(density, *item, z, outputs) for item in named]).sum()

    def product(u: Tensor) -> Tensor:
        vector = preconditioned.free(u)
        with without_validation():
            image = jvp(grad(at_fixed_outputs), (z,), (vector,))[1]
        image = (image + gauss_newton_product(density, z, vector[None])[0]).to(u)  # priors may be in float64
        return image if preconditioned.metric is None else preconditioned.metric.pull(image)

    return product


# SciPy's eigsh gives no bound before both ends converge: with 80 products it failed on 5 of 7 kinds of spectra.
def _tridiagonal(product: Callable[[Tensor], Tensor], start: Tensor) -> Float[Tensor, "step step"]:
    """Lanczos' matrix of an operator, whose eigenvalues lie between the operator's own and come close at both ends."""
    basis = [start / start.norm()]
    diagonal, off_diagonal = [], []
    for _ in range(min(_LANCZOS_STEPS, len(start))):
        image = product(basis[-1])
        diagonal.append(image @ basis[-1])
        known = torch.stack(basis)
        for _ in range(2):  # twice, against rounding errors
            image = image - (image @ known.mT) @ known
        off_diagonal.append(image.norm())
        if off_diagonal[-1] <= 1e-10 * diagonal[0].abs():
            break
        basis.append(image / off_diagonal[-1])
    off = torch.stack(off_diagonal[: len(diagonal) - 1]) if len(diagonal) > 1 else start.new_zeros(0)
    return torch.stack(diagonal).diag() + off.diag(1) + off.diag(-1)
