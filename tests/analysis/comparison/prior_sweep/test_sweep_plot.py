"""Pictures of sweeps: what is drawn where, and what is refused."""

import math

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import QuadMesh

from analysis import plot_prior_sweep

EQUIVARIANT, DENSE = np.logspace(-2, 4, 4), np.logspace(-8, -2, 7)


@pytest.fixture(autouse=True)
def _closed():
    mpl.use("Agg")
    yield
    plt.close("all")


@pytest.fixture
def found():
    """The evidence is best at (1, 1e-5), the error at (1, 1e-4); one cell is very bad, and one failed."""
    a, b = np.meshgrid(np.log10(EQUIVARIANT), np.log10(DENSE), indexing="ij")
    evidence = -800 - 30 * a**2 - 40 * (b + 5) ** 2
    evidence[3, 6], evidence[2, 0] = -1e9, math.nan
    error = 1e-3 * np.exp(0.3 * a**2 + 0.5 * (b + 4) ** 2)
    dims = ("equivariant_variance", "dense_variance")
    variables = {
        "laplace_symmetric": (dims, evidence, {"best": "max", "units": "nats"}),
        "test_mse": (dims, error, {"best": "min"}),
    }
    coords = {"equivariant_variance": EQUIVARIANT, "dense_variance": DENSE}
    return xr.Dataset(variables, coords=coords, attrs={"criteria": ["laplace_symmetric"]})


def mesh(ax):
    return next(child for child in ax.get_children() if isinstance(child, QuadMesh))


def marks(ax):
    """Where the star and the circle are."""
    return {line.get_marker(): (line.get_xdata()[0], line.get_ydata()[0]) for line in ax.get_lines()} | {}


def test_the_chosen_cell_is_marked_in_both_panels(found):
    evidence, error = plot_prior_sweep(found, beside="test_mse")
    assert marks(evidence) == {"*": pytest.approx((1e-5, 1.0))}
    assert marks(error) == {"*": pytest.approx((1e-5, 1.0)), "o": pytest.approx((1e-4, 1.0))}
    assert [text.get_text() for text in evidence.get_legend().get_texts()] == ["chosen"]
    assert [text.get_text() for text in error.get_legend().get_texts()] == ["chosen", "best here"]
    assert (evidence.get_title(loc="left"), error.get_title(loc="left")) == (
        "log evidence (Laplace, symmetric)",
        "test error",
    )
    for ax in (evidence, error):
        assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
        assert ("dense" in ax.get_xlabel(), "equivariant" in ax.get_ylabel()) == (True, True)


def test_every_cell_has_its_colour_around_its_coordinates(found):
    evidence, error = plot_prior_sweep(found, beside="test_mse")
    expected = found.laplace_symmetric.values
    np.testing.assert_allclose(mesh(evidence).get_array().filled(math.nan), expected - np.nanmax(expected))
    np.testing.assert_allclose(mesh(error).get_array(), found.test_mse.values)
    corners = mesh(evidence).get_coordinates()
    assert corners.shape == (5, 8, 2)
    np.testing.assert_allclose(np.sqrt(corners[0, :-1, 0] * corners[0, 1:, 0]), DENSE)
    np.testing.assert_allclose(np.sqrt(corners[:-1, 0, 1] * corners[1:, 0, 1]), EQUIVARIANT)


def test_the_best_is_bright_and_what_failed_is_blank(found):
    evidence, error = plot_prior_sweep(found, beside="test_mse")
    plt.gcf().canvas.draw()

    def lightness(ax):
        drawn = mesh(ax)
        return drawn.cmap(drawn.norm(drawn.get_array()))[..., :3].mean(-1)

    assert np.unravel_index(lightness(error).argmax(), (4, 7)) == (1, 4)
    drawn = mesh(evidence)
    colours = drawn.cmap(drawn.norm(drawn.get_array()))
    assert colours[2, 0, 3] == 0
    assert np.unravel_index((colours[..., :3].mean(-1) * colours[..., 3]).argmax(), (4, 7)) == (1, 3)


def test_one_bad_cell_does_not_hide_the_others(found):
    (ax,) = plot_prior_sweep(found)
    norm, best = mesh(ax).norm, float(found.laplace_symmetric.max())
    shades = norm(np.array([0.0, -10.0, -40.0, float(found.laplace_symmetric.median()) - best]))
    assert (np.diff(shades) < -0.1).all()
    assert norm.vmin > -1e4
    assert mesh(ax).colorbar.extend == "min"
    wide = mesh(plot_prior_sweep(found, "test_mse")[0])
    assert isinstance(wide.norm, mpl.colors.LogNorm)
    assert wide.colorbar.extend == "neither"


def test_one_setting_is_a_line(found):
    evidence, error = plot_prior_sweep(found.sel(equivariant_variance=1.0), beside="test_mse")
    line = evidence.get_lines()[0]
    np.testing.assert_allclose(line.get_xdata(), DENSE)
    np.testing.assert_allclose(line.get_ydata(), found.laplace_symmetric.values[1])
    assert (evidence.get_yscale(), error.get_yscale(), evidence.get_ylabel()) == ("linear", "log", "nats")
    assert marks(error)["*"] == pytest.approx((1e-5, 1e-3 * math.exp(0.5)))
    assert marks(error)["o"] == pytest.approx((1e-4, 1e-3))
    low, high = plot_prior_sweep(found.sel(equivariant_variance=1e4))[0].get_ylim()
    assert low > -1e5
    assert high > -800 - 30 * 16
    single = plot_prior_sweep(found.isel(equivariant_variance=[1]))[0]
    assert len(single.get_lines()[0].get_xdata()) == 7


def test_it_draws_on_given_axes(found):
    given = plt.subplots(1, 2)[1]
    assert plot_prior_sweep(found, "test_mse", beside="laplace_symmetric", axes=given) == list(given)
    with pytest.raises(ValueError, match="axes must hold 1 axes, for test_mse, got 2"):
        plot_prior_sweep(found, "test_mse", axes=given)


def test_what_cannot_be_drawn(found):
    with pytest.raises(ValueError, match="criterion must be one of laplace_symmetric, test_mse, got 'waic'"):
        plot_prior_sweep(found, "waic")
    with pytest.raises(ValueError, match="criterion must be one of"):
        plot_prior_sweep(found, beside="waic")
    with pytest.raises(ValueError, match="one or two settings, got noise_variance, equivariant_variance"):
        plot_prior_sweep(found.expand_dims(noise_variance=[0.1, 0.2]))
    with pytest.raises(ValueError, match="one or two settings, got none"):
        plot_prior_sweep(found.isel(equivariant_variance=0, dense_variance=0))
    with pytest.raises(ValueError, match="no finite value"):
        plot_prior_sweep(found.where(False))


def test_the_picture_is_not_blank(found, tmp_path):
    plot_prior_sweep(found, beside="test_mse")[0].figure.savefig(tmp_path / "sweep.png")
    picture = plt.imread(tmp_path / "sweep.png")[..., :3]
    assert 0.3 < (picture < 0.99).any(-1).mean() < 0.95
