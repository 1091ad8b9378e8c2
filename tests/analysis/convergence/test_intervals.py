"""Posterior intervals: quantiles of many draws, the range of few."""

import numpy as np
import pytest
import torch
import xarray as xr

from analysis import equivariance_error, interval, pathway_shares
from bayes_rpp import RPPEMLP, BayesianModel, Gaussian, O, RPPPrior, Vector
from inference import Posterior
from tests.error_rate import z_limit
from tests.seeds import shifted


def draws_of(values, chains=1):
    """The values, shuffled over chains and draws."""
    shuffled = np.random.default_rng(0).permutation(values).reshape(chains, -1)
    return xr.DataArray(shuffled, dims=["chain", "draw"])


def test_many_draws_have_the_equal_tailed_interval_of_94_percent():
    found = interval(draws_of(np.arange(1000.0), chains=4))
    np.testing.assert_allclose(found.values, [0.03 * 999, 499.5, 0.97 * 999])
    assert found.stat.values.tolist() == ["lower", "median", "upper"]
    assert found.attrs["interval"] == "the 94% equal-tailed interval of 1000 draws"


@pytest.mark.statistical
def test_a_normal_law_has_its_own_quantiles():
    """A quantile of n draws has standard error sqrt(p (1 - p) / n) / density."""
    draws = draws_of(np.random.default_rng(shifted(1)).normal(size=100_000), chains=4)
    tail, half = 1.8808, np.exp(-(1.8808**2) / 2) / np.sqrt(2 * np.pi)
    errors = np.array([np.sqrt(0.03 * 0.97) / half, np.sqrt(0.25 * 2 * np.pi), np.sqrt(0.03 * 0.97) / half])
    z = (interval(draws).values - [-tail, 0.0, tail]) / (errors / np.sqrt(100_000))
    assert np.abs(z).max() < z_limit(3)


@pytest.mark.parametrize(("count", "is_range"), [(1, True), (10, True), (20, True), (21, False)])
def test_few_draws_have_their_range(count, is_range):
    values = np.linspace(1.0, 2.0, count)
    found = interval(draws_of(values))
    assert (found.values[[0, 2]].tolist() == [values.min(), values.max()]) == is_range
    assert float(found.sel(stat="median")) == pytest.approx(np.median(values))
    assert ("minimum, median and maximum" in found.attrs["interval"]) == is_range


def test_it_moves_with_the_scale():
    """3 % of 1001 draws fall on a draw, so that quantiles need no interpolation."""
    draws = draws_of(np.random.default_rng(0).exponential(size=1001))
    np.testing.assert_allclose(interval(np.log(draws)), np.log(interval(draws)), rtol=1e-12)


def test_other_dims_keep_their_order_and_names_wherever_the_draws_are():
    values = np.random.default_rng(0).normal(size=(3, 2, 50, 4))
    array = xr.DataArray(
        values, dims=["layer", "chain", "draw", "output"], coords={"layer": list("abc")}, name="error", attrs={"k": 1}
    )
    found = interval(array)
    assert (found.dims, found.name, found.attrs["k"]) == (("layer", "output", "stat"), "error", 1)
    for layer in range(3):
        for output in range(4):
            expected = np.quantile(values[layer, :, :, output], [0.03, 0.5, 0.97])
            np.testing.assert_allclose(found.sel(layer="abc"[layer])[output], expected)


@pytest.mark.parametrize(
    ("dims", "shape", "message"),
    [(["draw"], (3,), r"dims chain and draw.*\('draw',\)"), (["chain", "draw"], (2, 0), r"holds no draws.*'draw': 0")],
)
def test_what_is_no_posterior_is_refused(dims, shape, message):
    with pytest.raises(ValueError, match=message):
        interval(xr.DataArray(np.zeros(shape), dims=dims))


def test_shares_and_errors_have_intervals():
    """W = 1 + t D with D orthogonal to 1: the dense share is t^2 |D|^2 / (3 + t^2 |D|^2), monotone in t."""
    network = RPPEMLP(Vector, Vector, O(3), layers=0, parametrization="collapsed").double()
    t = torch.linspace(0, 1, 101, dtype=torch.float64)[torch.randperm(101, generator=torch.Generator().manual_seed(0))]
    off = torch.diag(torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64))
    weight = torch.eye(3, dtype=torch.float64) + t[:, None, None] * off
    samples = {"network.0.weight": weight[None], "network.0.bias": torch.zeros(1, 101, 3, dtype=torch.float64)}
    posterior = Posterior(BayesianModel(network, RPPPrior(), Gaussian(0.1)), samples)
    dense = interval(pathway_shares(posterior)).sel(layer="network.0", pathway="dense")
    expected = [2 * s**2 / (3 + 2 * s**2) for s in (0.03, 0.5, 0.97)]
    np.testing.assert_allclose(dense, expected, rtol=1e-10)
    error = interval(equivariance_error(posterior, torch.eye(3, dtype=torch.float64)))
    assert error.dims == ("stat",)
    assert (np.diff(error) > 0).all()


def test_a_layer_without_a_pathway_has_no_interval_for_it():
    values = xr.DataArray(np.full((4, 10, 2), [np.nan, 0.5]), dims=["chain", "draw", "pathway"])
    found = interval(values)
    assert np.isnan(found[0]).all()
    np.testing.assert_array_equal(found[1], 0.5)


def test_one_draw_has_no_interval():
    found = interval(xr.DataArray([[0.3]], dims=["chain", "draw"]))
    assert found.values.tolist() == [0.3, 0.3, 0.3]
    assert found.attrs["interval"] == "minimum, median and maximum of one draw, which has no interval"
