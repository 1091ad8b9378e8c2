"""The model as a Pyro program: the same joint, and Pyro's own algorithms on it."""

import math

import pyro
import pytest
import torch
from pyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.ops.stats import effective_sample_size
from pyro.poutine.util import site_is_subsample
from torch import nn

from bayes_rpp import MLP, RPPEMLP, SO, BayesianModel, Categorical, Gaussian, O, RPPPrior, S, Scalar, T, Vector
from tests.error_rate import effective_degrees, t_limit
from tests.seeds import shifted


def numbers(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def network(**options):
    torch.manual_seed(0)
    return RPPEMLP(Scalar + Vector, T(2), O(3), channels=14, layers=1, **options)


MODELS = {
    "known noise": lambda: BayesianModel(network(), RPPPrior(), Gaussian(0.3)),
    "learned noise": lambda: BayesianModel(network(), RPPPrior(), Gaussian(0.3, learned=True)),
    "noise of every output": lambda: BayesianModel(network(), RPPPrior(), Gaussian(0.3, learned=True, per_output=True)),
    "collapsed": lambda: BayesianModel(network(parametrization="collapsed"), RPPPrior(), Gaussian(0.3)),
    "classes": lambda: BayesianModel(network(), RPPPrior(), Categorical()),
    "permutations": lambda: BayesianModel(RPPEMLP(Vector, T(2), S(3), channels=8, layers=1), RPPPrior(), Gaussian(0.3)),
    "foreign": lambda: BayesianModel(nn.Linear(4, 9), RPPPrior(), Gaussian(0.3), num_outputs=9),
}
every_model = pytest.mark.parametrize("model", MODELS, indirect=True)


@pytest.fixture
def model(request):
    pyro.clear_param_store()
    pyro.set_rng_seed(shifted())
    yield MODELS[request.param]()
    pyro.clear_param_store()


def data(model, count=6, dtype=torch.float32):
    width = model.network.rep_in.size if hasattr(model.network, "rep_in") else 4
    classes = isinstance(model.likelihood, Categorical)
    return numbers(count, width, dtype=dtype), (
        torch.arange(count) % 9 if classes else numbers(count, 9, seed=1, dtype=dtype)
    )


@every_model
def test_the_programs_log_probability_is_the_log_joint(model):
    model.network.double()
    params, (x, y) = model.initial_params(seed=0), data(model, dtype=torch.float64)
    conditioned = pyro.poutine.condition(model.pyro_model, data=params)
    trace = pyro.poutine.trace(conditioned).get_trace(x, y)
    torch.testing.assert_close(trace.log_prob_sum(), model.log_joint(params, x, y), rtol=1e-11, atol=1e-9)


@every_model
def test_the_program_has_one_site_for_each_parameter_and_the_data(model):
    x, y = data(model)
    trace = pyro.poutine.trace(model.pyro_model).get_trace(x, y)
    sampled = [name for name in trace.stochastic_nodes if not site_is_subsample(trace.nodes[name])]
    assert sampled == list(model.initial_params(seed=0))
    assert trace.observation_nodes == ["obs"]
    for name, value in model.initial_params(seed=0).items():
        assert trace.nodes[name]["value"].shape == value.shape
        assert trace.nodes[name]["value"].dtype == value.dtype
    free = pyro.poutine.trace(model.pyro_model).get_trace(x)
    assert free.nodes["obs"]["value"].shape == y.shape


@every_model
def test_the_program_runs_in_the_networks_own_precision(model):
    model = BayesianModel(model.network.double(), model.prior, model.likelihood, num_outputs=9)
    x, y = data(model, dtype=torch.float64)
    trace = pyro.poutine.trace(model.pyro_model).get_trace(x, y)
    weights = [name for name, _ in model.network.named_parameters()]
    assert {trace.nodes[name]["value"].dtype for name in weights} == {torch.float64}
    assert torch.isfinite(trace.log_prob_sum())


@pytest.mark.statistical
@every_model
def test_variational_inference_runs_unchanged_and_gains(model):
    x, y = data(model)
    guide = AutoNormal(model.pyro_model, init_scale=0.01)
    svi = SVI(model.pyro_model, guide, pyro.optim.Adam({"lr": 0.02}), Trace_ELBO())
    losses = torch.tensor([svi.step(x, y) for _ in range(60)])
    assert torch.isfinite(losses).all()
    assert losses[-10:].mean() < losses[:10].mean()


@pytest.mark.parametrize("model", ["known noise", "learned noise", "collapsed"], indirect=True)
def test_nuts_runs_unchanged(model):
    x, y = data(model)
    sampler = MCMC(NUTS(model.pyro_model, max_tree_depth=3), 3, warmup_steps=3, disable_progbar=True)
    sampler.run(x, y)
    for name, draws in sampler.get_samples().items():
        assert draws.shape == (3, *model.initial_params(seed=0)[name].shape)
        assert torch.isfinite(draws).all()
        assert model.constraints[name].check(draws).all()


def test_nuts_takes_a_layer_whose_bias_has_no_invariant_part():
    model = BayesianModel(RPPEMLP(Vector, Vector, SO(2), layers=0), RPPPrior(), Gaussian(0.5))
    assert model.network.network[0].bias_beta is None
    pyro.set_rng_seed(0)
    sampler = MCMC(NUTS(model.pyro_model, max_tree_depth=3), 3, warmup_steps=3, disable_progbar=True)
    sampler.run(numbers(5, 2), numbers(5, 2, seed=1))
    assert sampler.get_samples()["network.0.dense"].shape == (3, 2, 2)


def test_nuts_takes_a_network_whose_bilinear_layer_has_no_terms():
    model = BayesianModel(RPPEMLP(Vector, Vector, SO(2), channels=2 * Scalar, layers=1), RPPPrior(), Gaussian(0.5))
    pyro.set_rng_seed(0)
    sampler = MCMC(NUTS(model.pyro_model, max_tree_depth=3), 3, warmup_steps=3, disable_progbar=True)
    sampler.run(numbers(5, 2), numbers(5, 2, seed=1))
    assert sampler.get_samples()["network.0.linear.dense"].shape == (3, 2, 2)


def posterior_of_weights(layer, x, y, wide, narrow, noise):
    """Mean and covariance of (vec W, b) for y = W x + b + e, from the normal equations."""
    m, one = layer.rep_out.size, torch.eye(layer.rep_out.size)
    features = torch.cat([torch.cat([torch.kron(one, v[None]), one], 1) for v in x]).double()
    spans = [layer.basis.dense(), layer.bias_basis.dense()]
    prior = torch.block_diag(*[wide * q @ q.mT + narrow * torch.eye(len(q)).double() for q in spans])
    assert features.shape == (m * len(x), len(prior))
    covariance = torch.linalg.inv(torch.linalg.inv(prior) + features.mT @ features / noise)
    return covariance @ features.mT @ y.double().flatten() / noise, covariance


@pytest.mark.statistical
@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
def test_nuts_finds_the_known_posterior_of_a_linear_model(parametrization):
    net = RPPEMLP(Vector, Scalar + Vector, SO(2), layers=0, parametrization=parametrization)
    model = BayesianModel(net, RPPPrior(1.0, 0.4, scaling="none"), Gaussian(0.5))
    x, y, layer, count = numbers(8, 2), numbers(8, 3, seed=1), net.network[0], 400
    mean, covariance = posterior_of_weights(layer, x, y, 1.0, 0.4, 0.5)
    pyro.set_rng_seed(shifted())
    sampler = MCMC(NUTS(model.pyro_model, max_tree_depth=6), count, warmup_steps=150, disable_progbar=True)
    sampler.run(x, y)
    draws = {name.removeprefix("network.0."): value for name, value in sampler.get_samples().items()}
    if parametrization == "residual":
        weight = layer.basis.expand(draws["beta"]) + draws["dense"].flatten(1)
        bias = layer.bias_basis.expand(draws["bias_beta"]) + draws["bias_dense"]
    else:
        weight, bias = draws["weight"].flatten(1), draws["bias"]
    z = (torch.cat([weight, bias], 1).double() - mean) / covariance.diagonal().sqrt()
    effective = effective_sample_size(z[None].float(), chain_dim=0, sample_dim=1).clamp(max=count)
    limit = t_limit(2 * len(mean), effective_degrees(float(effective.min())))
    assert (z.mean(0).abs() < limit / effective.sqrt()).all()
    assert ((z.square().mean(0) - 1).abs() < limit * math.sqrt(2) / effective.sqrt()).all()
    assert (mean.abs() > limit * (covariance.diagonal() / effective).sqrt()).any()


def test_predictive_draws_from_the_prior():
    model = BayesianModel(MLP(Vector, T(2), SO(3), channels=9, layers=1), RPPPrior(), Gaussian(0.3))
    pyro.set_rng_seed(0)
    draws = Predictive(model.pyro_model, num_samples=5)(numbers(7, 3))
    assert draws["obs"].shape == (5, 7, 9)
    assert torch.isfinite(draws["obs"]).all()
