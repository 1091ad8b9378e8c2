"""Initialization of the chains of a log density: near the bulk of it, with scales from its Hessian there."""

from __future__ import annotations

import logging

import numpy as np
import scipy
import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp import BayesianModel
from bayes_rpp.forward_mode import hessian
from bayes_rpp.validation import without_validation
from inference.data import Model
from inference.density.unconstrained import UnconstrainedDensity
from inference.metrics.preconditioned import PreconditionedDensity

logger = logging.getLogger(__name__)

_MOST_FOR_HESSIAN = 200  # coordinates
_FAR_OUT = 10.0  # nats a coordinate: typical draws are half a nat a coordinate above the mode
_HESSIANS = 4  # chains whose Hessians are averaged
_MANY_PARAMETERS = 100  # of a network, whose posterior is far from its initial states


def initialize_chains(
    preconditioned: PreconditionedDensity, z: Float[Tensor, "chain size"]
) -> tuple[Tensor, Tensor | None]:
    """First positions on a density that has no Gauss-Newton matrix, and the covariance of its metric, if it has one."""
    z = descend_to_bulk(preconditioned.density, z)
    if (covariance := hessian_covariance(preconditioned.density, z)) is not None:
        preconditioned.fit_to(covariance)
    return z, covariance


def check_starts(gradient: Float[Tensor, "chain size"], potential: Float[Tensor, " chain"], first: int = 0) -> None:
    """ValueError for the first chain, counted from ``first``, that starts where U or its gradient is not finite."""
    finite = potential.isfinite() & gradient.isfinite().all(1)
    if not finite.all():
        index = int((~finite).nonzero()[0])
        value = potential[index]
        what = "its gradient is not finite" if value.isfinite() else f"the log density is {-float(value)}"
        raise ValueError(
            f"chain {first + index} starts where {what}; start elsewhere, for example from a MAP: start=MAP().fit(...)."
        )


def advise_start(model: Model, chains: int) -> None:
    """Warn of chains that begin at the initial states of a network, far out in the tails of its posterior."""
    if not isinstance(model, BayesianModel):
        return
    initial = model.initial_params(0)
    count = sum(value.numel() for value in initial.values())
    if count < _MANY_PARAMETERS:
        return
    of = "model"
    if model.hyperpriors:
        numbers = {name: float(f"{float(initial[name]):.2g}") for name in model.hyperpriors}
        of = f"BayesianModel(model.network, model.prior.with_variances({numbers}), model.likelihood)"
    engine = "MAP()" if chains == 1 else f"DeepEnsemble(members={chains})"
    logger.warning(
        "the chains start at the network's initial states: from there to the bulk of the posterior of %s parameters "
        "they may need far more steps than the warm-up has. Start them at modes: start=%s.fit(%s, data, seed=0).",
        f"{count:,}", engine, of,
    )  # fmt: skip


def descend_to_bulk(density: UnconstrainedDensity, z: Float[Tensor, "chain size"]) -> Float[Tensor, "chain size"]:
    """Bring chains that start far out down to the bulk of the density; the others are returned as they are. L-BFGS
    (Nocedal & Wright, Numerical Optimization, chapter 7) descends until a step gains less than a nat a coordinate, so
    that a density without a mode, such as a funnel, is not followed to its end.
    """
    return torch.stack([_descend(density, start) for start in z])


def _descend(density: UnconstrainedDensity, start: Float[Tensor, " size"]) -> Float[Tensor, " size"]:
    def evaluate(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        z = torch.as_tensor(numbers, dtype=density.dtype, device=density.device)
        gradients, values = density.gradients(z[None])
        value, slope = float(values[0]), gradients[0].double().cpu().numpy()
        return (value, slope) if np.isfinite(value) and np.isfinite(slope).all() else (np.inf, np.zeros_like(slope))

    first, _ = evaluate(start.double().cpu().numpy())
    last = [first]

    def stop_early(intermediate_result: object) -> None:
        value = float(intermediate_result.fun)  # type: ignore[attr-defined]
        gained, last[0] = last[0] - value, value
        if gained < density.size:
            raise StopIteration

    found = scipy.optimize.minimize(
        evaluate, start.double().cpu().numpy(), jac=True, method="L-BFGS-B", callback=stop_early
    )
    if not first - found.fun > _FAR_OUT * density.size:
        return start
    return torch.as_tensor(found.x, dtype=density.dtype, device=density.device)


def hessian_covariance(
    density: UnconstrainedDensity, z: Float[Tensor, "chain size"]
) -> Float[Tensor, "size size"] | None:
    """The inverse of |Hess U|, its eigenvalues taken as positive, on average over some chains; None beyond 200
    coordinates, or where it is not finite.
    """
    if density.size > _MOST_FOR_HESSIAN:
        return None
    total = torch.zeros(density.size, density.size, dtype=torch.float64, device=density.device)
    chosen = z[:_HESSIANS]
    with without_validation():
        for one in chosen:
            matrix = hessian(density.potential)(one).detach().double()
            if not matrix.isfinite().all():
                return None
            values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
            total += (vectors * values.abs()) @ vectors.mT / len(chosen)
    values, vectors = torch.linalg.eigh(total)
    floor = 1e-10 * float(values.max().clamp_min(1e-30))
    return ((vectors / values.clamp_min(floor)) @ vectors.mT).to(z.dtype)
