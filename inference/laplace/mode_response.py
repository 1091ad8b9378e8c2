r"""How the mode moves with the variances, and what that takes from the curvature of the evidence in them.

    dz* / d log v = H^-1 d(grad_z log joint) / d log v,
    d^2 / d(log v)^2 log joint(z*(v), v) = [the same at fixed z] + (d grad)^T H^-1 (d grad) / d(log v)^2

by the implicit function theorem (Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006, section 5.5.1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse.linalg import LinearOperator, cg
from torch import Tensor
from torch.func import grad

from bayes_rpp import BayesianModel
from bayes_rpp.forward_mode import jvp
from bayes_rpp.known_variances import model_at
from inference.curvature.gauss_newton import gauss_newton_product
from inference.density.unconstrained import UnconstrainedDensity, float64_density
from inference.laplace.posterior import LaplacePosterior

_STEP = 1e-3  # in log v, of central differences of the gradient
_MOST_PRODUCTS = 60


def curvature_of_moving_mode(
    given: BayesianModel, mode: LaplacePosterior, values: Mapping[str, float], names: Sequence[str]
) -> Float[Tensor, "log log"]:
    """(d grad)^T H^-1 (d grad) over log variances in the order of ``names``, H the Gauss-Newton matrix with the prior.

    The variances of the model ``given`` are learned; ``mode`` is under their ``values``, and its approximation of H
    preconditions conjugate gradients. Those that end early give too little, never too much.
    """
    z, device = mode.approximation.mean, mode.density.device

    def gradient(name: str, change: float) -> Tensor:
        moved = model_at(given, {**values, name: values[name] * math.exp(change)})
        return float64_density(moved, mode.data, 1.0, device).gradients(z[None])[0][0]

    slopes = [(gradient(name, -_STEP) - gradient(name, _STEP)) / (2 * _STEP) for name in names]
    responses = [_solve(mode, slope) for slope in slopes]
    return torch.stack([torch.stack([slope @ response for response in responses]) for slope in slopes]).cpu()


def _solve(mode: LaplacePosterior, vector: Float[Tensor, " size"]) -> Float[Tensor, " size"]:
    """H^-1 v, by conjugate gradients."""
    z, size = mode.approximation.mean, mode.approximation.size

    def operator(apply: object) -> LinearOperator:
        def on_arrays(array: np.ndarray) -> np.ndarray:
            result: np.ndarray = apply(torch.from_numpy(array).to(z)).cpu().numpy()  # type: ignore[operator]
            return result

        return LinearOperator((size, size), on_arrays, dtype=np.float64)

    found, _ = cg(
        operator(lambda v: _hessian_product(mode.density, z, v)), vector.cpu().numpy(), rtol=1e-2,
        maxiter=_MOST_PRODUCTS, M=operator(mode.approximation.covariance_times),
    )  # fmt: skip
    return torch.from_numpy(found).to(z)


def _hessian_product(density: UnconstrainedDensity, z: Tensor, vector: Tensor) -> Tensor:
    prior: Tensor = jvp(grad(density.prior_potential), (z,), (vector,))[1]
    return prior.detach() + gauss_newton_product(density, z, vector[None])[0]
