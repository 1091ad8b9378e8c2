"""Pictures of calibration: every series is drawn, however many there are, and their legend hides none of them."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from analysis import accuracy_against_rejection, plot_rejection, plot_reliability, reliability


@pytest.fixture(autouse=True)
def _no_display():
    mpl.use("Agg")
    yield
    plt.close("all")


@pytest.mark.parametrize("count", [1, 9])
def test_every_series_is_drawn_and_named(count):
    logits = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    labels = logits.argmax(1)
    predicted = {f"network {k}": torch.softmax((0.5 + k) * logits, 1) for k in range(count)}
    found = {name: reliability(each, labels) for name, each in predicted.items()}
    curves = {name: accuracy_against_rejection(each, labels) for name, each in predicted.items()}
    reliable, rejected = plot_reliability(found), plot_rejection(curves)
    assert len(reliable.containers) == len(rejected.get_lines()) == count
    for container, each in zip(reliable.containers, found.values(), strict=True):
        np.testing.assert_allclose(np.asarray(container.lines[0].get_ydata(), float), each["accuracy"])
    names = [text.get_text().split(" (")[0] for text in reliable.get_legend().get_texts()]
    assert sorted(names) == sorted(["calibrated", *predicted])
    assert [text.get_text() for text in rejected.get_legend().get_texts()] == list(predicted)
    for ax in (reliable, rejected):
        ax.figure.canvas.draw()
        assert ax.get_legend().get_window_extent().y0 >= ax.bbox.y1
