"""The exact evidence against dense twins, its own identities, and what it must refuse."""

import math

import pyro.distributions as dist
import pytest
import torch
from scipy.stats import multivariate_normal

from analysis.evidence.annealing import AnnealedImportanceSampling
from analysis.evidence.exact import ExactEvidence
from analysis.evidence.protocol import Evidence
from bayes_rpp import (
    EMLP,
    MLP,
    RPPEMLP,
    SO,
    BayesianModel,
    Categorical,
    Gaussian,
    LogDensity,
    PathwayNormal,
    RPPPrior,
    Scalar,
    Vector,
)
from bayes_rpp.normalization import NormalizedNetwork
from inference import MAP, Laplace
from inference.exact.exact_posterior import exact_loo, exact_posterior
from inference.exact.linear_network import linear_gaussian
from tests.error_rate import z_limit
from tests.seeds import shifted

PER_OUTPUT = (0.25, 0.5, 1.0)  # exact in float32, too
each_parametrization = pytest.mark.parametrize("parametrization", ["residual", "collapsed"])


def layer(network=RPPEMLP, dtype=torch.float64, layers=0, **options):
    return network(2 * Vector + Scalar, Vector, SO(3), layers=layers, **options).to(dtype)


def observations(count=12, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    x, weight, noise = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((count, 7), (3, 7), (count, 3))
    )
    return x.to(dtype), (x @ weight.mT / math.sqrt(7) + 0.5 + 0.4 * noise).to(dtype)


def linear(parametrization="residual", equivariant=1.0, dense=0.1, noise=0.25, network=None, dtype=torch.float64):
    network = layer(parametrization=parametrization, dtype=dtype) if network is None else network
    prior = RPPPrior(equivariant_variance=equivariant, dense_variance=dense, scaling="none")
    return BayesianModel(network, prior, Gaussian(noise))


def exact(model, data, space="auto", seed=0):
    return ExactEvidence(space).estimate(model, data, seed=seed, device="cpu").value


def dense_log_evidence(basis, bias_basis, x, y, equivariant, dense, noise):
    """From vec(W) and b with their dense covariances; the noise is a number or one for each output."""
    identity = torch.eye(3, dtype=torch.float64)
    phi = torch.cat([torch.cat([torch.kron(identity, row[None]), identity], dim=1) for row in x])
    q = torch.block_diag(basis.dense(), bias_basis.dense())
    sigma = equivariant * q @ q.mT + dense * torch.eye(len(q), dtype=torch.float64)
    covariance = phi @ sigma @ phi.mT + torch.as_tensor(noise, dtype=torch.float64).expand(3).repeat(len(x)).diag()
    return multivariate_normal(cov=covariance.numpy()).logpdf(y.flatten().numpy())


@each_parametrization
@pytest.mark.parametrize("space", ["auto", "weights", "functions"])
@pytest.mark.parametrize("noise", [0.25, PER_OUTPUT])
@pytest.mark.parametrize("count", [3, 40])
def test_evidence_is_the_density_of_the_data_under_the_marginal_law(parametrization, space, noise, count):
    model, (x, y) = linear(parametrization, noise=noise), observations(count)
    net = model.network.network[0]
    expected = dense_log_evidence(net.basis, net.bias_basis, x, y, 1.0, 0.1, noise)
    found = ExactEvidence(space).estimate(model, (x, y), seed=0, device="cpu")
    assert isinstance(found, Evidence)
    assert found.value == pytest.approx(expected, rel=1e-11)
    assert (found.method, found.standard_error, found.details["observations"]) == ("exact", 0.0, 3 * count)
    assert found.details["space"] == (space if space != "auto" else "functions" if count == 3 else "weights")
    wrong = dense_log_evidence(net.basis, net.bias_basis, x, y, 1.0, 0.1 * (1 + 1e-6), noise)
    assert found.value != pytest.approx(wrong, rel=1e-11)


@pytest.mark.parametrize("count", [3, 40])
@pytest.mark.parametrize(("equivariant", "dense"), [(1.0, 0.1), (1e5, 1e-7), (1e-7, 1e5), (1e5, 1e5)])
def test_both_parametrizations_have_one_evidence(equivariant, dense, count):
    data = observations(count)
    residual, collapsed = (exact(linear(name, equivariant, dense), data) for name in ("residual", "collapsed"))
    assert residual == pytest.approx(collapsed, rel=1e-8)


@each_parametrization
def test_without_a_dense_pathway_it_is_the_evidence_of_the_equivariant_network(parametrization):
    data = observations()
    limit = exact(linear(network=layer(EMLP)), data)
    gaps = [abs(exact(linear(parametrization, dense=dense), data) - limit) for dense in (1e-4, 1e-8, 1e-12)]
    assert gaps[0] > 1e-3
    assert gaps[1] == pytest.approx(1e-4 * gaps[0], rel=0.1)  # the first order in the variance
    assert gaps[2] < 1e-8


@each_parametrization
def test_joint_density_is_evidence_times_posterior_anywhere(parametrization):
    model, data = linear(parametrization), observations()
    posterior = exact_posterior(model, data, device="cpu")
    torch.manual_seed(shifted())
    params = {name: torch.randn_like(value) for name, value in model.initial_params(0).items()}
    at = torch.cat([value.flatten() for value in params.values()])
    density = multivariate_normal(posterior.law.mean.numpy(), posterior.covariance.numpy()).logpdf(at.numpy())
    joint = float(model.log_joint(params, *data))
    assert joint - density == pytest.approx(exact(model, data), rel=1e-10)


def test_standardised_networks_are_linear_as_well():
    x, y = observations()
    inner = layer()
    model = linear(network=NormalizedNetwork.fit(inner, 30 * x, 5 * y + 1))
    inputs, outputs = model.network.inputs, model.network.outputs
    standardised = inputs(30 * x), (5 * y + 1 - outputs.mean) / outputs.scale
    twin = linear(network=inner, noise=tuple((0.25 / outputs.scale.square()).tolist()))
    jacobian = len(x) * float(outputs.scale.log().sum())
    found = exact(model, (30 * x, 5 * y + 1))
    assert found == pytest.approx(exact(twin, standardised) - jacobian, rel=1e-6)  # the noise is kept in float32


def test_seed_does_not_matter_and_float32_is_computed_in_float64():
    model, data = linear(), observations()
    assert exact(model, data, seed=1) == pytest.approx(exact(model, data, seed=2), rel=1e-13)
    single = linear(dtype=torch.float32, equivariant=0.5, dense=2**-14), observations(dtype=torch.float32)
    double = linear(equivariant=0.5, dense=2**-14), tuple(part.double() for part in single[1])
    assert exact(*single) == pytest.approx(exact(*double), rel=1e-12)


def with_variances(model, log_variances):
    """The prior of the collapsed weights, with variances that can be differentiated."""
    equivariant, dense = log_variances.exp()
    return {
        name: PathwayNormal(law.event_shape, dense, law.bases, [equivariant] * len(law.bases))
        for name, law in model.prior_distributions.items()
    }


@pytest.mark.parametrize("space", ["weights", "functions"])
def test_gradient_in_the_variances_is_that_of_finite_differences(space):
    model, data = linear("collapsed"), observations()
    problem, _ = linear_gaussian(model, data, device="cpu")
    at = torch.tensor([0.2, -2.0], dtype=torch.float64, requires_grad=True)

    def evidence(log_variances):
        return problem.log_evidence(with_variances(model, log_variances), space)

    value = evidence(at)
    (gradient,) = torch.autograd.grad(value, at)
    assert value.item() == pytest.approx(exact(linear("collapsed", *at.exp().tolist()), data), rel=1e-12)
    step = 1e-5 * torch.eye(2, dtype=torch.float64)
    differences = torch.stack([(evidence(at + h) - evidence(at - h)).detach() / 2e-5 for h in step])
    torch.testing.assert_close(gradient, differences, rtol=1e-5, atol=0)


@each_parametrization
def test_posterior_is_that_of_laplace_which_is_exact_here(parametrization):
    model, data = linear(parametrization), observations()
    found = exact_posterior(model, data, device="cpu")
    laplace = Laplace(mode=MAP(epochs=20), draws=2).fit(model, data, seed=0, device="cpu").approximation
    torch.testing.assert_close(found.covariance, laplace.covariance(), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(found.law.mean, laplace.mean, rtol=1e-7, atol=1e-8)
    shapes = {name: value.shape for name, value in model.initial_params(0).items()}
    assert {name: value.shape for name, value in found.mean.items()} == shapes


@pytest.mark.statistical
def test_draws_have_the_moments_of_the_posterior():
    model, data, count = linear("collapsed"), observations(), 4000
    exact_one = exact_posterior(model, data, device="cpu")
    posterior = exact_one.draw(count, seed=shifted(7))
    assert (posterior.chains, posterior.draws, posterior.stats["engine"]) == (1, count, "exact")
    draws = torch.cat([value[0].flatten(1) for value in posterior.samples.values()], dim=1)
    size = draws.shape[1]
    threshold = z_limit(size + size * (size + 1) // 2)

    def largest_score(covariance):
        white = torch.linalg.solve_triangular(
            torch.linalg.cholesky(covariance), (draws - exact_one.law.mean).mT, upper=False
        )
        eye = torch.eye(size, dtype=torch.float64)
        second = (white @ white.mT / count - eye) * math.sqrt(count) / (1 + eye).sqrt()
        return max(float((white.mean(1) * math.sqrt(count)).abs().max()), float(second.abs().max()))

    assert largest_score(exact_one.covariance) < threshold
    assert largest_score(1.5 * exact_one.covariance) > threshold
    assert torch.equal(
        exact_one.draw(3, seed=7).samples["network.0.bias"], exact_one.draw(3, seed=7).samples["network.0.bias"]
    )
    assert posterior.predict(data[0]).mean.shape == (12, 3)


@each_parametrization
@pytest.mark.parametrize("count", [3, 20])
def test_leave_one_out_is_the_evidence_less_that_of_the_others(parametrization, count):
    model, (x, y) = linear(parametrization, noise=PER_OUTPUT), observations(count)
    whole, others = exact(model, (x, y)), [torch.arange(count) != i for i in range(count)]
    expected = [whole - exact(model, (x[rest], y[rest])) for rest in others]
    found = exact_loo(model, (x, y), device="cpu")
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("network", [layer(layers=1, channels=8), layer(MLP, layers=1, channels=8)])
def test_networks_that_are_not_linear_are_refused(network):
    with pytest.raises(
        TypeError, match=r"is not linear in its parameters.*LaplaceEvidence.*AnnealedImportanceSampling"
    ):
        exact(linear(network=network), observations())


def test_a_slight_curvature_is_noticed():
    class Bent(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(3, 7, dtype=torch.float64))

        def forward(self, x):
            return x @ (self.weight + 1e-6 * self.weight**2).mT

    with pytest.raises(TypeError, match="not linear in its parameters"):
        exact(BayesianModel(Bent(), RPPPrior(), Gaussian(0.25), num_outputs=3), observations())


class WithLaplacePriors(BayesianModel):
    @property
    def prior_distributions(self):
        return {
            name: dist.Laplace(torch.zeros(value.shape), 1.0).to_event(value.ndim)
            for name, value in self.network.named_parameters()
        }


def test_other_models_are_refused_with_the_reason():
    x, y = observations()
    learned = BayesianModel(layer(), RPPPrior(), Gaussian(0.25, learned=True))
    with pytest.raises(ValueError, match=r"noise_variance are learned.*LaplaceEvidence approximates"):
        exact_loo(learned, (x, y))
    hyper = BayesianModel(layer(), RPPPrior(dense_variance=dist.HalfCauchy(0.1)), Gaussian(0.25))
    with pytest.raises(ValueError, match=r"dense_variance are learned.*AnnealedImportanceSampling") as refused:
        exact_loo(hyper, (x, y))
    assert "LaplaceEvidence" not in str(refused.value)  # which refuses it too
    assert math.isfinite(AnnealedImportanceSampling(particles=8, temperatures=1).estimate(hyper, (x, y), seed=0).value)
    labels = BayesianModel(layer(), RPPPrior(), Categorical())
    with pytest.raises(TypeError, match="Gaussian likelihood, got Categorical"):
        exact(labels, (x, torch.zeros(12, dtype=torch.long)))
    density = LogDensity(lambda p: -p["z"].square().sum(), {"z": torch.zeros(2)})
    with pytest.raises(TypeError, match="needs a BayesianModel, got LogDensity"):
        exact(density, None)
    with pytest.raises(TypeError, match=r"'network\.0\.beta' is none"):
        exact(WithLaplacePriors(layer(), RPPPrior(), Gaussian(0.25)), (x, y))
    with pytest.raises(ValueError, match="needs data"):
        exact(linear(), None)
    with pytest.raises(ValueError, match="space must be one of auto, weights, functions"):
        ExactEvidence("dual")


def test_too_large_problems_are_refused_before_they_start():
    wide = linear(network=MLP(300 * Vector, 100 * Vector, SO(3), layers=0).double())
    data = torch.zeros(1000, 900, dtype=torch.float64), torch.zeros(1000, 300, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"needs a matrix of [\d,]+ bytes"):
        exact(wide, data)
    model, small = linear("collapsed"), observations(10)
    assert linear_gaussian(model, small, device="cpu")[0].features.shape == (10, 3, 24)
