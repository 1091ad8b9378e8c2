"""Kernel densities of log10 of a positive diagnostic."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm

from analysis import log_density, log_grid


def draws(*values):
    return xr.DataArray(np.reshape(values, (-1, 1)), dims=["chain", "draw"])


def mass(density):
    return np.trapezoid(density.values, density.log10.values)


SPREAD = 10 ** np.random.default_rng(0).normal(-1.0, 0.3, size=12)


@pytest.mark.parametrize(
    "values", [SPREAD, [0.1, 0.101], [0.1, 0.1, 0.1], [0.05], [1e-6, 1.0]], ids=["many", "close", "equal", "one", "far"]
)
def test_density_is_per_decade(values):
    values = draws(*values)
    grid = np.linspace(-50, 50, 100_001)
    assert mass(log_density(values, grid)) == pytest.approx(1.0, abs=1e-6)


def test_density_is_the_mean_of_normals_with_silvermans_bandwidth():
    logs, grid = np.log10(SPREAD), np.linspace(-2.5, 0.5, 50)
    bandwidth = logs.std(ddof=1) * (12 * 3 / 4) ** (-1 / 5)
    expected = norm.pdf(grid[:, None], logs, bandwidth).mean(1)
    np.testing.assert_allclose(log_density(draws(*SPREAD), grid), expected, rtol=1e-10)


@pytest.mark.parametrize("values", [[0.05], [0.05, 0.05]])
def test_draws_that_agree_give_a_normal_of_the_least_bandwidth(values):
    grid = np.linspace(-1.5, -1.1, 50)
    np.testing.assert_allclose(log_density(draws(*values), grid), norm.pdf(grid, np.log10(0.05), 0.02), rtol=1e-10)


def test_bandwidth_has_a_floor_without_a_jump():
    """Draws 0.004 of a decade apart: a mixture of two normals of width 0.02, hardly to be told from one."""
    logs, grid = np.array([-1.0, -1.004]), np.linspace(-1.2, -0.8, 50)
    density = log_density(draws(*10**logs), grid)
    np.testing.assert_allclose(density, norm.pdf(grid[:, None], logs, 0.02).mean(1), rtol=1e-8)


def test_a_bound_keeps_the_mass():
    for values in ([1.0], [0.9, 1.0], [0.5, 0.99, 0.999], SPREAD.clip(max=1.0)):
        grid = np.append(np.linspace(-50, 0, 100_001), [1e-9, 1.0])
        density = log_density(draws(*values), grid, largest=1.0)
        assert mass(density[:-2]) == pytest.approx(1.0, abs=1e-6)
        assert (density[-2:] == 0).all()
        assert log_grid([draws(*values)], largest=1.0)[-1] <= 0


def test_chains_and_draws_are_pooled():
    grid = np.linspace(-2, 0, 20)
    square = xr.DataArray(SPREAD.reshape(3, 4), dims=["chain", "draw"])
    np.testing.assert_array_equal(log_density(square, grid), log_density(draws(*SPREAD), grid))


def test_grid_holds_every_data_set():
    first, second = draws(*SPREAD), draws(1e-4, 2e-4)
    grid = log_grid([first, second])
    assert grid.shape == (512,)
    assert grid[0] < -4
    assert grid[-1] > np.log10(SPREAD.max())
    for values in (first, second):
        assert mass(log_density(values, grid)) > 0.99


@pytest.mark.parametrize("values", [[0.05], [0.04, 0.05], SPREAD[:4], SPREAD], ids=["one", "two", "four", "twelve"])
def test_grid_of_few_draws_does_not_cut_their_wide_kernels(values):
    values = draws(*values)
    assert mass(log_density(values, log_grid([values]))) > 0.99


@pytest.mark.parametrize("values", [[0.1, 0.0], [-0.1], [np.nan], [np.inf], []], ids=str)
def test_what_has_no_logarithm_is_refused(values):
    with pytest.raises(ValueError, match=r"positive, finite values"):
        log_density(draws(*values), np.linspace(-2, 0, 5))
    with pytest.raises(ValueError, match=r"positive, finite values"):
        log_grid([draws(*values)])
