"""Reliability and rejection, on predictions whose calibration is known."""

import numpy as np
import pytest
import torch

from analysis import accuracy_against_rejection, reliability
from tests.error_rate import agrees


def drawn(count, spread):
    """Probabilities, and labels drawn from them."""
    chances = (spread * torch.randn(count, 4, dtype=torch.float64)).softmax(1)
    return chances, torch.multinomial(chances, 1).squeeze(1)


@pytest.mark.statistical
def test_calibrated_predictions_err_by_chance_alone_and_overconfident_ones_do_not():
    ratios, overconfident = [], []
    for _ in range(20):
        chances, labels = drawn(3000, 1.0)
        found = reliability(chances, labels)
        ratios.append(found.attrs["calibration_error"] / found.attrs["calibration_error_of_chance"])
        sharper = reliability(chances.square() / chances.square().sum(1, keepdim=True), labels)
        overconfident.append(sharper.attrs["calibration_error"] / sharper.attrs["calibration_error_of_chance"])
    assert agrees(torch.tensor(ratios)[:, None], torch.ones(1))
    assert min(overconfident) > 5


def test_summaries_against_sums_over_examples():
    chances, labels = drawn(37, 2.0)
    found = reliability(chances, labels, bins=5)
    right = chances.argmax(1) == labels
    assert int(found["count"].sum()) == 37
    assert float((found["accuracy"] * found["count"]).sum()) == pytest.approx(float(right.sum()))
    assert float((found["confidence"] * found["count"]).sum()) == pytest.approx(float(chances.amax(1).sum()))
    assert found.attrs["error"] == pytest.approx(1 - float(right.double().mean()))
    assert found.attrs["log_loss"] == pytest.approx(float(torch.nn.functional.nll_loss(chances.log(), labels)))
    one_hot = torch.nn.functional.one_hot(labels, 4)
    assert found.attrs["brier"] == pytest.approx(float((chances - one_hot).square().sum(1).mean()))


def test_rejection_leaves_the_surest():
    chances = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.55, 0.45]])
    curve = accuracy_against_rejection(chances, torch.tensor([0, 0, 1, 1]))
    np.testing.assert_allclose(curve.rejected, [0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(curve, [0.5, 2 / 3, 1, 1])


def test_equally_confident_predictions_have_no_order():
    constant, labels = torch.full((10, 2), 0.5), torch.tensor([0] * 4 + [1] * 6)
    np.testing.assert_allclose(accuracy_against_rejection(constant, labels), 0.4)
    np.testing.assert_allclose(reliability(constant, labels, bins=5)["accuracy"], 0.4)


def test_what_are_no_probabilities_or_labels_is_refused():
    chances, labels = torch.full((3, 2), 0.5), torch.tensor([0, 1, 1])
    for wrong, message in (
        ((chances.log(), labels), "its samples are logits"),
        ((chances, labels + 1), "labels must be integers from 0 to 1, got"),
        ((chances, labels.float()), "labels must be integers"),
        ((chances[:2], labels), r"got \(2, 2\) and \(3,\)"),
        ((chances[:0], labels[:0]), "are wanted"),
    ):
        for function in (reliability, accuracy_against_rejection):
            with pytest.raises(ValueError, match=message):
                function(*wrong)
