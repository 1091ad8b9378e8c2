"""Evaluating a model is pure: right in threads, in evaluation mode, and without a trace in what the user holds."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from analysis import equivariance_error, layer_equivariance_error
from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, RPPPrior, Vector
from bayes_rpp.stateless import StatelessNetwork
from inference import MAP, DeepEnsemble, Posterior

X = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))


def small():
    torch.manual_seed(0)
    return BayesianModel(RPPEMLP(Vector, Vector, SO(3), channels=8, layers=1), RPPPrior(), Gaussian(0.1))


def dropping():
    """A network with dropout and with a normalisation that an earlier training has left statistics."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    net(3 * torch.randn(64, 3) + 1)
    return net


def everything(network):
    """What evaluation could change: tensors, modes, hooks, and the global random state."""
    tensors = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    hooks = [len(module._forward_hooks) for module in network.modules()]
    return tensors, modes, hooks, torch.random.get_rng_state()


def same(before, after):
    tensors = all(torch.equal(value, after[0][name]) for name, value in before[0].items())
    return tensors and before[1:3] == after[1:3] and torch.equal(before[3], after[3])


def test_threads_with_posteriors_of_one_model_predict_what_each_predicts_alone():
    model = small()
    posteriors = [
        Posterior(model, {name: value[None, None] for name, value in model.initial_params(seed).items()})
        for seed in range(4)
    ]
    alone = [posterior.predict(X).mean for posterior in posteriors]
    before = everything(model.network)

    def wrong(thread):
        return sum(not torch.equal(posteriors[thread % 4].predict(X).mean, alone[thread % 4]) for _ in range(10))

    with ThreadPoolExecutor(200) as pool:
        assert sum(pool.map(wrong, range(200))) == 0
    assert same(before, everything(model.network))
    MAP(epochs=1).fit(model, (X, X), seed=0, progress=False)


def test_initial_states_in_threads_are_those_of_their_seeds():
    model, state = small(), torch.random.get_rng_state()
    alone = [model.initial_params(seed) for seed in range(40)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(model.initial_params, range(40)))
    assert all(torch.equal(a[name], b[name]) for a, b in zip(alone, together, strict=True) for name in a)
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_network_in_training_mode_is_evaluated_and_left_as_it_is():
    network = dropping().train()
    model = BayesianModel(network, RPPPrior(), Gaussian(0.1), num_outputs=3)
    before = everything(network)
    posterior = Posterior(
        model, {name: value.detach()[None, None].clone() for name, value in network.named_parameters()}
    )
    first, second = posterior.predict(X).mean, posterior.predict(X).mean
    assert torch.equal(first, second)
    assert same(before, everything(network))
    torch.testing.assert_close(first, copy.deepcopy(network).eval()(X).detach())
    trained = DeepEnsemble(members=2, epochs=3).fit(model, (X, X), seed=0, progress=False)
    assert torch.equal(trained.predict(X).mean, trained.predict(X).mean)
    assert same(before, everything(network))


def test_diagnostics_of_a_network_leave_it_as_it_is():
    network = small().network.train()
    before = everything(network)
    for measure in (equivariance_error, layer_equivariance_error):
        assert measure(network, X).equals(measure(network, X))
    assert same(before, everything(network))


def test_layers_that_need_the_batch_are_refused_by_name():
    for norm in (nn.BatchNorm1d(8), nn.BatchNorm1d(8, track_running_stats=False)):
        network = nn.Sequential(nn.Linear(3, 8), norm, nn.Linear(8, 3))
        with pytest.raises(ValueError, match=r"the layer '1' is a BatchNorm1d .*Take nn.GroupNorm or nn.LayerNorm"):
            BayesianModel(network, RPPPrior(), Gaussian(0.1), num_outputs=3)


def test_a_model_sees_the_type_and_the_buffers_that_the_network_has_now():
    network = dropping()
    f = StatelessNetwork(network)
    params = {name: value.detach() for name, value in network.named_parameters()}
    f(params, X)
    network.double()
    network[1].running_mean += 1.0
    params = {name: value.detach() for name, value in network.named_parameters()}
    torch.testing.assert_close(f(params, X.double()), copy.deepcopy(network).eval()(X.double()).detach())


def test_models_are_copied_and_pickled():
    model = small()
    params = model.initial_params(0)
    expected = model.output(params, X)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model.stateless)), model.to(torch.device("cpu"))):
        output = other(params, X) if isinstance(other, StatelessNetwork) else other.output(params, X)
        assert torch.equal(output, expected)
