"""Models, data and the sweep that the tests of sweeps share."""

import pytest
import torch

from analysis import prior_sweep
from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, RPPLinear, RPPPrior, Scalar, Vector
from inference import MAP
from tests.seeds import shifted

REP_IN, REP_OUT = (Vector + Scalar)(SO(3)), Vector(SO(3))


@pytest.fixture(scope="session")
def observations():
    """Inputs, and linear outputs in which the symmetry is broken."""

    def draw(count=30, breaking=0.3, noise=0.5, seed=0):
        generator = torch.Generator().manual_seed(shifted(seed))
        x, rest, e = (torch.randn(count, n, generator=generator, dtype=torch.float64) for n in (4, 3, 3))
        return x, x[:, :3] + breaking * x[:, 3:] * rest.mean(0) + breaking * x[:, [2, 0, 1]] + noise * e

    return draw


@pytest.fixture(scope="session")
def linear():
    """A model whose evidence is known."""

    def make(parametrization="residual", likelihood=None, prior=None):
        layer = RPPLinear(REP_IN, REP_OUT, bias=False, parametrization=parametrization).double()
        return BayesianModel(layer, prior or RPPPrior(), likelihood or Gaussian(0.25))

    return make


@pytest.fixture(scope="session")
def wide():
    """A network that is not linear, in float64."""
    return lambda: RPPEMLP(REP_IN, REP_OUT, SO(3), channels=8, layers=1).double()


@pytest.fixture(scope="session")
def sweep():
    """A sweep with a mode that is found exactly, unless told otherwise."""

    def run(model, data, **options):
        options = {"mode": MAP(epochs=3000, lr=0.05), "device": "cpu", "progress": False, "seed": shifted()} | options
        return prior_sweep(model, data, **options)

    return run
