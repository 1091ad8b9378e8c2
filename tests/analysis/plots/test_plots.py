"""Pictures: what is on the axes, and that it is drawn."""

import itertools

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_rgb

from analysis import equivariance_error, plot_equivariance_density, plot_predictive
from bayes_rpp import EMLP
from inference import Posterior


@pytest.fixture(autouse=True)
def _no_display():
    mpl.use("Agg")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def posterior(bodies, fit_small):
    return fit_small(bodies, epochs=12, snapshots=2, members=8)


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def lines(ax):
    """The densities, without the ticks of single draws and the marks of references."""
    return [line for line in ax.get_lines() if len(line.get_xdata()) > 100]


def ticks(ax):
    return [line for line in ax.get_lines() if line.get_marker() == "|"]


def ink(path):
    """The share of pixels that are not white."""
    picture = plt.imread(path)[..., :3]
    return (picture < 0.99).any(-1).mean()


def test_density_has_a_curve_a_state_and_a_tick_a_draw(posterior, bodies):
    ax = plot_equivariance_density({"modified inertia": posterior}, bodies.test.x)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_xscale()) == (
        "equivariance error under O(3)",
        "posterior density (per decade)",
        "log",
    )
    assert len(lines(ax)) == 3
    assert labels(ax) == ["modified inertia, after 4 epochs", "modified inertia (ensemble of 8)"]
    error = equivariance_error(posterior, bodies.test.x).values.reshape(-1)
    np.testing.assert_allclose(ticks(ax)[0].get_xdata(), error)


def test_curves_are_densities_over_the_errors(posterior, bodies):
    for line in lines(plot_equivariance_density({"inertia": posterior}, bodies.test.x)):
        assert np.trapezoid(line.get_ydata(), np.log10(line.get_xdata())) == pytest.approx(1.0, abs=0.02)


def test_later_states_are_darker(posterior, bodies):
    shades = [line.get_alpha() for line in lines(plot_equivariance_density({"inertia": posterior}, bodies.test.x))]
    assert shades == sorted(set(shades))


def test_every_data_set_has_its_colour_and_reference(posterior, bodies):
    error = equivariance_error(posterior, bodies.test.x)
    ax = plot_equivariance_density({"one": posterior, "two": error / 3}, bodies.test.x, reference={"two": 0.0863})
    colors = [to_rgb(line.get_color()) for line in lines(ax)]
    assert colors[:3] == [colors[0]] * 3
    assert colors[3] != colors[0]
    ensemble = "(ensemble of 8)"
    assert labels(ax) == ["one, after 4 epochs", f"one {ensemble}", f"two {ensemble}", "two: the true function"]
    [mark] = [line for line in ax.get_lines() if list(line.get_xdata()) == [0.0863, 0.0863]]
    assert to_rgb(mark.get_color()) == colors[3]


def test_default_points_are_the_training_inputs(posterior, bodies):
    ax = plot_equivariance_density({"inertia": posterior})
    error = equivariance_error(posterior, bodies.train.x).values.reshape(-1)
    np.testing.assert_allclose(ticks(ax)[0].get_xdata(), error)


def test_given_axes_are_drawn_on_and_returned(posterior, bodies):
    _, (left, right) = plt.subplots(1, 2)
    assert plot_equivariance_density({"inertia": posterior}, bodies.test.x, ax=left) is left
    assert plot_predictive(posterior, *bodies.test, ax=right) is right
    assert len(plt.get_fignums()) == 1
    assert left.lines
    assert right.lines


def test_pictures_are_not_blank(posterior, bodies, tmp_path):
    _, empty = plt.subplots(figsize=(7, 4), layout="constrained")
    empty.get_figure().savefig(tmp_path / "empty.png")
    for name, ax in (
        ("density", plot_equivariance_density({"inertia": posterior}, bodies.test.x, reference={"inertia": 0.2})),
        ("predictive", plot_predictive(posterior, *bodies.test)),
    ):
        ax.get_figure().savefig(tmp_path / f"{name}.png")
        assert ink(tmp_path / f"{name}.png") > 2 * ink(tmp_path / "empty.png")


@pytest.mark.parametrize("errors", [[0.0863], [0.02, 0.03], [0.01, 0.1], [1e-3, 0.3], [4e-8, 1e-7, 0.02]], ids=str)
def test_tick_labels_are_there_and_do_not_run_into_each_other(errors):
    ax = plot_equivariance_density({"errors": xr.DataArray(np.reshape(errors, (-1, 1)), dims=["chain", "draw"])})
    ax.figure.canvas.draw()
    low, high = ax.get_xlim()
    labels = [tick.label1 for tick in ax.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    boxes = sorted((label.get_window_extent() for label in labels if label.get_text()), key=lambda box: box.x0)
    assert len(boxes) >= 2
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_predictive_shows_mean_bands_and_observations_in_order(posterior, bodies):
    x, y = bodies.test
    ax, prediction = plot_predictive(posterior, x, y, output=4), posterior.predict(x)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("test example, in order of the observed value", "output 4")
    assert labels(ax) == ["± 2 sd, with noise", "± 2 sd, epistemic", "predictive mean (ensemble of 8)", "observed"]
    mean, observed = ax.get_lines()
    order = y[:, 4].argsort()
    np.testing.assert_allclose(observed.get_ydata(), y[order, 4])
    assert (np.diff(observed.get_ydata()) >= 0).all()
    np.testing.assert_allclose(mean.get_ydata(), prediction.mean[order, 4])
    for band, variance in zip(ax.collections, (prediction.variance, prediction.epistemic), strict=True):
        heights = band.get_paths()[0].vertices[:, 1]
        assert heights.max() == pytest.approx(float((prediction.mean + 2 * variance.sqrt())[:, 4].max()), rel=1e-5)
        assert heights.min() == pytest.approx(float((prediction.mean - 2 * variance.sqrt())[:, 4].min()), rel=1e-5)


def test_predictive_takes_arrays(posterior, bodies):
    x, y = (part.numpy() for part in bodies.test)
    assert len(plot_predictive(posterior, x, y).get_lines()) == 2


def test_density_refuses_what_it_cannot_draw(posterior, bodies, fit_small):
    with pytest.raises(ValueError, match="at least one posterior"):
        plot_equivariance_density({})
    without_data = Posterior(posterior.model, posterior.samples)
    with pytest.raises(ValueError, match="'inertia' holds no training data: pass x"):
        plot_equivariance_density({"inertia": without_data})
    exact = 0 * equivariance_error(fit_small(bodies, EMLP), bodies.test.x)
    with pytest.raises(ValueError, match="exactly equivariant"):
        plot_equivariance_density({"inertia": exact})
    assert plt.get_fignums() == []  # nothing half drawn is left open


def test_predictive_refuses_what_does_not_fit(posterior, bodies):
    x, y = bodies.test
    with pytest.raises((ValueError, IndexError), match=r"9"):
        plot_predictive(posterior, x, y, output=9)
    with pytest.raises(ValueError, match=r"10.*9|9.*10"):
        plot_predictive(posterior, x, y[:9])
    with pytest.raises(ValueError, match=r"\(10, 19\)"):
        plot_predictive(posterior, x[:, 1:], y)
    assert plt.get_fignums() == []


def of_draws(chains, draws, largest=0.2):
    """Errors of a posterior, the largest of them given."""
    values = np.geomspace(largest / 4, largest, chains * draws).reshape(chains, draws)
    return xr.DataArray(values, dims=["chain", "draw"])


def test_few_draws_are_ticks_and_no_density(tmp_path):
    """Each set of draws says what it is, and has a curve from 8 draws on."""
    cases = {
        "MAP": (of_draws(1, 1), "MAP (one network)", 0),
        "members": (of_draws(7, 1), "members (ensemble of 7)", 0),
        "many members": (of_draws(8, 1), "many members (ensemble of 8)", 1),
        "short chains": (of_draws(2, 3), "short chains (6 draws)", 0),
        "chains": (of_draws(2, 4), "chains (8 draws)", 1),
    }
    for name, (values, label, curves) in cases.items():
        ax = plot_equivariance_density({name: values})
        assert (labels(ax), len(lines(ax))) == ([label], curves)
        assert ax.get_ylabel() == ("posterior density (per decade)" if curves else "")
        np.testing.assert_allclose(ticks(ax)[0].get_xdata(), values.values.reshape(-1))
    together = plot_equivariance_density({name: values for name, (values, _, _) in cases.items()})
    rows = [line.get_ydata()[0] for line in ticks(together)]
    assert len(set(rows)) == len(rows) == 5
    together.get_figure().savefig(tmp_path / "together.png")


def test_ticks_stay_between_the_densities_and_the_axis(posterior, bodies):
    """Each in a row of its own, clear of the labels of the axis, and none at all of more than 100 draws."""
    many = of_draws(1, 400)
    for given in ({"inertia": posterior, "other": of_draws(10, 1), "few": of_draws(3, 1)}, {"few": of_draws(5, 1)}):
        ax = plot_equivariance_density(given | {"Laplace": many}, bodies.test.x)
        ax.figure.canvas.draw()
        baseline, foot = ax.transData.transform((1, 0))[1], ax.bbox.y0
        rows = [line.get_window_extent() for line in ticks(ax)]
        assert [len(line.get_xdata()) for line in ticks(ax)] == [8, 10, 3] if len(given) == 3 else [5]
        assert all(foot <= row.y0 < row.y1 <= baseline + 1 for row in rows)
        assert all(above.y0 >= below.y1 for above, below in itertools.pairwise(rows))
        assert "Laplace (400 draws)" in labels(ax)
        assert min(ax.get_yticks()) == 0


def test_a_legend_hides_nothing_and_fits_even_in_narrow_axes(posterior, bodies):
    figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
    errors = {"modified inertia of bodies": posterior, "Laplace": of_draws(1, 400)}
    for ax in axes:
        plot_equivariance_density(errors, bodies.test.x, ax=ax)
    figure.canvas.draw()
    legends = [ax.get_legend().get_window_extent() for ax in axes]
    assert all(legend.y0 >= ax.bbox.y1 for legend, ax in zip(legends, axes, strict=True))
    assert all(left.x1 <= right.x0 for left, right in itertools.pairwise(legends))
    assert legends[-1].x1 <= figure.bbox.x1


def test_pictures_leave_the_settings_of_matplotlib_alone_and_letters_follow_them(posterior, bodies):
    before = dict(mpl.rcParams)
    small = plot_equivariance_density({"inertia": posterior}, bodies.test.x)
    assert dict(mpl.rcParams) == before
    with mpl.rc_context({"font.size": 20.0}):
        large = plot_predictive(posterior, *bodies.test)
    sizes = [ax.get_legend().get_texts()[0].get_fontsize() for ax in (small, large)]
    assert sizes[1] == pytest.approx(2 * sizes[0])


def test_no_density_lies_beyond_an_error_of_one():
    """Errors lie in [0, 1]; what a kernel would put beyond is reflected."""
    near_one = of_draws(10, 1, largest=1.0)
    [line] = lines(plot_equivariance_density({"near one": near_one}))
    assert line.get_xdata().max() <= 1.0 + 1e-12
    assert np.trapezoid(line.get_ydata(), np.log10(line.get_xdata())) == pytest.approx(1.0, abs=0.01)
    assert line.get_ydata()[-1] > 0
    with pytest.raises(ValueError, match=r"must not exceed 1, got 2"):
        plot_equivariance_density({"no errors": 2 * near_one})


def test_one_draw_and_one_point_are_enough(posterior, bodies):
    single = Posterior(posterior.model, {name: value[:1] for name, value in posterior.samples.items()})
    ax = plot_equivariance_density({"one member": single}, bodies.test.x)
    assert all(len(line.get_xdata()) == 1 for line in ticks(ax))
    assert lines(ax) == []
    assert labels(ax)[-1] == "one member (one network)"
    plot_predictive(single, bodies.test.x[:1], bodies.test.y[:1])
