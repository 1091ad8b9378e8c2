"""What chains of a network are told that are given no start."""

import re

import pytest
from pyro.distributions import HalfCauchy

import bayes_rpp
import inference
from bayes_rpp import MLP, SO, BayesianModel, Gaussian, LogDensity, RPPPrior, Scalar
from inference import HMC, NUTS, SGHMC, SGLD
from tests.scenarios.numbers import numbers

PLAIN = RPPPrior()
SHORT = {"draws": 1, "warmup": 1, "chains": 2}
SAMPLERS = [
    HMC(metric="diagonal", trajectory_length=0.1, **SHORT),
    NUTS(max_tree_depth=1, **SHORT),
    SGLD(1e-6, **SHORT),
    SGHMC(1e-4, **SHORT),
]


def fitted(sampler, channels, caplog, prior=PLAIN, start=None):
    """The posterior and the advice; an MLP from one number to one has 3 channels + 1 parameters."""
    x = numbers(10, 1).float()
    model = BayesianModel(MLP(Scalar, Scalar, SO(3), channels=channels, layers=1), prior, Gaussian(0.2))
    caplog.clear()
    sampler.fit(model, (x, x), seed=0, start=start, progress=False)
    return model, (x, x), [record.getMessage() for record in caplog.records if "start=" in record.getMessage()]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
@pytest.mark.parametrize("prior", [PLAIN, RPPPrior(mlp_variance=HalfCauchy(2.0))], ids=["numbers", "hyperprior"])
def test_chains_of_a_network_are_told_a_start_that_can_be_typed(sampler, prior, caplog, monkeypatch):
    model, data, advice = fitted(sampler, 40, caplog, prior)
    [(count, line)] = re.findall(r"posterior of (\d+) parameters .* Start them at modes: start=(.*)\.$", advice[0])
    assert int(count) == sum(value.numel() for value in model.initial_params(0).values()) >= 121
    assert "DeepEnsemble(members=2)" in line
    short = line.replace("members=2", "members=2, epochs=3")
    start = eval(short, {**vars(bayes_rpp), **vars(inference), "model": model, "data": data})
    assert fitted(sampler, 40, caplog, prior, start)[2] == []


def test_small_networks_and_log_densities_are_told_nothing(caplog):
    for sampler in SAMPLERS:
        assert fitted(sampler, 32, caplog)[2] == []
    density = LogDensity(lambda p: -p["z"].square().sum() / 2, {"z": numbers(200)})
    SAMPLERS[2].fit(density, None, seed=0)
    assert caplog.records == []


def test_one_chain_is_told_a_map(caplog):
    [advice] = fitted(SGLD(1e-6, draws=1, warmup=1, chains=1), 40, caplog)[2]
    assert advice.endswith("Start them at modes: start=MAP().fit(model, data, seed=0).")
