"""Pictures of what is kept: one mark for each direction, and an axis with those of the draws."""

import pytest
import torch

from analysis import kept_symmetry, plot_kept_axis, plot_kept_symmetry
from bayes_rpp import SO, BayesianModel, Gaussian, RPPLinear, RPPPrior, Vector
from inference import Posterior
from tests.scenarios.numbers import numbers

VECTOR = Vector(SO(3))


def kept_by(weight):
    network = RPPLinear(VECTOR, VECTOR, bias=False, parametrization="collapsed").double()
    model = BayesianModel(network, RPPPrior(), Gaussian(0.1))
    return kept_symmetry(Posterior(model, {"weight": weight + 0.01 * numbers(8, 1, 3, 3)}), numbers(50, 3))


def test_errors_and_the_axis_are_drawn():
    kept = kept_by(torch.tensor([[1.0, -0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 2.0]]))
    ax = plot_kept_symmetry(kept)
    heights = torch.cat([torch.as_tensor(container.lines[0].get_ydata()) for container in ax.containers])
    expected = torch.as_tensor(kept.local_errors.median(["chain", "draw"]).values)
    torch.testing.assert_close(heights, expected)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "chance",
        "kept: 1 of 3 directions",
        "broken: 2 of 3 directions",
    ]
    assert sum(text.get_text().endswith(" sd") for text in ax.texts) == 3
    sphere = plot_kept_axis(kept)
    _x, _y, z = sphere.lines[0].get_data_3d()  # from one end to the other
    assert abs(z[1] - z[0]) > 2.4
    assert len(sphere.collections[1].get_offsets()) == 8


def test_only_one_axis_can_be_drawn():
    with pytest.raises(ValueError, match="needs one direction that rotates space"):
        plot_kept_axis(kept_by(torch.eye(3)))
