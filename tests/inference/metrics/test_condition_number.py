"""Lanczos' bound on the condition number, against the exact one."""

import pytest
import torch

from bayes_rpp import RPPEMLP, BayesianModel, Gaussian, O, RPPPrior, Scalar, Vector
from inference.density.unconstrained import UnconstrainedDensity
from inference.metrics import condition_number as module
from inference.metrics.condition_number import condition_number
from inference.metrics.preconditioned import PreconditionedDensity


@pytest.mark.parametrize("metric", ["identity", "diagonal"])
def test_lanczos_takes_float32_networks_with_learned_noise(metric, monkeypatch):
    """The prior of the noise is in float64, the network in float32."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 4, generator=generator), torch.randn(20, 3, generator=generator)
    network = RPPEMLP(Vector + Scalar, Vector, O(3), layers=0)
    model = BayesianModel(network, RPPPrior(dense_variance=0.1), Gaussian(0.2, learned=True))
    density = UnconstrainedDensity(model, (x, y))
    z = density.initial([0])
    preconditioned = PreconditionedDensity(density, metric, z)
    assert density.dtype == torch.float32
    exact = condition_number(preconditioned, z[0])
    monkeypatch.setattr(module, "_DENSE", 0)
    found = condition_number(preconditioned, z[0])
    assert found == pytest.approx(exact, rel=1e-2)
    assert found > 1.5
