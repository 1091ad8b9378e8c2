"""Kernel density estimates of a positive diagnostic."""

from __future__ import annotations

import numpy as np
import scipy
import xarray as xr

_SMALLEST_SPREAD = 0.02


def log_density(values: xr.DataArray, grid: np.ndarray, largest: float = np.inf) -> xr.DataArray:
    """The density of log10 of a positive diagnostic over all chains and draws, by a Gaussian kernel with Silverman's
    bandwidth.

    The bandwidth is at least 0.02 in log10, so that draws that agree (or are all one) still give a density.

    Parameters
    ----------
    values : positive.
    grid : points of log10.
    largest : what values can be at most, such as 1 for an equivariance error: kernels are reflected there, so that the
        density is 0 beyond and keeps its mass.

    Returns
    -------
    DataArray with dim "log10", per unit of log10.

    Raises
    ------
    ValueError
        If a value is not positive and finite, or exceeds the largest.
    """
    logs, bound = _logs(values, largest), np.log10(largest)
    density = _kernels(logs, grid)
    if np.isfinite(bound):
        density = np.where(grid <= bound, density + _kernels(logs, 2 * bound - grid), 0.0)
    return xr.DataArray(density, dims=["log10"], coords={"log10": grid}, name="density")


def _kernels(logs: np.ndarray, points: np.ndarray) -> np.ndarray:
    spread, bandwidth = _spread(logs), _bandwidth(logs)
    if spread > _SMALLEST_SPREAD / 10:
        result: np.ndarray = scipy.stats.gaussian_kde(logs, bw_method=bandwidth / spread)(points)
        return result
    return scipy.stats.norm.pdf(points, logs.mean(), bandwidth)


def log_grid(all_values: list[xr.DataArray], points: int = 512, largest: float = np.inf) -> np.ndarray:
    """A grid of log10 that holds all values and their kernels, as far as the largest possible value."""
    logs = [_logs(values, largest) for values in all_values]
    low = min(some.min() - 4 * _bandwidth(some) for some in logs)
    high = max(some.max() + 4 * _bandwidth(some) for some in logs)
    return np.linspace(low, min(high, np.log10(largest)), points)


def _bandwidth(logs: np.ndarray) -> float:
    """Silverman's rule, but at least 0.02."""
    return max(_spread(logs) * (0.75 * len(logs)) ** -0.2, _SMALLEST_SPREAD)


def _spread(logs: np.ndarray) -> float:
    return float(np.std(logs, ddof=1)) if len(logs) > 1 else 0.0


def _logs(values: xr.DataArray, largest: float) -> np.ndarray:
    flat = np.asarray(values, dtype=float).reshape(-1)
    if flat.size == 0 or not (np.isfinite(flat) & (flat > 0)).all():
        raise ValueError(
            "a density of logarithms needs positive, finite values; an exactly equivariant network has none."
        )
    if flat.max() > largest * (1 + 1e-6):
        raise ValueError(f"values must not exceed {largest:g}, got {flat.max():g}.")
    return np.log10(np.minimum(flat, largest))
