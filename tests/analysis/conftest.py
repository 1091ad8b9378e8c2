"""Data and posteriors that several tests of the analysis share."""

import pytest
import torch

from bayes_rpp import RPPEMLP, BayesianModel, Gaussian, RPPPrior
from bayes_rpp.datasets import inertia
from inference import DeepEnsemble


@pytest.fixture(scope="session")
def bodies():
    """A few examples of modified inertia."""
    return inertia(train=40, test=10, symmetry_breaking=0.3, seed=2)


@pytest.fixture(scope="session")
def fit_small():
    """A small ensemble, of any network, fitted to data."""

    def fit(data, network=RPPEMLP, dtype=torch.float32, members=3, epochs=4, snapshots=0, **options):
        net = network(data.rep_in, data.rep_out, data.group, channels=16, layers=1, **options).to(dtype)
        model = BayesianModel(net, RPPPrior(), Gaussian(noise_variance=0.2))
        pair = tuple(part.to(dtype) for part in data.train)
        return DeepEnsemble(members=members, epochs=epochs, snapshots=snapshots).fit(model, pair, seed=0)

    return fit
