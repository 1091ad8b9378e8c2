"""Engines and diagnostics that differentiate twice give the same numbers in threads as one after the other."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from analysis import local_equivariance_error, log_evidence
from analysis.evidence.laplace import LaplaceEvidence
from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, RPPPrior, Vector
from inference import HMC, MAP, NUTS, Laplace

MODE = MAP(epochs=30, lr=0.05)  # which the search for the mode in free coordinates goes on from
ENGINES = {
    "HMC": HMC(chains=1, draws=3, warmup=20),
    "NUTS": NUTS(chains=1, draws=3, warmup=8),
    "Laplace": Laplace(mode=MODE),
}
SEEDS = range(3)


def model_and_data():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(20, 3, generator=generator) for _ in range(2))
    network = RPPEMLP(Vector, Vector, SO(3), channels=4, layers=1)
    return BayesianModel(network, RPPPrior(), Gaussian(0.1, learned=True)), (x, y)


def agree_in_threads(function):
    expected = [function(seed) for seed in SEEDS]
    with ThreadPoolExecutor(len(SEEDS)) as threads:
        found = list(threads.map(function, SEEDS))
    assert found == expected


@pytest.mark.parametrize("name", list(ENGINES))
@pytest.mark.filterwarnings("ignore")
def test_engines_that_use_second_derivatives_agree_in_threads(name):
    model, data = model_and_data()

    def draws(seed):
        posterior = ENGINES[name].fit(model, data, seed=seed, progress=False)
        return {parameter: value.tolist() for parameter, value in posterior.samples.items()}

    agree_in_threads(draws)


def test_evidences_and_local_errors_agree_in_threads():
    model, data = model_and_data()
    method = LaplaceEvidence("full", mode=MODE)
    agree_in_threads(lambda seed: log_evidence(model, data, method, seed=seed, progress=False).value)
    agree_in_threads(lambda seed: [float(local_equivariance_error(model.network, data[0])) for _ in range(10)])
