"""Annealing backwards from exact draws of a posterior, which bounds the evidence from above.

Forwards the mean weight has the evidence Z as its expectation, backwards 1 / Z. So by Jensen's inequality the log of
the first is below log Z in expectation, and minus the log of the second above (Grosse, Ghahramani & Adams, "Sandwiching
the marginal likelihood using bidirectional Monte Carlo", 2015). Exact draws are at hand where the data were simulated:
the parameters that made them are one.
"""

from __future__ import annotations

import time
from dataclasses import replace

import pyro
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.evidence.annealing import AnnealedImportanceSampling, log_mean, run_details, run_warnings, weight_warnings
from analysis.evidence.protocol import Evidence
from bayes_rpp import BayesianModel
from bayes_rpp.bayesian_model import prior_draws
from bayes_rpp.seeding import seeded
from inference.data import Data, Model, Pair
from inference.posterior.posterior import Posterior
from inference.settings import chain_seeds
from inference.tempering.particles import anneal_back


def reverse_annealing(
    model: Model,
    data: Data,
    exact_draws: Posterior,
    *,
    seed: int,
    method: AnnealedImportanceSampling | None = None,
    device: str | torch.device = "auto",
    progress: bool = True,
) -> Evidence:
    """Annealed importance sampling from exact draws of the posterior back to the reference.

    The path, the temperatures and the kernels are those that ``method.estimate`` has with the same seed. The standard
    error is that of independent particles: where several begin at one draw, as they do where there are fewer draws than
    particles, it does not know how much the draws differ.

    Parameters
    ----------
    model : a BayesianModel, or a LogDensity with data=None.
    data : (x, y) as tensors or arrays, or a Dataset of such pairs.
    exact_draws : exact and independent draws of the posterior; draws of a sampler that has not converged bound nothing.
    seed : of everything random; the same seed gives the same bits.
    method : the settings; AnnealedImportanceSampling() by default.
    device : "auto" takes an accelerator if there is one.
    progress : whether to show progress bars, in a terminal.

    Returns
    -------
    Evidence whose value is above the log evidence in expectation.

    Raises
    ------
    ValueError, TypeError
        As ``method.estimate``.
    """
    method = AnnealedImportanceSampling() if method is None else method
    began = time.perf_counter()
    path = method.path(model, data, seed, device, progress)
    plan = method.plan(path, seed, progress)
    z = path.density.latest(exact_draws, method.particles)
    run = anneal_back(path, plan, z, chain_seeds(seed, 3)[2][1], progress=progress)
    warnings = run_warnings(run) + weight_warnings(run)
    value, error = log_mean(run.log_weights)
    name, seconds = f"reverse {type(method).__name__}", time.perf_counter() - began
    return Evidence(-value, name, error, seconds, path.gradients, tuple(warnings), run_details(run))


def bidirectional_evidence(
    model: BayesianModel,
    x: Float[Tensor, "batch *input"],
    *,
    seed: int,
    method: AnnealedImportanceSampling | None = None,
    device: str | torch.device = "auto",
    progress: bool = True,
) -> tuple[Evidence, Evidence]:
    """How far annealing is from the truth, on data that the model itself makes.

    Parameters and then y are drawn from the model. The forward run is below the log evidence of these data in
    expectation and the backward run, from the parameters that made them, above; their distance bounds the error of
    both.

    Parameters
    ----------
    model : a BayesianModel.
    x : the inputs.
    seed : of everything random; the same seed gives the same bits.
    method : the settings of both runs; AnnealedImportanceSampling() by default.
    device : "auto" takes an accelerator if there is one.
    progress : whether to show progress bars, in a terminal.

    Returns
    -------
    The forward and the backward evidence, below and above.

    Raises
    ------
    ValueError, TypeError
        If the model is no BayesianModel, or as ``reverse_annealing``.

    Examples
    --------
    >>> below, above = bidirectional_evidence(model, data.train.x, seed=0)
    >>> above.value - below.value
    """
    method = AnnealedImportanceSampling() if method is None else method
    data, draw = simulated(model, x, seed)
    settings = {"seed": seed, "device": device, "progress": progress}
    below = method.estimate(model, data, **settings)  # type: ignore[arg-type]
    above = reverse_annealing(model, data, draw, method=method, **settings)  # type: ignore[arg-type]
    return replace(below, method=f"forward {below.method}"), above


def simulated(model: BayesianModel, x: Float[Tensor, "batch *input"], seed: int) -> tuple[Pair, Posterior]:
    """Data that the model makes, and the parameters that made them: an exact draw of the posterior.

    Raises
    ------
    TypeError
        If the model is no BayesianModel.
    ValueError
        If x does not fit the network, or holds NaN.
    """
    if not isinstance(model, BayesianModel):
        raise TypeError(f"only a BayesianModel can make data, got {type(model).__name__}.")
    x = model.as_input(torch.as_tensor(x).cpu())
    model.check_inputs(x)
    made, noise = chain_seeds(seed, 4)[3]
    like = model.initial_params(0)
    params = {name: value[0].to(like[name]) for name, value in prior_draws(model, 1, made).items()}
    with seeded(noise, torch.device("cpu")), pyro.validation_enabled(False), torch.no_grad():
        y: Tensor = model.likelihood.distribution(model.output(params, x), params).sample()
    return (x, y), Posterior(model, {name: value[None, None] for name, value in params.items()}, data=(x, y))
