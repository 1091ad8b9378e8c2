"""Samplers have the exact posterior of variances: of linear models, where the weights integrate out, on a grid."""

import functools

import pyro.distributions as dist
import pytest
import torch
from torch import nn

from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, RPPLinear, RPPPrior, Scalar, Vector
from inference import HMC, NUTS, SGHMC, SGLD
from inference.density.noncentred import NonCentredDensity
from inference.density.unconstrained import UnconstrainedDensity
from tests import error_rate
from tests.seeds import shifted

NOISE = 0.3
BROAD = dist.LogNormal(*torch.tensor([0.0, 0.8]).double())
NARROW = dist.InverseGamma(*torch.tensor([2.0, 0.2]).double())
HYPER = {"equivariant_variance": BROAD, "dense_variance": NARROW}
FIXED = {"equivariant_variance": 1.5, "dense_variance": 0.1}
BOTH, DENSE = tuple(HYPER), ("dense_variance",)
LAYERS = ("dense_variance[first]", "dense_variance[second]")


class Parallel(nn.Module):
    """A sum of two layers, each of its own inputs."""

    def __init__(self, parametrization):
        super().__init__()
        reps = (Vector(SO(3)), Vector(SO(3)))
        self.first, self.second = (RPPLinear(*reps, bias=False, parametrization=parametrization) for _ in range(2))

    def forward(self, x):
        return self.first(x[..., :3]) + self.second(x[..., 3:])


@functools.cache
def problem(parametrization, names):
    """A linear model with hyperpriors, and data."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(shifted(2))
    prior = RPPPrior(**FIXED | {name: HYPER[name] for name in names if name in HYPER}, scaling="none")
    if names == LAYERS:
        net = Parallel(parametrization).double()
        prior = RPPPrior(1.5, NARROW, scaling="none").per_layer(net)
    else:
        net = RPPEMLP(Vector + Scalar, Vector, SO(3), layers=0, parametrization=parametrization).double()
    x = torch.randn(8, 6 if names == LAYERS else 4, generator=generator, dtype=torch.float64)
    weight = torch.randn(3, x.shape[1], generator=generator, dtype=torch.float64)
    y = x @ weight.mT + NOISE**0.5 * torch.randn(8, 3, generator=generator, dtype=torch.float64)
    return BayesianModel(net, prior, Gaussian(noise_variance=NOISE), num_outputs=3), (x, y)


def kernels(model, x):
    """The covariance of the outputs is the sum of these, each times its variance."""
    eye = torch.eye(3, dtype=torch.float64)

    def features(inputs):
        return torch.cat([torch.kron(eye, row[None]) for row in inputs])

    def shared(layer, inputs):
        root = features(inputs) @ layer.basis.dense()
        return root @ root.mT

    def whole(inputs):
        return features(inputs) @ features(inputs).mT

    if isinstance(model.network, Parallel):
        halves, layers = (x[:, :3], x[:, 3:]), (model.network.first, model.network.second)
        common = sum(shared(layer, half) for layer, half in zip(layers, halves, strict=True))
        return {"equivariant_variance": common, **dict(zip(LAYERS, map(whole, halves), strict=True))}
    layer, ones = model.network.network[0], torch.ones(len(x), 1, dtype=torch.float64)
    bias = torch.cat([eye] * len(x))
    assert layer.bias_basis.rank == 0
    return {"equivariant_variance": shared(layer, x), "dense_variance": whole(x) + bias @ bias.mT * ones[0]}


@functools.cache
def exact_moments(names):
    """E log v and E (log v)^2 of every variance that has a hyperprior, by the trapezoidal rule over the log v."""
    model, (x, y) = problem("residual", names)
    axis = torch.linspace(-9, 6, 101, dtype=torch.float64)
    parts, logs = kernels(model, x), dict(zip(names, torch.meshgrid(*[axis] * len(names), indexing="ij"), strict=True))
    total = NOISE * torch.eye(y.numel(), dtype=torch.float64)
    for name, kernel in parts.items():
        total = total + (logs[name].exp()[..., None, None] if name in logs else FIXED[name]) * kernel
    density = torch.distributions.MultivariateNormal(y.new_zeros(y.numel()), total).log_prob(y.flatten())
    for name, log_v in logs.items():
        density = density + (BROAD if name == "equivariant_variance" else NARROW).log_prob(log_v.exp()) + log_v
    weight = torch.softmax(density.flatten(), 0).reshape(density.shape)
    outside = torch.stack([(v == axis[0]) | (v == axis[-1]) for v in logs.values()]).any(0)
    assert float(weight[outside].sum()) < 1e-6  # the grid is wide enough
    return torch.stack([(weight * logs[name] ** power).sum() for name in names for power in (1, 2)])


def agrees(posterior, names, allowance=0.0):
    """Whether the moments of independent chains have these expectations, up to an allowance."""
    logs = [posterior.samples[name].log() for name in names]
    found = torch.stack([(value**power).mean(1) for value in logs for power in (1, 2)], dim=1)
    return error_rate.agrees(found, exact_moments(names), allowance)


hmc = functools.partial(HMC, chains=64, warmup=50, draws=16)
CASES = {
    "centred": (hmc(), "collapsed", DENSE),
    "non-centred": (hmc(centred=False), "residual", DENSE),
    "two variances, walked as residual": (hmc(centred=False, parametrization="residual"), "collapsed", BOTH),
    "non-centred without a metric": (hmc(centred=False, metric="identity"), "collapsed", BOTH),
    "along the pathways": (hmc(metric="pathway"), "residual", BOTH),
    "layer by layer": (hmc(centred=False, metric="diagonal"), "residual", LAYERS),
}


@pytest.mark.statistical
@pytest.mark.parametrize(("sampler", "parametrization", "names"), CASES.values(), ids=CASES)
def test_hmc_has_the_exact_posterior_of_the_variances(sampler, parametrization, names):
    posterior = sampler.fit(*problem(parametrization, names), seed=shifted(), progress=False)
    assert agrees(posterior, names)


@pytest.fixture(scope="module")
def found():
    """Draws to start from: the last of one run's chains."""
    return hmc(chains=192, centred=False, draws=1).fit(*problem("collapsed", DENSE), seed=shifted(1), progress=False)


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("sampler", "allowance"),
    [
        (NUTS(chains=16, warmup=20, draws=15, centred=False), 0.0),
        (SGHMC(0.3, metric="full", chains=192, warmup=30, draws=20, thin=5), 0.05),
        (SGLD(0.04, metric="full", chains=192, warmup=60, draws=20, thin=5, centred=False), 0.1),
    ],
    ids=["NUTS", "SGHMC", "SGLD"],
)
def test_other_samplers_have_it_as_well_as_their_steps_allow(sampler, allowance, found):
    posterior = sampler.fit(*problem("collapsed", DENSE), seed=shifted(), progress=False, start=found)
    assert agrees(posterior, DENSE, allowance)


@pytest.mark.statistical
def test_without_the_jacobian_the_test_fails(monkeypatch):
    monkeypatch.setattr(NonCentredDensity, "log_jacobian", UnconstrainedDensity.log_jacobian)
    model, data = problem("residual", DENSE)
    assert not agrees(hmc(centred=False).fit(model, data, seed=shifted(), progress=False), DENSE)


@pytest.mark.statistical
def test_without_the_normaliser_the_test_fails(monkeypatch):
    def without(self, params, others=()):
        laws = self.hierarchical_laws(params)
        return right(self, params, others) - sum(
            law.log_prob(torch.zeros_like(params[name])) for name, law in laws.items()
        )

    right = BayesianModel.log_prior
    monkeypatch.setattr(BayesianModel, "log_prior", without)
    model, data = problem("collapsed", DENSE)
    assert not agrees(hmc().fit(model, data, seed=shifted(), progress=False), DENSE)
