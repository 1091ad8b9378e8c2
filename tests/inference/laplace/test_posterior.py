"""The closed forms of a Laplace posterior: other priors and linearised predictions."""

import copy
import functools
import math
from dataclasses import replace

import pytest
import torch
from pyro.distributions import Normal

from bayes_rpp import RPPEMLP, SO, BayesianModel, Categorical, Gaussian, PathwayNormal, RPPPrior, Scalar, Vector
from inference import MAP, Laplace, Posterior
from inference.curvature.block_gaussian import GaussianApproximation
from inference.curvature.hessian_blocks import prior_precision
from tests.error_rate import z_limit
from tests.seeds import shifted

SHORT = MAP(epochs=20)


@functools.lru_cache
def nonlinear(likelihood, parametrization="residual"):
    """A small RPPEMLP in float64 with data, and a start at the mode."""
    torch.manual_seed(3)
    outputs = 3 * Scalar if isinstance(likelihood, Categorical) else Vector
    net = RPPEMLP(Vector + Scalar, outputs, SO(3), channels=6, layers=1, parametrization=parametrization).double()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(25, 4, generator=generator, dtype=torch.float64)
    y = x[:, :3] * x[:, 3:] + 0.3 * torch.randn(25, 3, generator=generator, dtype=torch.float64)
    model = BayesianModel(net, RPPPrior(1.0, 0.1), likelihood)
    data = (x, y.argmax(1) if isinstance(likelihood, Categorical) else y)
    found = Laplace(mode=MAP(epochs=300, lr=1e-2), draws=2).fit(model, data, seed=0)
    assert found.stats["newton_decrement"] < 1e-7
    return model, data, Posterior(model, {name: value[None, None] for name, value in found.mode.items()})


def other_priors(model, dense, equivariant):
    """PathwayNormals of given variances for every weight of a linear layer."""
    laws = {}
    for name, law in model.prior_distributions.items():
        inner = name.rpartition(".")[2]
        if law.bases:
            laws[name] = PathwayNormal(law.event_shape, dense, law.bases, [equivariant], validate_args=False)
        else:
            laws[name] = PathwayNormal(law.event_shape, equivariant if "beta" in inner else dense, validate_args=False)
    return laws


def with_prior(posterior, distributions):
    """The Gaussian under other priors, with the same mode and the same curvature of the data."""
    mean, structure = posterior.approximation.mean, posterior.structure
    laws = {**posterior.model.prior_distributions, **distributions}
    precision = replace(posterior.precision, prior=prior_precision(posterior.density, mean, structure, laws))
    return GaussianApproximation(mean, list(zip(structure.spans, precision.total, strict=True)))


@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
@pytest.mark.parametrize("curvature", ["full", "layer", "diagonal", "last_layer"])
def test_other_priors_give_what_a_fit_with_them_gives(make_linear_problem, parametrization, curvature):
    model, data = make_linear_problem(parametrization)
    posterior = Laplace(curvature, mode=SHORT, draws=2).fit(model, data, seed=0)
    changed = with_prior(posterior, other_priors(model, *torch.tensor([0.01, 3.0], dtype=torch.float64)))
    another = BayesianModel(model.network, RPPPrior(3.0, 0.01, scaling="none"), model.likelihood)
    refit = Laplace(curvature, mode=SHORT, draws=2).fit(another, data, seed=0)  # linear: the same curvature of the data
    torch.testing.assert_close(changed.covariance(), refit.approximation.covariance(), rtol=1e-9, atol=1e-14)
    same = with_prior(posterior, {})
    assert torch.equal(same.covariance(), posterior.approximation.covariance())


@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
@pytest.mark.parametrize("curvature", ["full", "layer", "diagonal"])
def test_log_determinant_and_covariance_are_differentiable_in_prior_variances(parametrization, curvature):
    model, data, start = nonlinear(Gaussian(0.1, learned=True), parametrization)
    posterior = Laplace(curvature, draws=2, temperature=1.5).fit(model, data, seed=0, start=start)

    def changed(dense, equivariant):
        weights = {n: law for n, law in model.prior_distributions.items() if isinstance(law, PathwayNormal)}
        laws = {}
        for name, law in weights.items():
            variances = [equivariant] * len(law.bases)
            first = equivariant if "beta" in name else dense
            laws[name] = PathwayNormal(law.event_shape, first, law.bases, variances, validate_args=False)
        return with_prior(posterior, laws)

    direction = torch.randn(posterior.approximation.size, generator=torch.Generator().manual_seed(0)).double()[None]
    variances = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.07, 1.3)]
    assert torch.autograd.gradcheck(lambda *v: changed(*v).log_determinant, variances)
    assert torch.autograd.gradcheck(lambda *v: changed(*v).project(direction), variances)
    assert torch.autograd.gradcheck(lambda *v: changed(*v).variances().log().sum(), variances)


def test_gradient_of_the_log_determinant_is_a_trace(make_linear_problem):
    """d log det H / d v_b = tr(H^-1 dP/dv_b) = -tr(Sigma_dense) / v_b^2 for the residual dense pathway."""
    model, data = make_linear_problem("residual")
    posterior = Laplace(mode=SHORT, draws=2).fit(model, data, seed=0)
    variance = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    gaussian = with_prior(posterior, {"network.0.dense": PathwayNormal((3, 7), variance)})
    gaussian.log_determinant.backward()
    of_dense = posterior.density.unpack(posterior.approximation.variances())["network.0.dense"]
    torch.testing.assert_close(variance.grad, -of_dense.sum() / 0.01, rtol=1e-9, atol=0)


def test_other_priors_may_be_of_any_kind(make_linear_problem):
    model, data = make_linear_problem("residual", likelihood=Gaussian(0.3, learned=True))
    posterior = Laplace(mode=SHORT, draws=2).fit(model, data, seed=0)
    normal = with_prior(posterior, {"network.0.dense": Normal(torch.zeros(3, 7).double(), 0.5).to_event(2)})
    pathway = with_prior(posterior, {"network.0.dense": PathwayNormal((3, 7), torch.tensor(0.25).double())})
    torch.testing.assert_close(normal.covariance(), pathway.covariance(), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
def test_linearized_predictive_of_a_linear_network_is_the_exact_one(make_linear_problem, parametrization):
    model, (x, y) = make_linear_problem(parametrization)
    posterior = Laplace(mode=SHORT, draws=3000).fit(model, (x, y), seed=0)
    layer, identity = model.network.network[0], torch.eye(3, dtype=torch.float64)
    q, p = layer.basis.dense(), layer.bias_basis.dense()
    prior = torch.block_diag(q @ q.mT, p @ p.mT) + 0.1 * torch.eye(24, dtype=torch.float64)

    def features(x):
        return torch.cat([torch.cat([torch.kron(identity, row[None]), identity], dim=1) for row in x])

    new = torch.randn(5, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    gain = features(x) @ prior @ features(x).mT + 0.2 * torch.eye(len(x) * 3, dtype=torch.float64)
    cross = features(new) @ prior @ features(x).mT
    mean = cross @ torch.linalg.solve(gain, y.reshape(-1))
    covariance = features(new) @ prior @ features(new).mT - cross @ torch.linalg.solve(gain, cross.mT)
    prediction = posterior.linearized(new)
    torch.testing.assert_close(prediction.mean, mean.reshape(5, 3), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(prediction.epistemic, covariance.diagonal().reshape(5, 3), rtol=1e-8, atol=0)
    torch.testing.assert_close(prediction.aleatoric, torch.full((5, 3), 0.2).double())
    blocks = torch.stack([covariance[3 * i : 3 * i + 3, 3 * i : 3 * i + 3] for i in range(5)])
    torch.testing.assert_close(posterior.functional_variance(new), blocks, rtol=1e-8, atol=1e-12)
    # A linear network is its own linearisation, draw by draw.
    torch.testing.assert_close(prediction.samples, posterior.predict(new).samples, rtol=1e-9, atol=1e-10)


@pytest.mark.statistical
def test_linearized_samples_have_the_functional_variance():
    model, data, start = nonlinear(Gaussian(0.1))
    posterior = Laplace("layer", draws=4000).fit(model, data, seed=shifted(), start=start)
    prediction = posterior.linearized(data[0])
    torch.testing.assert_close(prediction.mean, model.output(posterior.mode, data[0]).detach())
    diagonal = posterior.functional_variance(data[0]).diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(prediction.epistemic, diagonal)
    scores = (prediction.samples[0].var(0) / diagonal - 1) * math.sqrt(4000 / 2)
    assert scores.abs().max() < z_limit(scores.numel())


def test_categorical_predictions_are_probabilities():
    model, (x, y), start = nonlinear(Categorical())
    posterior = Laplace(draws=200).fit(model, (x, y), seed=0, start=start)
    prediction = posterior.linearized(x)
    assert prediction.samples.shape == (1, 200, 25, 3)
    torch.testing.assert_close(prediction.mean, prediction.samples[0].softmax(-1).mean(0))
    torch.testing.assert_close(prediction.mean.sum(1), torch.ones(25, dtype=torch.float64))
    torch.testing.assert_close(prediction.variance, prediction.mean * (1 - prediction.mean))


def test_float32_networks_keep_their_type_outside():
    model, (x, y), start = nonlinear(Gaussian(0.1))
    model = BayesianModel(copy.deepcopy(model.network).float(), model.prior, model.likelihood)
    posterior = Laplace(draws=5).fit(model, (x.float(), y.float()), seed=0, start=start)
    assert posterior.stats["newton_decrement"] < 1e-7
    assert posterior.linearized(x.float()).epistemic.dtype == torch.float32
    assert posterior.functional_variance(x.float()).dtype == torch.float64


def test_saved_as_its_draws(tmp_path):
    model, data, start = nonlinear(Gaussian(0.1))
    posterior = Laplace(draws=5).fit(model, data, seed=0, start=start)
    loaded = Posterior.load(posterior.save(tmp_path / "run"))
    assert type(loaded) is Posterior
    assert all(torch.equal(loaded.samples[name], value) for name, value in posterior.samples.items())
    assert loaded.stats["engine"] == "Laplace"
    assert "Laplace: 1 chain(s) x 5 draw(s)" in repr(posterior)
