"""What is left of a sweep when cells fail or it is interrupted."""

import logging
import math

import numpy as np

from analysis import chosen_cell
from analysis.comparison import sweep_training
from inference import MAP
from inference.training.parameter_stack import ParameterStack


def test_a_cell_that_fails_is_nan_and_the_others_go_on(caplog, observations, linear, sweep):
    def brittle(posterior):
        if posterior.model.prior.dense_variance > 0.1:
            raise RuntimeError("not positive definite")
        return 2.0

    with caplog.at_level(logging.WARNING):
        found = sweep(linear(), observations(), criteria=[brittle], mode=MAP(epochs=1), dense_variance=[0.01, 1.0])
    assert np.isnan(found.brittle.values).tolist() == [False, True]
    assert "brittle failed at" in caplog.text
    assert np.isfinite(found.log_joint).all()
    assert chosen_cell(found) == {"dense_variance": 0.01}


def test_a_cell_that_diverges_is_nan_and_the_others_go_on(monkeypatch, caplog, observations, linear, sweep):
    train = sweep_training.train_cells

    def broken(problem, values, progress):
        trained = train(problem, values, progress)
        trained.params["beta"][1] = math.nan
        return trained

    monkeypatch.setattr("analysis.comparison.prior_sweep.train_cells", broken)
    with caplog.at_level(logging.WARNING):
        found = sweep(linear(), observations(), mode=MAP(epochs=1), dense_variance=[0.01, 0.1, 1.0])
    assert all(np.isnan(found[name].values).tolist() == [False, True, False] for name in found)
    assert "diverged" in caplog.text


def test_an_interrupt_ends_the_training_and_measures_what_there_is(monkeypatch, caplog, observations, linear, sweep):
    steps = []
    step = ParameterStack.step

    def interrupted(self, batch, lr):
        steps.append(len(batch[0]))
        if len(steps) == 6:
            raise KeyboardInterrupt
        return step(self, batch, lr)

    monkeypatch.setattr(ParameterStack, "step", interrupted)
    monkeypatch.setattr("analysis.comparison.prior_sweep.cells_at_once", lambda *_: 2)
    with caplog.at_level(logging.WARNING):
        found = sweep(linear(), observations(), mode=MAP(epochs=50), dense_variance=[1e-3, 0.01, 0.1, 1.0])
    assert np.isnan(found.laplace_symmetric.values).tolist() == [False, False, True, True]
    assert found.epochs.values[:2].tolist() == [5, 5]
    assert "interrupted in epoch 6 of 50" in caplog.text
    assert "2 of 4 cells" in caplog.text
    assert found.attrs["interrupted"] == 1
