"""The picture of a comparison."""

import itertools
from dataclasses import replace

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from analysis import plot_comparison
from bayes_rpp import SO, SO2eR3, Trivial

GROUPS = [SO(3), SO2eR3(), Trivial(3)]
NAMES = [str(group) for group in GROUPS]


@pytest.fixture
def _no_display():
    mpl.use("Agg")
    yield
    plt.close("all")


@pytest.mark.usefixtures("_no_display")
def test_the_picture_has_a_panel_for_each_thing_and_a_dot_for_each_model(symmetric, tmp_path, candidates, exactly):
    found = exactly(candidates(), symmetric, test=symmetric, group=SO(3))
    axes = plot_comparison(found)
    assert [ax.get_title(loc="left") for ax in axes] == ["evidence", "test data", "symmetry"]
    for ax, name in zip(axes, ("log_bayes_factor", "test_log_score", "equivariance_error"), strict=True):
        dots = ax.containers[-1].lines[0]
        np.testing.assert_allclose(dots.get_xdata(), found.dataset[name])
    np.testing.assert_allclose([bar.get_width() for bar in axes[0].patches], found.dataset.log_bayes_factor)
    assert [text.get_text() for text in axes[0].get_yticklabels()] == NAMES
    axes[0].figure.savefig(tmp_path / "comparison.png")
    assert 0.005 < (plt.imread(tmp_path / "comparison.png")[..., :3] < 0.99).any(-1).mean() < 0.5
    with pytest.raises(ValueError, match="axes must hold 3 axes, for evidence, test data, symmetry, got 1"):
        plot_comparison(found, axes[:1])


@pytest.mark.usefixtures("_no_display")
def test_large_differences_are_on_a_logarithmic_scale(symmetric, candidates, exactly):
    far, near = (exactly(candidates(), symmetric) for _ in range(2))
    for found, scale in ((far, "symlog"), (near, "linear")):
        values = [0.0, -500.0, -2.0] if scale == "symlog" else [0.0, -20.0, -2.0]
        dataset = found.dataset.assign(log_evidence=("model", values))
        [ax, *_] = plot_comparison(replace(found, dataset=dataset))
        assert ax.get_xscale() == scale
        assert ax.get_xlim()[0] < min(values)


@pytest.mark.usefixtures("_no_display")
def test_the_labels_of_large_differences_do_not_overlap(symmetric, candidates, exactly):
    found = exactly(candidates(), symmetric)
    for lowest in (-150.0, -2e3, -3e4, -4e6):
        [ax, *_] = plot_comparison(
            replace(found, dataset=found.dataset.assign(log_evidence=("model", [0.0, lowest, -2])))
        )
        ax.figure.canvas.draw()
        inside = [label for label in ax.get_xticklabels() if ax.get_xlim()[0] <= label.get_position()[0]]
        assert len(inside) >= 3
        boxes = sorted((label.get_window_extent() for label in inside), key=lambda box: box.x0)
        assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
