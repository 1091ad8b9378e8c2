"""The picture of where a symmetry breaks: what is on the axes, and that it is drawn."""

from itertools import pairwise

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from analysis import equivariance_error, interval, layer_equivariance_error, plot_symmetry_breaking
from analysis.symmetry.generator_names import generator_names
from analysis.verification.generator_errors import elements_to_try
from bayes_rpp import EMLP, MLP, O, O2eR3, Trivial


@pytest.fixture(autouse=True)
def _no_display():
    mpl.use("Agg")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def posterior(bodies, fit_small):
    return fit_small(bodies, epochs=12, members=4)


def lengths(ax):
    return [bar.get_width() for bar in ax.patches]


def lines(ax):
    """The ends of the intervals, (bar, 2)."""
    return np.concatenate([[segment[:, 0] for segment in part.get_segments()] for part in ax.collections])


def names(ax):
    return [text.get_text().replace("\n", " ") for text in ax.get_yticklabels()]


def assert_drawn(ax, *found):
    np.testing.assert_allclose(lengths(ax), np.concatenate([one.sel(stat="median") for one in found]))
    np.testing.assert_allclose(lines(ax), np.concatenate([one.sel(stat=["lower", "upper"]) for one in found]))


def test_there_is_a_bar_for_each_generator_output_and_layer(posterior, bodies):
    x = bodies.test.x
    generators, outputs, layers = plot_symmetry_breaking(posterior, x)
    elements, owner = elements_to_try(O(3))
    each = equivariance_error(posterior, x, elements=elements, per_element=True)
    means = each.assign_coords(owner=("element", owner.numpy())).groupby("owner").mean("element")
    assert_drawn(generators, interval(means))
    assert names(generators) == generator_names(O(3))
    assert_drawn(outputs, interval(equivariance_error(posterior, x, per_output=True)))
    assert names(outputs) == ["T(2)"]
    found = [layer_equivariance_error(posterior, x, kind=kind) for kind in ("cumulative", "own")]
    assert_drawn(layers, *map(interval, found))
    assert names(layers) == found[0].layer.values.tolist()
    assert [text.get_text() for text in layers.get_legend().get_texts()] == ["up to this layer", "this layer alone"]
    assert [ax.get_title(loc="left") for ax in (generators, outputs, layers)] == [
        "each generator of O(3), ensemble of 4",
        "each output",
        "each layer",
    ]


def test_columns_stand_in_place_of_their_piece(posterior, bodies):
    x, columns = bodies.test.x, [f"I_{i}{j}" for i in "xyz" for j in "xyz"]
    _generators, drawn, _layers = plot_symmetry_breaking(posterior, x, per_column=columns)
    assert_drawn(drawn, interval(equivariance_error(posterior, x, per_column=columns)))
    assert (names(drawn), drawn.get_title(loc="left")) == (columns, "each column")


def test_the_first_is_at_the_top_and_bars_do_not_overlap(posterior, bodies):
    axes = plot_symmetry_breaking(posterior, bodies.test.x)
    axes[0].figure.canvas.draw()
    for ax in axes:
        assert ax.yaxis_inverted()
        assert lines(ax).max() < ax.get_xlim()[1]
        edges = sorted((bar.get_y(), bar.get_y() + bar.get_height()) for bar in ax.patches)
        assert all(below[1] <= above[0] for below, above in pairwise(edges))
        assert min(ax.get_ylim()) < edges[0][0]
        assert max(ax.get_ylim()) > edges[-1][1]
    assert axes[0].get_xlim() == axes[1].get_xlim()
    pixels = {round(bar.get_window_extent().height) for ax in axes[:2] for bar in ax.patches}
    assert max(pixels) - min(pixels) <= 1


def test_it_is_drawn_on_given_axes_against_a_given_group(posterior, bodies, tmp_path):
    figure, given = plt.subplots(1, 3, figsize=(12, 4))
    axes = plot_symmetry_breaking(posterior, bodies.test.x, O2eR3(), axes=given)
    assert all(one is other for one, other in zip(axes, given, strict=True))
    assert names(axes[0]) == generator_names(O2eR3())
    figure.savefig(tmp_path / "breaking.png")
    picture = plt.imread(tmp_path / "breaking.png")[..., :3]
    assert 0.02 < (picture < 0.99).any(-1).mean() < 0.6


def test_an_mlp_has_no_layers_to_draw(fit_small, bodies):
    posterior = fit_small(bodies, MLP)
    axes = plot_symmetry_breaking(posterior, bodies.test.x)
    assert [ax.get_title(loc="left").split(" of ")[0] for ax in axes] == ["each generator", "each output"]
    with pytest.raises(ValueError, match=r"axes must hold 2 axes, for generator, output, got 3"):
        plot_symmetry_breaking(posterior, bodies.test.x, axes=plt.subplots(1, 3)[1])


def test_an_exact_symmetry_is_an_empty_picture(fit_small, bodies):
    for ax in plot_symmetry_breaking(fit_small(bodies, EMLP), bodies.test.x):
        assert max(lengths(ax)) < 1e-2 * ax.get_xlim()[1]


def test_a_group_without_generators_is_refused(posterior, bodies):
    with pytest.raises(ValueError, match=r"Trivial\(3\) has no generators"):
        plot_symmetry_breaking(posterior, bodies.test.x, Trivial(3))
