"""Models whose variances are parameters: the joint density, its Pyro program, and their files."""

import json
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn
from torch.func import grad, vmap

from bayes_rpp import RPPEMLP, BayesianModel, Gaussian, O, RPPPrior, Scalar, Vector
from bayes_rpp.serialization.models import describe_model, rebuild_model
from tests.error_rate import z_limit
from tests.seeds import shifted

BOTH = {"equivariant_variance": dist.InverseGamma(3.0, 2.0), "dense_variance": dist.HalfCauchy(0.1)}


def make(parametrization="residual", layers=1, learned=False, per_layer=False, **settings):
    torch.manual_seed(0)
    net = RPPEMLP(Vector + Scalar, Vector, O(3), channels=14, layers=layers, parametrization=parametrization).double()
    prior = RPPPrior(**(settings or BOTH))
    prior = prior.per_layer(net) if per_layer else prior
    return BayesianModel(net, prior, Gaussian(noise_variance=0.2, learned=learned))


def data(count=7):
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(count, n, generator=generator, dtype=torch.float64) for n in (4, 3))


def some_params(model, seed=0, **variances):
    params = model.initial_params(seed)
    generator = torch.Generator().manual_seed(seed)
    moved = {n: v + 0.3 * torch.randn(v.shape, generator=generator).double() for n, v in params.items()}
    hyper = {n: params[n] * math.exp(0.1 * (seed + 1)) for n in params if n in model.hyperpriors or "noise" in n}
    return moved | hyper | {n: torch.tensor(v, dtype=torch.float64) for n, v in variances.items()}


every_kind = pytest.mark.parametrize("parametrization", ["residual", "collapsed"])


@every_kind
def test_the_log_prior_is_that_of_the_weights_given_the_variances_and_of_the_variances(parametrization):
    model = make(parametrization, learned=True)
    params = some_params(model, equivariant_variance=1.7, dense_variance=0.02)
    numbers = BayesianModel(model.network, RPPPrior(1.7, 0.02), model.likelihood)
    weights = numbers.log_prior({n: v for n, v in params.items() if n not in model.hyperpriors})
    inverse_gamma = 3 * math.log(2.0) - math.lgamma(3.0) - 4 * math.log(1.7) - 2.0 / 1.7
    half_cauchy = math.log(2 / (math.pi * 0.1)) - math.log1p((0.02 / 0.1) ** 2)
    found = float(model.log_prior(params))
    assert found == pytest.approx(float(weights) + inverse_gamma + half_cauchy, rel=1e-7)


LAWS = [
    dist.HalfCauchy(0.1), dist.InverseGamma(2.0, 1.0), dist.LogNormal(0.0, 1.0), dist.HalfNormal(1.0),
    dist.Gamma(2.0, 1.0), dist.Exponential(1.0),
]  # fmt: skip


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_every_term_of_the_log_prior_is_where_its_value_is(law):
    """On the device that has no memory, which nothing can be copied from; an accelerator would only leave the term."""
    model = BayesianModel(nn.Linear(2, 2), RPPPrior(mlp_variance=law), Gaussian(0.2, learned=True), num_outputs=2)
    params = model.initial_params(0)
    placed = {name: torch.empty(value.shape, device="meta", requires_grad=True) for name, value in params.items()}
    laws = model.distributions(placed)
    assert {laws[name].log_prob(value).device.type for name, value in placed.items()} == {"meta"}
    slopes = torch.autograd.grad(model.log_prior(placed), list(placed.values()))
    assert {slope.device.type for slope in slopes} == {"meta"}


@every_kind
@pytest.mark.parametrize("per_layer", [False, True])
def test_the_pyro_program_has_the_joint_density_and_a_site_for_each_variance(parametrization, per_layer):
    model, (x, y) = make(parametrization, learned=True, per_layer=per_layer), data()
    params = some_params(model)
    trace = poutine.trace(poutine.condition(model.pyro_model, params)).get_trace(x, y)
    torch.testing.assert_close(trace.log_prob_sum(), model.log_joint(params, x, y), rtol=1e-6, atol=1e-6)
    sites = [name for name, node in trace.nodes.items() if node["type"] == "sample" and name != "data"]
    assert sites[: len(model.hyperpriors)] == list(model.hyperpriors)
    assert set(sites) == {*params, "obs"}


@pytest.mark.statistical
def test_the_pyro_programs_draws_have_the_spread_of_their_own_variances():
    model = make(layers=0, dense_variance=dist.LogNormal(0.0, 3.0))
    pyro.set_rng_seed(shifted())
    draws = [poutine.trace(model.pyro_model).get_trace(data()[0]).nodes for _ in range(400)]
    ratios = torch.stack([
        t["network.0.dense"]["value"].square().mean() * 4 / t["dense_variance"]["value"] for t in draws
    ])  # fmt: skip
    standard_error = math.sqrt(2 / 12 / 400)  # of a chi-squared over its 12 degrees of freedom
    assert abs(float(ratios.mean()) - 1) < z_limit() * standard_error


@every_kind
def test_functions_work_under_transforms(parametrization):
    model, (x, y) = make(parametrization, learned=True), data()
    starts = [some_params(model, seed) for seed in range(3)]
    stacked = {name: torch.stack([start[name] for start in starts]) for name in starts[0]}

    def joint(params):
        return model.log_joint(params, x, y)

    torch.testing.assert_close(vmap(joint)(stacked), torch.stack([joint(s) for s in starts]), rtol=1e-12, atol=0)
    gradients = vmap(grad(joint))(stacked)
    for name in (*model.hyperpriors, "noise_variance"):
        step = 1e-6 * starts[1][name]
        above, below = (joint(starts[1] | {name: starts[1][name] + sign * step}) for sign in (1, -1))
        assert float(gradients[name][1]) == pytest.approx(float((above - below) / (2 * step)), rel=1e-5)


def test_variances_are_positive_parameters_between_the_weights_and_the_likelihoods_own():
    model = make(learned=True)
    names = [name for name, _ in model.network.named_parameters()]
    params = model.initial_params(seed=0)
    assert list(params) == list(model.constraints) == [*names, *BOTH, "noise_variance"]
    assert all(model.constraints[name] is torch.distributions.constraints.positive for name in BOTH)
    assert {value.dtype for value in params.values()} == {torch.float64}
    assert list(model.distributions(params)) == list(params)


def test_variances_start_at_their_medians_whatever_the_seed():
    model = make(equivariant_variance=dist.LogNormal(1.5, 2.0), dense_variance=dist.InverseGamma(1.0, 0.3))
    state = torch.get_rng_state()
    first, second = model.initial_params(0), model.initial_params(1)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in model.hyperpriors)
    assert float(first["equivariant_variance"]) == pytest.approx(math.exp(1.5), rel=1e-6)
    # 1 / v is exponential; 1001 draws know the median to 1 / (0.3 sqrt(1001)) of its log
    assert math.log(float(first["dense_variance"])) == pytest.approx(math.log(0.3 / math.log(2)), abs=0.15)
    assert float(make(dense_variance=dist.HalfCauchy(0.25)).initial_params(0)["dense_variance"]) == 0.25


def test_the_output_takes_no_notice_of_variances_and_refuses_other_names():
    model, (x, _) = make(learned=True), data()
    params = some_params(model)
    weights = {name: value for name, value in params.items() if name in dict(model.network.named_parameters())}
    torch.testing.assert_close(model.output(params, x), model.output(weights, x), rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"params hold an unknown parameter 'dense'; the network has \["):
        model.output(params | {"dense": params["network.1.dense"]}, x)
    with pytest.raises(ValueError, match=r"params lack the network's parameter 'network\.1\.dense'"):
        model.output({name: value for name, value in params.items() if name != "network.1.dense"}, x)


def test_priors_of_the_weights_need_the_variances():
    model = make()
    params = some_params(model, dense_variance=0.5)
    assert float(model.distributions(params)["network.1.bias_dense"].dense_variance) == 0.5
    with pytest.raises(ValueError, match=r"params lack the variance 'dense_variance', which has a hyperprior"):
        model.distributions({name: value for name, value in params.items() if name != "dense_variance"})
    with pytest.raises(ValueError, match=r"equivariant_variance, dense_variance have hyperpriors.*distributions"):
        _ = model.prior_distributions


def test_priors_that_depend_on_no_hyperprior_are_made_once():
    model = make(dense_variance=dist.HalfCauchy(0.1))
    first, second = (model.distributions(some_params(model, seed)) for seed in (0, 1))
    same = {name for name in first if first[name] is second[name]}
    assert {name.rsplit(".", 1)[-1] for name in set(first) - same} == {"dense", "bias_dense", "swish"}
    numbers = make(dense_variance=0.1)
    assert numbers.hyperpriors == {}
    assert numbers.prior_distributions == numbers.distributions({})


def test_two_parameters_of_one_name_are_refused():
    class Clash(nn.Module):
        def __init__(self):
            super().__init__()
            self.mlp_variance = nn.Parameter(torch.zeros(3, 1))

        def forward(self, x):
            return x @ self.mlp_variance

    prior = RPPPrior(mlp_variance=dist.HalfCauchy(1.0))
    with pytest.raises(ValueError, match="network and prior both have a parameter named 'mlp_variance'"):
        BayesianModel(Clash(), prior, Gaussian(noise_variance=1.0), num_outputs=1)
    BayesianModel(Clash(), RPPPrior(), Gaussian(noise_variance=1.0), num_outputs=1)


@pytest.mark.parametrize(
    "law",
    [
        dist.HalfCauchy(0.1),
        dist.InverseGamma(2.5, 0.3),
        dist.LogNormal(torch.tensor(-1.3).double(), torch.tensor(0.7).double()),
        dist.HalfNormal(2.0),
        dist.Gamma(2.0, 3.0),
        dist.Exponential(0.1),
        {"": 0.3, "network.0": dist.HalfCauchy(0.2)},
    ],
    ids=lambda law: type(law).__name__,
)
def test_models_with_hyperpriors_come_back_from_json(law):
    model = make(dense_variance=law, pathway_variances=[dist.Gamma(1.0, 2.0)])
    again = rebuild_model(json.loads(json.dumps(describe_model(model))))
    params = some_params(model)
    assert list(again.hyperpriors) == list(model.hyperpriors)
    assert {type(h) for h in again.hyperpriors.values()} == {type(h) for h in model.hyperpriors.values()}
    assert float(again.log_prior(params)) == float(model.log_prior(params))


def test_hyperpriors_of_other_kinds_are_not_described():
    assert describe_model(make(dense_variance=dist.Weibull(1.0, 2.0))) is None
    assert describe_model(make(dense_variance=dist.Chi2(3.0))) is None  # a Gamma, but no plain one


def test_descriptions_of_unknown_hyperpriors_are_refused():
    description = describe_model(make())
    description["prior"]["dense_variance"] = {"hyperprior": "Cauchy", "scale": 1.0}
    with pytest.raises(ValueError, match="the model's description is damaged or of another version"):
        rebuild_model(description)
