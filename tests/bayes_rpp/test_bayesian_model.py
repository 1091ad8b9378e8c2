"""The joint density: its parts, its calculus, its door."""

import inspect
import math
import typing

import pytest
import torch
from torch import nn
from torch.func import grad, jvp, vmap

from bayes_rpp import (
    EMLP,
    MLP,
    RPPEMLP,
    SO,
    BayesianModel,
    Categorical,
    Gaussian,
    LogDensity,
    NormalizedNetwork,
    O,
    RPPPrior,
    Scalar,
    T,
    Vector,
)
from bayes_rpp.bases.equivariant import equivariant_maps
from tests.scenarios.numbers import numbers

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")


def network(kind=RPPEMLP, **options):
    torch.manual_seed(0)
    return kind(Scalar + Vector, T(2), O(3), channels=14, layers=1, **options).double()


MODELS = {
    "known noise": lambda: BayesianModel(network(), RPPPrior(), Gaussian(0.3)),
    "learned noise": lambda: BayesianModel(network(), RPPPrior(), Gaussian(0.3, learned=True)),
    "noise of every output": lambda: BayesianModel(network(), RPPPrior(), Gaussian(0.3, learned=True, per_output=True)),
    "collapsed": lambda: BayesianModel(network(parametrization="collapsed"), RPPPrior(), Gaussian(0.3)),
    "EMLP": lambda: BayesianModel(network(EMLP), RPPPrior(), Gaussian(0.3)),
    "MLP": lambda: BayesianModel(network(MLP), RPPPrior(), Gaussian(0.3)),
    "classes": lambda: BayesianModel(network(), RPPPrior(), Categorical()),
}
every_model = pytest.mark.parametrize("model", MODELS, indirect=True)


@pytest.fixture
def model(request):
    return MODELS[request.param]()


def data(model, count=6):
    x = numbers(count, 4)
    return x, (torch.arange(count) % 9 if isinstance(model.likelihood, Categorical) else numbers(count, 9, seed=1))


def close(actual, expected, tolerance=1e-10):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@every_model
def test_the_joint_is_the_prior_plus_the_scaled_likelihood(model):
    params, (x, y) = model.initial_params(seed=0), data(model)
    prior = sum(float(d.log_prob(params[name])) for name, d in model.prior_distributions.items())
    likelihood = model.likelihood.log_prob(model.output(params, x), y, params)
    close(float(model.log_prior(params)), prior)
    close(model.log_likelihood_per_example(params, x, y), likelihood)
    close(model.log_likelihood(params, x, y), likelihood.sum())
    close(float(model.log_joint(params, x, y)), prior + float(likelihood.sum()))
    close(float(model.log_joint(params, x[:2], y[:2], num_data=6)), prior + 3 * float(likelihood[:2].sum()))


@every_model
def test_minibatches_are_unbiased(model):
    params, (x, y) = model.initial_params(seed=0), data(model)
    parts = [model.log_joint(params, x[i : i + 2], y[i : i + 2], num_data=6) for i in (0, 2, 4)]
    close(torch.stack(parts).mean(), model.log_joint(params, x, y))


def test_the_prior_of_weights_is_the_normal_written_out():
    model = BayesianModel(network(MLP), RPPPrior(mlp_variance=0.5, scaling="none"), Gaussian(0.3))
    theta = torch.cat([p.flatten() for p in model.initial_params(seed=0).values()])
    expected = -0.5 * theta.square().sum() / 0.5 - 0.5 * len(theta) * math.log(2 * math.pi * 0.5)
    close(model.log_prior(model.initial_params(seed=0)), expected)


@every_model
def test_the_joint_works_under_grad_vmap_and_jvp(model):
    (x, y), starts = data(model), [model.initial_params(seed=s) for s in range(3)]
    stacked = {name: torch.stack([start[name] for start in starts]) for name in starts[0]}

    def joint(params):
        return model.log_joint(params, x, y, num_data=60)

    close(vmap(joint)(stacked), torch.stack([joint(start) for start in starts]))
    gradients = vmap(grad(joint))(stacked)
    leaves = {name: value.clone().requires_grad_() for name, value in starts[1].items()}
    by_autograd = torch.autograd.grad(joint(leaves), list(leaves.values()))
    for name, gradient in zip(leaves, by_autograd, strict=True):
        close(gradients[name][1], gradient, 1e-9)
    tangent = {name: numbers(*value.shape, seed=5) for name, value in starts[1].items()}
    _, slope = jvp(joint, (starts[1],), (tangent,))
    close(slope, sum((g * tangent[name]).sum() for name, g in zip(leaves, by_autograd, strict=True)), 1e-9)


@every_model
def test_parameters_have_constraints_and_initial_values_that_keep_them(model):
    params = model.initial_params(seed=0)
    names = [name for name, _ in model.network.named_parameters()]
    noise = ["noise_variance"] if getattr(model.likelihood, "learned", False) else []
    assert list(params) == list(model.constraints) == list(model.prior_distributions) == names + noise
    assert all(model.constraints[name].check(value).all() for name, value in params.items())
    assert all(model.constraints[name] is torch.distributions.constraints.real for name in names)
    assert {value.dtype for value in params.values()} == {torch.float64}


@every_model
def test_initial_parameters_go_by_the_seed_and_change_nothing_else(model):
    before = {name: p.detach().clone() for name, p in model.network.named_parameters()}
    state = torch.get_rng_state()
    first, again, other = (model.initial_params(seed=s) for s in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    for name, value in before.items():
        assert torch.equal(value, model.network.get_parameter(name))
        assert torch.equal(first[name], again[name])
    drawn = [n for n in before if n.endswith(("beta", "dense", "weight")) and "bias" not in n and before[n].numel()]
    assert drawn
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


def test_initial_parameters_are_those_of_a_fresh_network():
    model = BayesianModel(network(), RPPPrior(), Gaussian(0.3))
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.fill_(7.0)
    params = model.initial_params(seed=0)
    assert all((value != 7.0).all() for value in params.values())
    assert all(torch.equal(value, torch.zeros_like(value)) for name, value in params.items() if "bias" in name)


def test_initial_parameters_leave_buffers_alone():
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double()
    net(5 + numbers(50, 3))
    running = net[1].running_mean.clone()
    BayesianModel(net, RPPPrior(), Gaussian(0.3), num_outputs=2).initial_params(seed=0)
    assert torch.equal(net[1].running_mean, running)


def test_a_foreign_network_says_how_many_outputs_it_has():
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    with pytest.raises(ValueError, match="this network has no `rep_out`: tell BayesianModel its num_outputs"):
        BayesianModel(net, RPPPrior(), Gaussian(0.3))
    model = BayesianModel(net, RPPPrior(), Gaussian(0.3, learned=True, per_output=True), num_outputs=2)
    x, y, params = numbers(5, 3), numbers(5, 2), model.initial_params(seed=0)
    assert params["noise_variance"].shape == (2,)
    hidden = (x @ params["0.weight"].mT + params["0.bias"]).tanh()
    close(model.output(params, x), hidden @ params["2.weight"].mT + params["2.bias"])
    model.check_data(x, y)
    assert torch.isfinite(model.log_joint(params, x, y))


def test_a_normalized_network_is_a_network():
    net, x, y = network(), numbers(20, 4), numbers(20, 9, seed=1)
    model = BayesianModel(NormalizedNetwork.fit(net, 1e3 * x, 1e-3 * y), RPPPrior(), Gaussian(1e-6))
    params = model.initial_params(seed=0)
    assert model.num_outputs == 9
    assert all(name.startswith("network.network.") for name in params)
    assert torch.isfinite(model.log_joint(params, 1e3 * x, 1e-3 * y))


def test_a_network_with_a_parameter_of_the_likelihoods_name_is_refused():
    net = nn.Linear(3, 2)
    net.register_parameter("noise_variance", nn.Parameter(torch.ones(())))
    with pytest.raises(ValueError, match="both have a parameter named 'noise_variance'"):
        BayesianModel(net, RPPPrior(), Gaussian(0.3, learned=True), num_outputs=2)


@every_model
def test_data_that_fit_are_taken(model):
    assert model.check_data(*data(model)) is None


def test_a_joint_without_data_is_refused():
    model = MODELS["known noise"]()
    with pytest.raises(ValueError, match="needs data: x and y"):
        model.log_joint(model.initial_params(seed=0), None, None)


@pytest.mark.parametrize("kind", [BayesianModel, LogDensity])
def test_annotations_can_be_read(kind):
    for name, method in inspect.getmembers(kind, inspect.isfunction):
        assert "return" in typing.get_type_hints(method), name


def test_the_networks_own_weights_are_not_used():
    model = MODELS["known noise"]()
    params, (x, y) = model.initial_params(seed=0), data(model)
    before = model.log_joint(params, x, y)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.zero_()
    assert torch.equal(model.log_joint(params, x, y), before)


@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
def test_a_linear_models_evidence_is_the_gaussian_marginal(parametrization):
    """log p(y) = log p(y, theta) - log p(theta | y), with the posterior from the joint's own gradient and Hessian."""
    net = RPPEMLP(Vector, Vector, SO(2), layers=0, parametrization=parametrization).double()
    model = BayesianModel(net, RPPPrior(2.0, 0.1, scaling="none"), Gaussian(0.3))
    x, y = numbers(5, 2), numbers(5, 2, seed=1)
    shapes = {name: p.shape for name, p in net.named_parameters() if p.numel()}
    empty = {name: p.detach() for name, p in net.named_parameters() if not p.numel()}

    def joint(flat):
        parts = flat.split([shape.numel() for shape in shapes.values()])
        return model.log_joint({n: v.reshape(s) for (n, s), v in zip(shapes.items(), parts, strict=True)} | empty, x, y)

    zero = torch.zeros(sum(shape.numel() for shape in shapes.values())).double()
    precision = -torch.func.hessian(joint)(zero)
    mean = torch.linalg.solve(precision, grad(joint)(zero))
    posterior = torch.distributions.MultivariateNormal(mean, precision_matrix=precision)
    q = equivariant_maps(Vector(SO(2)), Vector(SO(2))).dense()
    weights = 2.0 * q @ q.mT + 0.1 * torch.eye(4).double()
    features = torch.cat([torch.kron(torch.eye(2).double(), v[None]) for v in x])
    covariance = features @ weights @ features.mT + torch.kron(
        torch.ones(5, 5).double(), 0.1 * torch.eye(2, dtype=torch.float64)
    )
    marginal = torch.distributions.MultivariateNormal(
        torch.zeros(10).double(), covariance + 0.3 * torch.eye(10).double()
    )
    close(joint(mean) - posterior.log_prob(mean), marginal.log_prob(y.flatten()), 1e-9)


@pytest.mark.parametrize("which", ["x", "y"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused_with_their_index(which, bad):
    x, y = torch.ones(6, 4), torch.ones(6, 9)
    {"x": x, "y": y}[which][3, 2] = bad
    with pytest.raises(ValueError, match=rf"{which} holds 1 NaN or infinite number\(s\), the first at index \(3, 2\)"):
        MODELS["known noise"]().check_data(x, y)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(3, 4), torch.zeros(2, 9), "x has 3 examples and y has 2"),
        (torch.zeros(0, 4), torch.zeros(0, 9), "there must be some"),
        (torch.zeros(3, 5), torch.zeros(3, 9), r"x has shape \(3, 5\), but rep_in = .* expected \(batch, 4\)"),
        (torch.zeros(3, 2, 4), torch.zeros(3, 9), r"x has shape \(3, 2, 4\)"),
        (torch.zeros(3, 4), torch.zeros(3, 8), r"y has shape \(3, 8\), but the network has 9 outputs"),
    ],
)
def test_data_that_do_not_fit_are_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        MODELS["known noise"]().check_data(x, y)


def test_a_model_goes_to_devices_that_are_there():
    model = BayesianModel(RPPEMLP(Vector, Scalar, SO(3), layers=0), RPPPrior(), Gaussian(0.1))
    for device in ("cudaa", "cuda:99", 99.0):
        with pytest.raises(ValueError, match=f"one that this machine and this torch have, 'cpu'.*, got {device!r}"):
            model.to(device)
    assert model.to(torch.device("cpu"), torch.float64).initial_params(0)["network.0.dense"].dtype == torch.float64
