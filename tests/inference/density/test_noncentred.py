"""Densities over weights and variances: with the weights integrated out in closed form they are the exact evidence."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.func import grad, hessian, jacrev, vmap

from bayes_rpp import (
    RPPEMLP,
    SO,
    BayesianModel,
    Gaussian,
    LogDensity,
    O,
    O2eR3,
    RPPLinear,
    RPPPrior,
    Scalar,
    Vector,
    equivariant_maps,
)
from inference import HMC, SGHMC
from inference.density.noncentred import NonCentredDensity, sampling_density
from inference.density.unconstrained import UnconstrainedDensity
from inference.metrics.build_metric import build_metric
from inference.metrics.condition_number import condition_number
from inference.metrics.preconditioned import PreconditionedDensity

NOISE = 0.2
BROAD = dist.InverseGamma(*torch.tensor([3.0, 2.0]).double())
NARROW = dist.HalfCauchy(torch.tensor(0.3).double())
kinds = pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
coordinates = pytest.mark.parametrize("centred", [True, False], ids=["centred", "non-centred"])


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear_model(parametrization, **settings):
    torch.manual_seed(0)
    net = RPPEMLP(Vector + Scalar, Vector, SO(3), layers=0, parametrization=parametrization).double()
    given = {"equivariant_variance": BROAD, "dense_variance": NARROW} | settings
    return BayesianModel(net, RPPPrior(**given, scaling="none"), Gaussian(noise_variance=NOISE))


def data(model, count=6):
    return normal(count, model.network.rep_in.size), normal(count, model.num_outputs, seed=1)


def exact_log_evidence(model, x, y, broad, narrow):
    """log p(y | variances) of a linear layer, from the dense covariance of all of y."""
    layer, eye = model.network.network[0], torch.eye(model.num_outputs, dtype=torch.float64)
    features = torch.cat(
        [torch.kron(torch.cat([row, row.new_ones(1)])[None], eye) for row in x]
    )  # of columns of (W, b)
    m, n = eye.shape[0], x.shape[1]
    q = layer.basis.dense().reshape(m, n, -1).transpose(0, 1).reshape(m * n, -1)  # row-major -> column by column
    p = layer.bias_basis.dense()
    covariance = torch.block_diag(broad * q @ q.mT, broad * p @ p.mT) + narrow * torch.eye(m * n + m).double()
    total = features @ covariance @ features.mT + NOISE * torch.eye(len(features)).double()
    flat = y.flatten()
    quadratic = flat @ torch.linalg.solve(total, flat)
    return -0.5 * float(quadratic + torch.linalg.slogdet(total)[1] + len(flat) * math.log(2 * math.pi))


def marginal(density, names, values, temperature=1.0):
    """log of the integral of exp(-U) over all free coordinates but those of ``names``; U is a quadratic in them."""
    free = density.unpack(density.initial([0])[0])
    z = density.pack(
        free | {name: torch.tensor(math.log(v), dtype=torch.float64) for name, v in zip(names, values, strict=True)}
    )
    own = [name for name in density.shapes if name not in names]
    spans = torch.cat([density.unpack(torch.arange(density.size).double())[name].flatten() for name in own]).long()

    def potential(weights):
        return density.potential(z.clone().index_put((spans,), weights))

    with pyro.validation_enabled(False):
        start = z[spans]
        value, slope, bend = potential(start), grad(potential)(start), hessian(potential)(start)
    gaussian = 0.5 * (len(start) * math.log(2 * math.pi) - torch.linalg.slogdet(bend)[1])
    return float(-value + 0.5 * slope @ torch.linalg.solve(bend, slope) + gaussian)


PLACES = [(0.3, 0.01), (2.0, 0.01), (2.0, 0.5), (30.0, 1e-4), (0.01, 3.0)]


def scores(density, model, x, y):
    """How far the target is from log p(y, v) + log |dv / d log v| at several variances."""
    result = []
    for broad, narrow in PLACES:
        found = marginal(density, ("equivariant_variance", "dense_variance"), (broad, narrow))
        hyper = sum(
            float(law.log_prob(torch.tensor(v, dtype=torch.float64))) + math.log(v)
            for law, v in ((BROAD, broad), (NARROW, narrow))
        )
        result.append(abs(found - exact_log_evidence(model, x, y, broad, narrow) - hyper))
    return result


@kinds
@coordinates
def test_with_the_weights_integrated_out_it_is_the_evidence_times_the_hyperprior(parametrization, centred):
    model = linear_model(parametrization)
    x, y = data(model)
    assert max(scores(sampling_density(model, (x, y), 1.0, centred=centred), model, x, y)) < 1e-8


@kinds
def test_without_the_jacobian_of_the_weights_it_is_not(parametrization):
    class Wrong(NonCentredDensity):
        def log_jacobian(self, z, params):
            return UnconstrainedDensity.log_jacobian(self, z, params)

    model = linear_model(parametrization)
    x, y = data(model)
    assert min(scores(Wrong(model, (x, y)), model, x, y)) > 0.5


@kinds
def test_without_the_normaliser_of_the_weights_it_is_not(parametrization):
    class Wrong(BayesianModel):
        def log_prior(self, params, without=()):
            laws = self.distributions(params)
            return super().log_prior(params, without) - sum(
                laws[n].log_prob(torch.zeros_like(params[n])) for n in self.hierarchical
            )

    right = linear_model(parametrization)
    model = Wrong(right.network, right.prior, right.likelihood)
    x, y = data(model)
    assert min(scores(UnconstrainedDensity(model, (x, y)), model, x, y)) > 0.5


def chain_layer():
    """Pathways that are not orthogonal to each other, collapsed."""
    rep_in, rep_out = (Vector + Scalar)(O(3)), Vector(O(3))
    plain = (Vector + Scalar)(O2eR3()), Vector(O2eR3())
    pathways = [equivariant_maps(rep_in, rep_out), equivariant_maps(*plain)]
    return RPPLinear(rep_in, rep_out, parametrization="collapsed", pathways=pathways).double()


MODELS = {
    "residual": lambda: linear_model("residual"),
    "collapsed": lambda: linear_model("collapsed"),
    "one hyperprior": lambda: linear_model("collapsed", equivariant_variance=1.5),
    "only beta's": lambda: linear_model("residual", dense_variance=0.1),
    "pathways that overlap": lambda: BayesianModel(
        chain_layer(), RPPPrior(pathway_variances=[BROAD, 0.7], dense_variance=NARROW), Gaussian(NOISE, learned=True)
    ),
    "a layer without bias": lambda: BayesianModel(
        RPPLinear(Vector(SO(3)), Scalar(SO(3)), bias=False).double(), RPPPrior(dense_variance=NARROW), Gaussian(NOISE)
    ),
}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def somewhere(density, count=3):
    return 0.7 * normal(count, density.size, seed=3)


@every_model
def test_parameters_and_vectors_are_inverse_for_many_at_once(make):
    model = make()
    density = NonCentredDensity(model, data(model))
    z = somewhere(density, 6).reshape(2, 3, -1)
    torch.testing.assert_close(density.free(density.params(z)), z, rtol=1e-9, atol=1e-9)
    one = density.params(z[1, 2])
    for name, value in density.params(z).items():
        torch.testing.assert_close(value[1, 2], one[name], rtol=1e-12, atol=1e-12)


@every_model
def test_the_jacobian_is_that_of_automatic_differentiation(make):
    model = make()
    density = NonCentredDensity(model, data(model))
    for z in somewhere(density):
        with pyro.validation_enabled(False):
            dense = jacrev(lambda v: torch.cat([p.flatten() for p in density.params(v).values()]))(z)
        expected = torch.linalg.slogdet(dense)[1]
        torch.testing.assert_close(density.log_jacobian(z, density.params(z)), expected, rtol=1e-6, atol=1e-6)


@every_model
def test_given_the_variances_what_is_standardised_is_standard_normal(make):
    model = make()
    density = NonCentredDensity(model, None)
    z = somewhere(density)[0]
    with pyro.validation_enabled(False):
        slope = density.unpack(grad(density.prior_potential)(z))
        bend = hessian(density.prior_potential)(z)
    for name in density.standardised:
        torch.testing.assert_close(slope[name], density.unpack(z)[name], rtol=1e-9, atol=1e-9)
    weights = sum(math.prod(density.shapes[name]) for name in density.shapes if name in density.standardised)
    assert weights == sum(bool((row - row.new_zeros(len(row)).index_put((torch.tensor(i),), torch.tensor(1.0).double()))
                          .abs().max() < 1e-9) for i, row in enumerate(bend))  # fmt: skip


@coordinates
def test_gradients_of_all_chains_are_those_of_one(centred):
    model = linear_model("collapsed")
    density = sampling_density(model, data(model), 1.0, centred=centred)
    z = somewhere(density)
    gradients, values = density.gradients(z)
    with pyro.validation_enabled(False):
        for place, gradient, value in zip(z, gradients, values, strict=True):
            torch.testing.assert_close(grad(density.potential)(place), gradient, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(density.potential(place), value, rtol=1e-9, atol=1e-9)


@kinds
@coordinates
@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_the_dense_metric_has_the_hessian_but_for_the_coupling_of_weights_and_variances(
    parametrization, centred, temperature
):
    model = linear_model(parametrization)
    density = sampling_density(model, data(model), temperature, centred=centred)
    z = density.initial([0]) + 0.3 * somewhere(density, 1)
    with pyro.validation_enabled(False):
        exact = hessian(density.potential)(z[0])
    size = density.size - 2
    metric = build_metric("full", density, z)
    factor = metric.color(torch.eye(density.size).double())
    found = torch.linalg.inv(factor.mT @ factor)
    torch.testing.assert_close(found[:size, :size], exact[:size, :size], rtol=1e-6, atol=1e-6)
    if centred:
        torch.testing.assert_close(found.diagonal()[size:], exact.diagonal()[size:].abs(), rtol=1e-5, atol=1e-6)
        assert not found[size:, :size].abs().max() > 1e-9
    else:  # what the network's output adds through the variances, and no more
        jacobian = jacrev(lambda v: model.output(density.params(v), density.pair[0]).flatten())(z[0])
        rows = jacobian / math.sqrt(NOISE * temperature)
        torch.testing.assert_close(found[size:, :size], (rows.mT @ rows)[size:, :size], rtol=1e-6, atol=1e-6)


@coordinates
@pytest.mark.parametrize("metric", [None, "identity", "diagonal", "layer", "full", "pathway"])
def test_every_metric_is_there_or_refused(centred, metric):
    model = linear_model("collapsed")
    density = sampling_density(model, data(model), 1.0, centred=centred)
    start = density.initial([0, 1])
    if metric == "pathway" and not centred:
        with pytest.raises(ValueError, match=r"metric='pathway' is for centred coordinates.*'full' or 'diagonal'"):
            PreconditionedDensity(density, metric, start)
        return
    preconditioned = PreconditionedDensity(density, metric, start)
    torch.testing.assert_close(preconditioned.free(preconditioned.whiten(start)), start, rtol=1e-9, atol=1e-9)
    assert condition_number(preconditioned, start[0]) < math.inf


def test_large_models_take_the_diagonal_where_the_coordinates_are_not_centred(monkeypatch):
    monkeypatch.setattr("inference.metrics.build_metric._FULL_BY_DEFAULT", 3)
    model = linear_model("residual")
    density = NonCentredDensity(model, data(model))
    z = density.initial([0])
    wanted = build_metric("diagonal", density, z)
    ones = torch.ones(1, density.size).double()
    torch.testing.assert_close(build_metric(None, density, z).color(ones), wanted.color(ones))


def test_minibatches_count_as_many_times_as_they_must():
    model = linear_model("collapsed")
    x, y = data(model, 8)
    density = NonCentredDensity(model, (x, y))
    z = somewhere(density, 1)[0]
    halves = torch.stack([density.potential(z, x[half], y[half]) for half in (slice(0, 4), slice(4, 8))])
    torch.testing.assert_close(halves.mean(), density.potential(z), rtol=1e-10, atol=1e-10)


def test_the_coordinates_work_under_vmap_with_their_gradients():
    model = linear_model("collapsed")
    density = NonCentredDensity(model, data(model))
    z = somewhere(density, 4)
    with pyro.validation_enabled(False):
        batched = vmap(grad(density.potential))(z)
        torch.testing.assert_close(batched[2], grad(density.potential)(z[2]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("engine", [HMC(chains=1, centred=False), SGHMC(step_size=0.1, centred=False)])
def test_models_without_hyperpriors_have_nothing_to_standardise(engine):
    model = linear_model("residual", equivariant_variance=1.0, dense_variance=0.1)
    with pytest.raises(ValueError, match="centred=False is for models with hyperpriors"):
        engine.fit(model, data(model), seed=0)
    log_density = LogDensity(lambda p: -p["z"].square().sum(), {"z": torch.zeros(2)})
    with pytest.raises(ValueError, match="centred=False is for models with hyperpriors"):
        engine.fit(log_density, None, seed=0)


def test_the_setting_must_be_a_truth_value():
    with pytest.raises(TypeError, match="centred must be True or False, got 'no'"):
        HMC(centred="no")
