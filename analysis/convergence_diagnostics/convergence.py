"""Whether chains have converged, judged by functions and not by single weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from analysis.convergence_diagnostics.verdict import ERROR, verdict
from analysis.in_words import InWords
from analysis.symmetry.equivariance import equivariance_error
from bayes_rpp import LogDensity
from inference import Posterior
from inference.posterior.arviz import chain_diagnostics, least_draws
from inference.progress import QUIET_SECONDS, ProgressBar

_POINTS = 5

Function = Callable[[Posterior], Tensor | np.ndarray | xr.DataArray]


@dataclass(frozen=True, repr=False)
class Convergence(InWords):
    """What ``convergence`` found; ``print`` shows the table and the verdict.

    Attributes
    ----------
    table : dims "function". r_hat, ess_bulk, ess_tail and mcse_mean are the worst over the elements of each function:
        the largest R-hat and Monte Carlo error, the smallest effective sample sizes. r_hat_element and ess_element
        say which one that is; elements and constant count all, and those that are the same in every draw (which have no
        R-hat); finite says whether every value is. NaN where there is nothing to judge.
    verdict : the same in words.
    """

    table: xr.Dataset
    verdict: str

    def __str__(self) -> str:
        width = max(len("function"), *map(len, self.table.function.values))
        lines = [f"{'function':{width}}  {'R-hat':>8}  {'bulk ESS':>8}  {'tail ESS':>8}  {'MCSE mean':>10}  elements"]
        for name in self.table.function.values:
            row = self.table.sel(function=name)
            lines.append(
                f"{name:{width}}  {float(row.r_hat):8.4g}  {float(row.ess_bulk):8.0f}  {float(row.ess_tail):8.0f}  "
                f"{float(row.mcse_mean):10.3g}  {int(row.elements):8d}"
            )
        return "\n".join([*lines, "", self.verdict])


def convergence(
    posterior: Posterior,
    x: Float[Tensor, "batch *input"] | None = None,
    functions: Mapping[str, Function] | None = None,
) -> Convergence:
    """R-hat and effective sample sizes of what a posterior is used for.

    Single weights of a network may be permuted or traded for each other without any change of the function, so that
    their chains need not agree. By default these are judged: the log joint; the network's outputs at a few points; the
    equivariance error there, if the network has a group; the noise variance and all other parameters that are not the
    network's. Of a LogDensity: the log density and every element of its parameters.

    R-hat is the rank-normalised split R-hat, the larger of those of values and of folded values; chains agree if it is
    below 1.01, and 400 effective draws make all of it trustworthy (Vehtari, Gelman, Simpson, Carpenter & Bürkner,
    "Rank-normalization, folding, and localization: an improved R-hat for assessing convergence of MCMC", Bayesian
    Analysis 2021). Four chains of one distribution have, by chance alone, an R-hat of about 1 + 4 / ESS: where many
    functions are judged it takes a thousand effective draws or so to bring all of them below 1.01.

    No diagnostic of chains sees what all of them miss: chains that start in one mode of several agree, with an R-hat of
    1, and say nothing of the others. Start them apart, from the members of an ensemble.

    Parameters
    ----------
    posterior : of a sampler.
    x : points at which to judge the outputs and the equivariance error, better few than many; by default up to 5
        training inputs, evenly spread over the data.
    functions : name -> a function of the posterior with values (chain, draw, ...), such as ``pathway_shares``, to be
        judged besides. Elements that are NaN in every draw do not count.

    Raises
    ------
    ValueError, TypeError
        If there is no model, neither x nor training data, or a function's name is taken or its values have another
        shape.

    Examples
    --------
    >>> target = LogDensity(lambda p: -0.5 * p["z"].square().sum(), {"z": torch.zeros(3)})
    >>> found = convergence(SGLD(step_size=0.3, draws=4000).fit(target, None, seed=0, progress=False))
    >>> found.table.function.values.tolist()
    ['log density', 'z']
    """
    values: dict[str, xr.DataArray] = {}
    evaluated = _functions(posterior, x, functions or {})
    for name, value in ProgressBar(evaluated, desc="evaluating", unit="function", delay=QUIET_SECONDS):
        if name in values:
            raise ValueError(f"functions names {name!r}, which is judged anyway: give it another name.")
        values[name] = _as_array(name, value, posterior)
    total = sum(array[0, 0].size for array in values.values())
    with ProgressBar(total=total, desc="R-hat", unit="element", delay=QUIET_SECONDS) as bar:
        rows = [_diagnose(name, array, bar) for name, array in values.items()]
    table = xr.concat(rows, dim=xr.Variable("function", list(values)))
    return Convergence(table, verdict(table, posterior))


def _functions(
    posterior: Posterior, x: Tensor | None, own: Mapping[str, Function]
) -> Iterator[tuple[str, Tensor | np.ndarray | xr.DataArray]]:
    """Names and values of what is judged."""
    if isinstance(posterior.model, LogDensity):
        yield "log density", posterior.log_joint()
        yield from posterior.samples.items()
    else:
        yield from _of_network(posterior, x)
    for name, function in own.items():
        yield name, function(posterior)


def _of_network(posterior: Posterior, x: Tensor | None) -> Iterator[tuple[str, Tensor | xr.DataArray]]:
    network = posterior.bayesian_model.network
    if x is None and posterior.data is None:
        raise ValueError("the posterior holds no training data: pass x, the points at which to judge its outputs.")
    if posterior.data is not None:
        yield "log joint", posterior.log_joint()
    if x is None:  # a few inputs, evenly spread
        inputs = posterior.data[0]  # type: ignore[index]
        points = np.unique(np.linspace(0, len(inputs) - 1, _POINTS).round().astype(int))
        x = inputs[points]
    else:
        points, x = np.arange(len(x)), torch.as_tensor(x)
    outputs = posterior.outputs(x).numpy()
    axes = ["output"] if outputs.ndim == 4 else [f"output_{axis}" for axis in range(outputs.ndim - 3)]
    yield "prediction", xr.DataArray(outputs, dims=["chain", "draw", "point", *axes], coords={"point": points})
    if x.ndim == 2 and all(getattr(getattr(network, side, None), "group", None) for side in ("rep_in", "rep_out")):
        error = equivariance_error(posterior, x)
        rounding = 100 * torch.finfo(next(iter(posterior.samples.values())).dtype).eps
        # An exactly equivariant network has rounding errors alone, larger in a few draws whose outputs nearly vanish.
        yield ERROR, xr.zeros_like(error) if float(error.median()) <= rounding else error
    weights = {name for name, _ in network.named_parameters()}
    yield from ((name, value) for name, value in posterior.samples.items() if name not in weights)


def _as_array(name: str, value: Tensor | np.ndarray | xr.DataArray, posterior: Posterior) -> xr.DataArray:
    value = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
    value = value if isinstance(value, xr.DataArray) else xr.DataArray(np.asarray(value))
    if value.shape[:2] != (posterior.chains, posterior.draws):
        raise ValueError(
            f"the values of {name!r} have shape {value.shape}; expected (chain, draw, ...) = "
            f"({posterior.chains}, {posterior.draws}, ...)."
        )
    return value


def _diagnose(name: str, array: xr.DataArray, bar: ProgressBar) -> xr.Dataset:
    """The row of one function."""
    values = array.values.reshape(*array.shape[:2], -1)
    elements = [index for index in range(values.shape[2]) if not np.isnan(values[..., index]).all()]
    found: dict[int, dict[str, float]] = {}
    constant, long_enough = 0, values.shape[1] >= least_draws(values.shape[0])
    for index in elements:
        one = values[..., index]
        bar.update()
        if np.isfinite(one).all() and _is_constant(one):
            constant += 1
        elif np.isfinite(one).all() and long_enough:
            found[index] = chain_diagnostics(one)
            found[index]["ess"] = min(found[index]["ess_bulk"], found[index]["ess_tail"])

    def worst(key: str, which: Callable = min) -> float:
        return which((of[key] for of in found.values()), default=np.nan)

    def element(key: str, which: Callable = min) -> str:
        index = which(found, key=lambda index: found[index][key], default=None)
        return name if index is None else name + _position(array, index)

    return xr.Dataset(
        {
            "r_hat": worst("r_hat", max),
            "ess_bulk": worst("ess_bulk"),
            "ess_tail": worst("ess_tail"),
            "mcse_mean": worst("mcse_mean", max),
            "r_hat_element": element("r_hat", max),
            "ess_element": element("ess"),
            "elements": len(elements),
            "constant": constant,
            "finite": bool(np.isfinite(values[..., elements]).all()),
        }
    )


def _is_constant(values: np.ndarray) -> bool:
    """Whether all values are one, but for their rounding."""
    eps = np.finfo(values.dtype).eps if np.issubdtype(values.dtype, np.floating) else 0.0
    return bool(np.ptp(values.astype(float)) <= 4 * eps * np.abs(values).max())


def _position(array: xr.DataArray, index: int) -> str:
    """Where an element lies, by the names of its dimensions if it has some."""
    shape, dims = array.shape[2:], array.dims[2:]
    if not shape:
        return ""
    indices = np.unravel_index(index, shape)
    if str(dims[0]).startswith("dim_"):
        return str([int(i) for i in indices])
    return f" at {', '.join(f'{dim} {array[dim].values[i]}' for dim, i in zip(dims, indices, strict=True))}"
