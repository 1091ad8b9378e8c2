"""Several members in every cell."""

import math

import numpy as np
import pytest
import torch

from analysis.comparison import sweep_training
from analysis.evidence import LaplaceEvidence
from bayes_rpp import BayesianModel, Gaussian, RPPPrior
from inference import MAP, DeepEnsemble
from inference.density.unconstrained import float64_density
from inference.laplace.expansion import Expansion


def expansion(posterior, data):
    density = float64_density(posterior.model, data, 1.0, torch.device("cpu"))
    with torch.no_grad():
        return Expansion.at(density, density.latest(posterior, 1)[0], "layer")


def test_members_are_fits_of_their_own_and_what_is_said_of_them_are_means(observations, wide, sweep):
    """The fits that an ensemble has; criteria are means over them, errors those of the mean prediction."""
    model, data, test = BayesianModel(wide(), RPPPrior(), Gaussian(0.25)), observations(), observations(seed=1)
    kept = []
    criteria = {"laplace": LaplaceEvidence("layer"), "kept": lambda posterior: kept.append(posterior) or 1.0}
    grid = {"dense_variance": [1e-3, 0.1], "mode": DeepEnsemble(members=2, epochs=4, batch_size=8), "test": test}
    found = sweep(model, data, seed=3, criteria=criteria, **grid)
    alone = sweep(model, data, seed=3, criteria=criteria, **grid | {"mode": MAP(epochs=4, batch_size=8)})
    assert len(kept) == 2 * 2 + 2
    for cell in (0, 1):
        members, single = kept[2 * cell : 2 * cell + 2], kept[4 + cell]
        for name, value in single.samples.items():
            torch.testing.assert_close(members[0].samples[name], value, rtol=1e-8, atol=1e-12)
            assert not torch.allclose(members[1].samples[name], value)
        each = [float(expansion(member, data).log_evidence()) for member in members]
        assert found.laplace.values[cell] == pytest.approx(np.mean(each), rel=1e-9)
        assert found.laplace_error.values[cell] == pytest.approx(abs(each[0] - each[1]) / 2, rel=1e-9)
        mean = torch.stack([member.predict(test[0]).mean for member in members]).mean(0)
        assert found.test_mse.values[cell] == pytest.approx(float((mean - test[1]).square().mean()), rel=1e-6)
    assert found.attrs["members"] == 2
    assert "laplace_error" not in alone


def test_a_member_that_diverges_is_left_out_of_its_cell(monkeypatch, caplog, observations, wide, sweep):
    train = sweep_training.train_cells

    def spoiled(problem, values, progress):
        trained = train(problem, values, progress)
        trained.params["network.1.beta"][[1, 2, 3]] = math.nan  # the second of the first cell, both of the second
        return trained

    monkeypatch.setattr("analysis.comparison.prior_sweep.train_cells", spoiled)
    model, kept = BayesianModel(wide(), RPPPrior(), Gaussian(0.25)), []
    criteria = {"kept": lambda posterior: kept.append(posterior) or 1.0}
    mode = DeepEnsemble(members=2, epochs=2)
    found = sweep(model, observations(), dense_variance=[1e-3, 0.1], mode=mode, criteria=criteria)
    assert found.kept.values[0] == 1.0
    assert np.isnan(found.kept.values[1])
    assert len(kept) == 1
    assert "1 of 2 fits diverged" in caplog.text
    assert "2 of 2 fits diverged" in caplog.text


def test_a_criterion_that_fails_for_a_member_is_the_mean_of_the_others(observations, wide, sweep):
    model, calls = BayesianModel(wide(), RPPPrior(), Gaussian(0.25)), []

    def sometimes(posterior):
        calls.append(posterior)
        if len(calls) == 2:
            raise RuntimeError("no")
        return float(len(calls))

    mode = DeepEnsemble(members=3, epochs=2)
    found = sweep(model, observations(), dense_variance=[1e-3], mode=mode, criteria=[sometimes])
    assert found.sometimes.values == [2.0]
    assert found.sometimes_error.values == pytest.approx([math.sqrt(2) / math.sqrt(2)])
