"""The noise that ``fit`` takes from left-out rows."""

from argparse import Namespace

import pytest
import torch

from analysis.cli.fitting.noise import calibrated, left_out_noise
from bayes_rpp import RPPEMLP, BayesianModel, Gaussian, NormalizedNetwork, RPPPrior, Scalar, Trivial
from tests.scenarios.numbers import numbers

OPTIONS = Namespace(engine="ensemble", members=2, epochs=60, batch_size=100, lr=1e-2, seed=0, device="cpu")


def test_the_noise_is_found_in_its_own_units_and_for_each_copy():
    x, error = numbers(1, 400, 2)[0].float(), numbers(2, 400, 2)[1].float()
    y = torch.tensor([1.0, 100.0]) * (x @ torch.tensor([[1.0, 0.3], [0.2, 1.0]]) + torch.tensor([0.5, 0.05]) * error)
    group = Trivial(1)
    network = RPPEMLP((2 * Scalar)(group), (2 * Scalar)(group), group, channels=16, layers=1)
    model = BayesianModel(NormalizedNetwork.fit(network, x, y), RPPPrior(), Gaussian(1.0))
    _, predicting = left_out_noise(model, (x, y), OPTIONS)
    ratio = torch.tensor(predicting.likelihood.noise_variance) / torch.tensor([0.25, 25.0])
    assert 0.5 < ratio[0] < 2  # 80 rows give it to a sixth
    assert 0.5 < ratio[1] < 10  # the network's own error counts


def test_what_is_learned_well_is_trained_for_the_assumed_noise():
    x, group = numbers(1, 400, 2)[0].float(), Trivial(1)
    y = x @ torch.tensor([[1.0], [0.3]])
    network = RPPEMLP((2 * Scalar)(group), Scalar(group), group, channels=16, layers=1)
    normalized = NormalizedNetwork.fit(network, x, y)
    trained, predicting = left_out_noise(BayesianModel(normalized, RPPPrior(), Gaussian(1.0)), (x, y), OPTIONS)
    assert trained.likelihood.noise_variance == pytest.approx([0.01 * float(normalized.outputs.scale) ** 2])
    assert predicting.likelihood.noise_variance != trained.likelihood.noise_variance


def test_intervals_with_the_calibrated_noise_hold_nine_tenths():
    spread = numbers(1, 5000, 3)[0].square() / 10
    for errors in (numbers(2, 5000, 3)[1], numbers(2, 5000, 3)[0] / numbers(3, 5000, 3)[2].abs().clamp_min(0.1)):
        noise = calibrated(errors.square(), spread)
        held = (errors.abs() <= 1.6448536 * (spread + noise).sqrt()).double().mean()
        assert abs(float(held) - 0.9) < 1e-3
    few = torch.arange(1.0, 10.0)[:, None].double()
    assert calibrated(few, torch.zeros_like(few)) * 1.6448536**2 == pytest.approx(9.0)  # of nine errors the largest
    assert calibrated(torch.zeros(10, 1), torch.ones(10, 1)) == 0


def test_a_single_row_to_train_on_has_the_first_guess():
    x, y, group = torch.ones(1, 1), torch.ones(1, 1), Trivial(1)
    network = RPPEMLP(Scalar(group), Scalar(group), group, channels=4, layers=1)
    model = BayesianModel(NormalizedNetwork.fit(network, x, y), RPPPrior(), Gaussian(1.0))
    for found in left_out_noise(model, (x, y), OPTIONS):
        assert found.likelihood.noise_variance == pytest.approx([0.01])
