"""Which prior variances do the data support? One model trained and measured under every cell of a grid of them."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
import xarray as xr

from analysis.comparison.sweep_criteria import Criteria, check_criteria, measure, named_criteria, prediction_errors
from analysis.comparison.sweep_training import Problem, TrainedCells, cells_at_once, train_cells
from analysis.evidence import LaplaceEvidence
from bayes_rpp import BayesianModel
from bayes_rpp.known_variances import has_learned_noise
from bayes_rpp.likelihoods import NOISE
from inference import MAP, DeepEnsemble
from inference.data import Data, refuse_hyperpriors, resolve_data, resolve_device
from inference.gradients import with_gradients
from inference.progress import ProgressBar

logger = logging.getLogger(__name__)

_ERRORS = ("train_mse", "test_mse", "train_error", "test_error")


@with_gradients
def prior_sweep(
    model: BayesianModel,
    data: Data,
    *,
    criteria: Criteria | None = None,
    test: Data = None,
    mode: MAP | DeepEnsemble | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
    progress: bool = True,
    **grid: Sequence[float],
) -> xr.Dataset:
    """Train and measure a model under every combination of some prior variances.

    After Figure 3 (right) of Finzi, Benton & Wilson (NeurIPS 2021), with the evidence beside the test error. All cells
    are trained side by side, from the same starts and with the same minibatches, see ``train_cells``.

    Parameters
    ----------
    model, data, seed, device, progress : see ``DeepEnsemble.fit``; what is not swept keeps its value. Every cell has
        the same starts, those of MAP, or of DeepEnsemble, with this seed.
    criteria : what to measure, a sequence, or a mapping by the variables' names; by default
        LaplaceEvidence("symmetric"), which expands around the weights of the cell, without the training of its
        ``mode``. Other evidence methods estimate every member of every cell, at their own cost. A function takes a
        Posterior of one draw, the weights of one member, whose ``model`` is the cell's, and returns a number, the
        larger the better (or say otherwise, ``dataset["name"].attrs["best"] = "min"``). From such a posterior
        ``Laplace(...).fit(post.model, post.data, seed=0, start=post)`` makes draws, for ``loo_of``.
    test : other data, for the test error.
    mode : how to train. With a DeepEnsemble every cell has its members, the criteria are means over them, as are
        "log_joint", "gradient_norm" and "noise_variance", and the errors those of the mean prediction. Single fits end
        in optima of very different quality, and cells then differ by luck.
    **grid : the name of a setting of the prior, as in ``RPPPrior.variances`` (or "noise_variance", of a Gaussian whose
        noise is one known number), -> the values that it takes.

    Returns
    -------
    Dataset with a dimension for each swept setting, in rising order, and the variables

    * one for each criterion; of several members with its standard error, as "laplace_symmetric_error";
    * "log_joint", of the data and the weights, in nats;
    * "train_mse" and "test_mse", the mean over examples and outputs of (y - mean of y)^2; of a Categorical likelihood
      "train_error" and "test_error", the share of wrong labels;
    * "gradient_norm", (g^T Sigma g)^(1/2) with g the gradient of the log joint and Sigma the prior's covariance. Off
      the mode the Laplace evidence is too small, to second order by (g^T H^-1 g) / 2, at most half the square of this:
      where it is small the cell has converged, where it is large, see whether more epochs change the evidence;
    * "noise_variance", if it is learned, Gaussian(..., learned=True): each fit has its own, by the evidence with the
      curvature of the first LaplaceEvidence (else "symmetric"), see ``train_cells``; the criteria take it as known;
    * "epochs" of each cell's training.

    A variable's ``attrs["best"]`` is "max" or "min". Members that diverge are left out, with a warning; a cell without
    others is NaN, and so is a criterion that failed for every member. Ctrl-C ends the training early and measures the
    cells trained so far; once more Ctrl-C leaves the cells that were measured, all others NaN.

    Raises
    ------
    TypeError, ValueError
        If the model is a LogDensity, the mode another engine, or a criterion neither a method nor a function; if
        nothing is swept; a setting is unknown, has no values, or one that is not positive; variances have hyperpriors;
        the data are refused; or a criterion does not suit the network.

    Examples
    --------
    >>> found = prior_sweep(model, data.train, equivariant_variance=[0.1, 1, 10], dense_variance=[1e-6, 1e-4, 1e-2],
    ...                     criteria=[LaplaceEvidence("symmetric")], test=data.test, mode=MAP(epochs=300))
    >>> chosen_cell(found, "laplace_symmetric")
    {'equivariant_variance': 1.0, 'dense_variance': 0.0001}
    >>> plot_prior_sweep(found, "laplace_symmetric", beside="test_mse")
    """
    began, mode = time.perf_counter(), mode or MAP()
    named = named_criteria([LaplaceEvidence("symmetric")] if criteria is None else criteria)
    if not isinstance(model, BayesianModel):
        raise TypeError(f"prior_sweep needs a BayesianModel, whose prior has variances, got {type(model).__name__}.")
    if not isinstance(mode, MAP | DeepEnsemble):
        raise TypeError(f"mode must be MAP(...) or DeepEnsemble(...), got {mode!r}.")
    refuse_hyperpriors("prior_sweep", model)
    axes = _checked_grid(model, grid)
    pair = resolve_data(model, data)
    assert pair is not None
    held_out = None if test is None else resolve_data(model, test)
    curvatures = [c.curvature for c in named.values() if isinstance(c, LaplaceEvidence)]
    curvature = [*curvatures, "symmetric"][0]
    problem = Problem(model, pair, mode, seed, resolve_device(device), curvature, named, held_out)
    cells = [_all_values(model, dict(zip(axes, cell, strict=True))) for cell in itertools.product(*axes.values())]
    check_criteria(problem, cells[0])
    rows, interrupted = [dict[str, float]() for _ in cells], {}
    try:
        for index, row in _sweep(problem, cells, progress):
            rows[index] = row
    except KeyboardInterrupt:
        logger.warning("interrupted; %d of %d cells were measured.", sum(map(bool, rows)), len(cells))
        interrupted = {"interrupted": 1}  # files of NetCDF know no truth values
    engine = {"engine": type(mode).__name__, "epochs": mode.epochs, "batch_size": mode.batch_size or len(pair[0])}
    engine |= {"lr": mode.lr, "schedule": mode.schedule, "seed": seed, "device": str(problem.device)}
    run = {"num_data": len(pair[0]), "criteria": list(named), "members": problem.members, **interrupted}
    return _dataset(axes, rows, problem, {**engine, **run, "seconds": round(time.perf_counter() - began, 3)})


def chosen_cell(dataset: xr.Dataset, criterion: str | None = None) -> dict[str, float]:
    """The variances that a criterion prefers, by name: for ``dataset.sel`` or ``RPPPrior.with_variances``.

    Parameters
    ----------
    dataset : of ``prior_sweep``.
    criterion : one of its variables; by default the first criterion.

    Raises
    ------
    ValueError
        If there is no such variable, or it is NaN everywhere.
    """
    values = criterion_of(dataset, criterion)
    if not np.isfinite(values).any():
        raise ValueError(f"{values.name!r} has no finite value, so that none can be chosen.")
    finite = values.where(np.isfinite(values))
    best = finite.argmin(...) if values.attrs.get("best") == "min" else finite.argmax(...)
    return {name: float(values[name][int(index)]) for name, index in best.items()}


def criterion_of(dataset: xr.Dataset, criterion: str | None) -> xr.DataArray:
    """A variable of a sweep; by default its first criterion."""
    name = criterion or dataset.attrs["criteria"][0]
    if name not in dataset:
        raise ValueError(f"criterion must be one of {', '.join(map(str, dataset))}, got {name!r}.")
    return dataset[name]


def _checked_grid(model: BayesianModel, grid: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """The values of every swept setting, in rising order."""
    known, likelihood = list(model.prior.variances(model.network)), model.gaussian
    if likelihood is not None and not likelihood.learned and isinstance(likelihood.noise_variance, float):
        known.append(NOISE)
    if not grid:
        raise ValueError(f"nothing is swept: give values for some of {', '.join(known)}.")
    result = {}
    for name, given in grid.items():
        if name not in known:
            raise ValueError(f"{name!r} cannot be swept; the settings of this model are {', '.join(known)}.")
        values = sorted(float(value) for value in given)
        if not values or not all(value > 0 and math.isfinite(value) for value in values):
            raise ValueError(f"{name} must have values that are positive and finite, got {list(given)}.")
        if len(set(values)) < len(values):
            raise ValueError(f"{name} must have values that differ, got {list(given)}.")
        result[name] = values
    return result


def _all_values(model: BayesianModel, swept: Mapping[str, float]) -> dict[str, float]:
    """Every setting of one cell; with the noise where it is swept, or learned from its initial value."""
    settings: dict[str, float] = {name: float(v) for name, v in model.prior.variances(model.network).items()}
    if has_learned_noise(model):
        assert model.gaussian is not None
        settings[NOISE] = float(model.gaussian.noise_variance)  # type: ignore[arg-type]
    return settings | dict(swept)


def _sweep(problem: Problem, cells: list[dict[str, float]], progress: bool) -> Iterator[tuple[int, dict[str, float]]]:
    """The variables of each cell; chunks of cells are independent of each other."""
    at_once = cells_at_once(problem, cells[0])
    for piece in np.array_split(np.arange(len(cells)), math.ceil(len(cells) / at_once)):
        trained = train_cells(problem, [cells[index] for index in piece], progress)
        bar = ProgressBar(piece, desc="measuring", unit="cell", progress=progress)
        for number, index in enumerate(bar):
            fits = range(number * problem.members, (number + 1) * problem.members)
            yield int(index), _cell(problem, cells[index], trained, fits)
        if trained.interrupted:
            raise KeyboardInterrupt


def _cell(problem: Problem, cell: Mapping[str, float], trained: TrainedCells, fits: range) -> dict[str, float]:
    """The variables of one cell, from the fits that did not diverge."""
    good = [fit for fit in fits if trained.is_finite(fit)]
    if len(good) < len(fits):
        of = "the training" if len(fits) == 1 else f"{len(fits) - len(good)} of {len(fits)} fits"
        logger.warning("%s diverged at %s; try a smaller lr than %g.", of, dict(cell), problem.mode.lr)
    if not good:
        return {}
    weights = {name: value[good] for name, value in trained.params.items()}
    rows = []
    for index, fit in enumerate(good):
        single = {name: value[index] for name, value in weights.items()}
        row = measure(problem, trained.values[fit], single, trained.epochs, fit - fits.start)
        rows.append(row | ({NOISE: trained.values[fit][NOISE]} if has_learned_noise(problem.model) else {}))
    result = {}
    for name in rows[0]:
        found = np.array([row[name] for row in rows if math.isfinite(row[name])])
        result[name] = float(found.mean()) if len(found) else math.nan
        if name in problem.criteria and problem.members > 1:
            error = float(found.std(ddof=1)) / math.sqrt(len(found)) if len(found) > 1 else math.nan
            result[f"{name}_error"] = error
    if has_learned_noise(problem.model):
        weights[NOISE] = torch.tensor([trained.values[fit][NOISE] for fit in good])
    return result | prediction_errors(problem, weights) | {"epochs": trained.epochs}


def _dataset(axes: dict[str, list[float]], rows: list[dict[str, float]], problem: Problem, attrs: dict) -> xr.Dataset:
    criteria = problem.criteria
    names = dict.fromkeys([*criteria, *(name for row in rows for name in row)])
    best = dict.fromkeys([*criteria, "log_joint"], "max") | dict.fromkeys(_ERRORS, "min")
    shape, variables = [len(values) for values in axes.values()], {}
    for name in names:
        values = np.array([row.get(name, math.nan) for row in rows]).reshape(shape)
        scored = {"best": best[name]} if name in best else {}
        units = {"units": "nats"} if name == "log_joint" or hasattr(criteria.get(name), "estimate") else {}
        variables[name] = (tuple(axes), values, scored | units)
    return xr.Dataset(variables, coords=dict(axes), attrs=attrs)
