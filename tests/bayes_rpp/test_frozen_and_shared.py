"""Frozen parameters stay as they are, and weights that layers share are one parameter."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from analysis import equivariance_error, log_evidence, pathway_shares
from analysis.evidence.laplace import LaplaceEvidence
from bayes_rpp import EMLP, MLP, RPPEMLP, SO, BayesianModel, Gaussian, NormalizedNetwork, RPPPrior, Scalar, Vector
from bayes_rpp.known_variances import model_at
from inference import HMC, MAP, DeepEnsemble, Laplace, Posterior

REPS = 2 * Scalar + 2 * Vector, Vector, SO(3)


def data(count=30):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 8, generator=generator), torch.randn(count, 3, generator=generator)


def frozen_network(*names):
    network = RPPEMLP(*REPS, channels=12, layers=1)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not name.startswith(names))
    return network


def model_of(network, **options):
    return BayesianModel(network, RPPPrior(**options), Gaussian(noise_variance=10.0))  # near its prior, modes are near


def fitted(network, engine=None):
    return (engine or DeepEnsemble(members=2, epochs=3)).fit(model_of(network), data(), seed=0, progress=False)


def test_frozen_parameters_have_no_prior_and_no_draws_and_keep_their_values(subtests):
    network = frozen_network("network.0")
    before, x = copy.deepcopy(network.state_dict()), data()[0]
    model = model_of(network)
    free = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert free == set(model.prior_distributions) == set(model.constraints) == set(model.initial_params(3))
    engines = (
        MAP(epochs=3),
        DeepEnsemble(members=2, epochs=3),
        HMC(chains=1, draws=2, warmup=2, parametrization="given"),
        HMC(chains=1, draws=2, warmup=2, parametrization="collapsed"),
        Laplace(curvature="layer", draws=2, mode=MAP(epochs=3)),
    )
    for engine in engines:
        with subtests.test(msg=repr(engine)):
            posterior = fitted(network, engine)
            assert set(posterior.samples) == free
            last = {name: value[0, 0] for name, value in posterior.samples.items()}
            assert any(not torch.equal(value, before[name]) for name, value in last.items())
            alone = copy.deepcopy(network)
            alone.load_state_dict({**before, **last})
            torch.testing.assert_close(posterior.predict(x).samples[0, 0], alone(x), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.requires_grad == (name in free) for name, parameter in network.named_parameters())


def test_what_happens_to_frozen_values_and_buffers_later_is_not_seen():
    network, x = frozen_network("network.0"), data()[0]
    normalized = NormalizedNetwork.fit(network, *data())
    posterior = fitted(normalized)
    collapsed, known = posterior.in_parametrization("collapsed"), model_at(posterior.bayesian_model, {})
    before = posterior.predict(x).mean
    with torch.no_grad():
        network.network[0].linear.dense.add_(1.0)
        normalized.outputs.mean.add_(5.0)
    network.requires_grad_(True)
    for twin in (posterior, replace(posterior, model=known), replace(posterior, model=model_at(known, {}))):
        assert torch.equal(twin.predict(x).mean, before)
    for twin in (collapsed, posterior.in_parametrization("collapsed")):
        torch.testing.assert_close(twin.predict(x).mean, before, rtol=1e-4, atol=1e-5)
    assert model_of(network).frozen == {}


def test_diagnostics_evidences_and_files_have_the_frozen_values(subtests, tmp_path):
    x, y = data()
    some, every = ("kronecker", "full"), ("kronecker", "symmetric", "layer", "full", "diagonal")
    cases = {("network.0",): some, ("network.1.dense",): some, ("network.1.beta", "network.0.bilinear"): every}
    for names, curvatures in cases.items():
        posterior = fitted(frozen_network(*names))
        model = posterior.bayesian_model
        with subtests.test(msg=str(names)):
            shares = pathway_shares(posterior)
            assert shares.layer.values.tolist() == ["network.0.linear", "network.1"]
            assert float(equivariance_error(posterior, x).max()) <= 1
            for curvature in curvatures:
                method = LaplaceEvidence(curvature, mode=MAP(epochs=3))
                assert math.isfinite(log_evidence(model, (x, y), method, seed=0, progress=False).value)
            folder = posterior.save(tmp_path / str(len(names) + len(names[0])))
            loaded = Posterior.load(folder)
            assert torch.equal(loaded.predict(x).samples, posterior.predict(x).samples)
            assert loaded.bayesian_model.frozen.keys() == model.frozen.keys()
            assert not any(loaded.bayesian_model.network.get_parameter(name).requires_grad for name in model.frozen)
            assert torch.equal(Posterior.load(folder, model).predict(x).samples, posterior.predict(x).samples)
            other = copy.deepcopy(model.network)
            with torch.no_grad():
                other.get_parameter(min(model.frozen)).add_(1.0)
            with pytest.raises(ValueError, match=f"frozen parameter '{min(model.frozen)}' has other values"):
                Posterior.load(folder, model_of(other))
            with pytest.raises(ValueError, match="is frozen in the posterior only"):
                Posterior.load(folder, model_of(copy.deepcopy(other).requires_grad_(True)))


def test_a_layer_that_is_frozen_in_part_has_one_parametrization():
    with pytest.raises(ValueError, match=r"the layer 'network\.1' is frozen in part.*parametrization='given'"):
        fitted(frozen_network("network.1.dense"), HMC(chains=1, draws=2, warmup=2, parametrization="collapsed"))


def test_a_network_without_free_parameters_is_refused():
    network = MLP(*REPS, channels=4).requires_grad_(False)
    with pytest.raises(ValueError, match="every parameter of this MLP is frozen"):
        model_of(network)


class Tied(nn.Module):
    """y = W^T silu(W x)."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.nn.functional.silu(self.first(x)))


def test_a_shared_weight_is_one_parameter_with_one_prior(tmp_path):
    network = Tied()
    model = BayesianModel(network, RPPPrior(), Gaussian(noise_variance=0.1), num_outputs=3)
    assert list(model.prior_distributions) == ["first.weight"]
    x, y = torch.randn(20, 3), torch.randn(20, 3)
    posterior = DeepEnsemble(members=2, epochs=2).fit(model, (x, y), seed=0, progress=False)
    weight = posterior.samples["first.weight"][1, 0]
    expected = torch.nn.functional.silu(x @ weight.mT) @ weight.mT
    torch.testing.assert_close(posterior.predict(x).samples[1, 0], expected, rtol=1e-5, atol=1e-6)
    posterior.save(tmp_path / "tied")
    assert torch.equal(Posterior.load(tmp_path / "tied", model).predict(x).samples, posterior.predict(x).samples)


def test_a_network_that_is_not_what_its_arguments_make_is_not_rebuilt_as_another(tmp_path, caplog):
    shared = EMLP(*REPS, channels=12, layers=3)
    replaced = MLP(*REPS, channels=12, layers=2)
    shared.network[2].linear = shared.network[1].linear
    replaced.network[1] = nn.Tanh()
    for name, network in (("shared", shared), ("replaced", replaced)):
        posterior = fitted(network)
        posterior.save(tmp_path / name)
        assert Posterior.load(tmp_path / name).model is None
        assert "pass model=" in caplog.text
