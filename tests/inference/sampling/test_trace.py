"""What does not fit is refused before the run."""

import pytest
import torch

from bayes_rpp import LogDensity
from inference import SGLD
from inference.sampling import trace

STEPS = SGLD(1e-3, chains=2, draws=1000, warmup=0)


def test_draws_that_do_not_fit_are_refused_with_their_bytes(monkeypatch):
    density = LogDensity(lambda p: -p["z"].square().sum(), {"z": torch.zeros(50, dtype=torch.float64)})
    monkeypatch.setattr(trace, "free_memory", lambda device: 799_999)
    with pytest.raises(ValueError, match=r"2 chain\(s\) of 1,000 draws of 50 coordinates take 800,000 bytes.*thin="):
        STEPS.fit(density, None, seed=0)
    monkeypatch.setattr(trace, "free_memory", lambda device: 800_000)
    assert STEPS.fit(density, None, seed=0).draws == 1000


def test_settings_that_are_no_numbers_are_named():
    with pytest.raises(TypeError, match="step_size must be a number, got '1e-3'"):
        SGLD("1e-3")
