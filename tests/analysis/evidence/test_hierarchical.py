"""Posteriors of linear models with hyperpriors, against quadrature over the exact evidence, and exact mixtures."""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy.integrate import quad

from analysis import compare, symmetry_candidates
from analysis.evidence import ExactEvidence, ExactSampling, exact_posterior, hierarchical_posterior
from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, O, O2eR3, RPPPrior, Scalar, SO2eR3, T, Trivial, Vector
from bayes_rpp.known_variances import model_at
from inference.exact.quadrature import integrate
from tests.error_rate import z_limit
from tests.seeds import shifted

EQUIVARIANT, DENSE = dist.LogNormal(0.0, 1.0), dist.HalfCauchy(0.1)


def linear(equivariant=1.0, dense=0.05, likelihood=None, parametrization="residual", layers=0):
    network = RPPEMLP(Vector + Scalar, Vector, SO(3), channels=8, layers=layers, parametrization=parametrization)
    return BayesianModel(network.double(), RPPPrior(equivariant, dense, scaling="none"), likelihood or Gaussian(0.25))


def observations(count=8):
    generator = torch.Generator().manual_seed(3)
    x, weight, noise = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((count, 4), (3, 4), (count, 3))
    )
    return x, x @ weight.mT / 2 + 0.5 * noise


def exact_at(model, data, **values):
    return ExactEvidence().estimate(model_at(model, values), data, seed=0, device="cpu").value


def by_quadrature(law, log_evidence):
    """log int p(y | v) p(v) dv, over log v."""
    reference = log_evidence(0.1)

    def integrand(log):
        value = torch.tensor(math.exp(log), dtype=torch.float64)
        return math.exp(log_evidence(float(value)) - reference + float(law.log_prob(value)) + log)

    total = quad(integrand, math.log(1e-10), math.log(1e6), limit=200, points=[-6, -3, 0, 3])[0]
    return reference + math.log(total)


@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
def test_the_evidence_is_the_integral_over_a_dense_variance(parametrization):
    model, data = linear(dense=DENSE, parametrization=parametrization), observations()
    wanted = by_quadrature(DENSE, lambda v: exact_at(model, data, equivariant_variance=1.0, dense_variance=v))
    assert hierarchical_posterior(model, data).log_evidence == pytest.approx(wanted, abs=2e-3)


@pytest.mark.parametrize("count", [1, 8])  # fewer observed numbers than parameters, and more
def test_the_evidence_is_the_integral_over_a_learned_noise(count):
    model, data = linear(likelihood=Gaussian(0.3, learned=True, floor=1e-4)), observations(count)
    law = model.likelihood.priors(3)["noise_variance"]
    values = {"equivariant_variance": 1.0, "dense_variance": 0.05}

    class AboveFloor:  # quad may ask below
        @staticmethod
        def log_prob(v):
            return law.log_prob(v) if v > 1e-4 else torch.tensor(-math.inf)

    wanted = by_quadrature(AboveFloor, lambda v: exact_at(model, data, **values, noise_variance=v))
    assert hierarchical_posterior(model, data).log_evidence == pytest.approx(wanted, abs=2e-3)


def outputs_covariance(model, x):
    """The covariance of the noise-free outputs that each pathway adds at a variance of 1: beta, dense -> matrix."""
    zero = {name: torch.zeros_like(value) for name, value in model.initial_params(0).items() if "variance" not in name}
    features = torch.func.jacrev(lambda params: model.output(params, x).flatten())(zero)
    parts = {"beta": 0.0, "dense": 0.0}
    for name, feature in features.items():
        parts[name.rsplit(".")[-1].removeprefix("bias_")] += feature.flatten(1) @ feature.flatten(1).mT
    return parts


def test_two_variances_are_a_sum_over_a_plain_grid():
    model, data, spacing = linear(EQUIVARIANT, DENSE), observations(), 0.7
    logs = torch.arange(-12.0, 8.0, spacing, dtype=torch.float64)
    a, b = torch.meshgrid(logs[logs > -6], logs, indexing="ij")
    parts, one = outputs_covariance(model, data[0]), torch.eye(24, dtype=torch.float64)
    covariance = a.exp()[..., None, None] * parts["beta"] + b.exp()[..., None, None] * parts["dense"] + 0.25 * one
    terms = torch.distributions.MultivariateNormal(one.new_zeros(24), covariance).log_prob(data[1].flatten())
    terms = terms + EQUIVARIANT.log_prob(a.exp()) + DENSE.log_prob(b.exp()) + a + b
    one_of_them = exact_at(model, data, equivariant_variance=float(a[9, 9].exp()), dense_variance=float(b[9, 9].exp()))
    prior = EQUIVARIANT.log_prob(a[9, 9].exp()) + DENSE.log_prob(b[9, 9].exp()) + a[9, 9] + b[9, 9]
    assert float(terms[9, 9] - prior) == pytest.approx(one_of_them, abs=1e-9)
    wanted = float(terms.flatten().logsumexp(0)) + 2 * math.log(spacing)
    assert hierarchical_posterior(model, data).log_evidence == pytest.approx(wanted, abs=5e-3)


@pytest.mark.statistical
def test_draws_are_of_the_mixture():
    model, data, draws = linear(EQUIVARIANT, DENSE), observations(), 4000
    found = hierarchical_posterior(model, data)
    posterior = found.draw(draws, seed=shifted())
    assert float(found.probabilities.sum()) == pytest.approx(1.0)
    first, second = 0.0, 0.0
    for k, probability in enumerate(found.probabilities):
        at = {name: float(value[k]) for name, value in found.variances.items()}
        law = exact_posterior(model_at(model, at), data).law
        first = first + probability * law.mean
        second = second + probability * (law.covariance().diagonal() + law.mean.square())
    deviation = (second - first.square()).sqrt()
    flat = torch.cat([posterior.samples[name][0].flatten(1) for name, _ in model.network.named_parameters()], dim=1)
    scores = (flat.mean(0) - first) / deviation * math.sqrt(draws)
    limit = z_limit(2 * len(scores))
    assert float(scores.abs().max()) < limit
    for name, values in found.variances.items():  # in the logarithm, whose law has light tails
        logs, drawn = values.log(), posterior.samples[name][0].log()
        mean = (found.probabilities * logs).sum()
        sd = ((found.probabilities * logs.square()).sum() - mean.square()).sqrt()
        assert abs(float((drawn.mean() - mean) / sd)) * math.sqrt(draws) < limit
    narrow = exact_posterior(model_at(model, {"equivariant_variance": 1.0, "dense_variance": 1e-6}), data).law
    wrong = (flat.mean(0) - narrow.mean) / narrow.covariance().diagonal().sqrt() * math.sqrt(draws)
    assert float(wrong.abs().max()) > limit  # plugged-in variances that are wrong would be noticed


@pytest.mark.statistical
def test_compare_tells_groups_apart_by_exact_evidence_and_draws():
    generator = torch.Generator().manual_seed(shifted())
    x = torch.randn(60, 9, generator=generator)
    rep, noise = T(2), 0.01 * torch.randn(60, 9, generator=generator)
    models = symmetry_candidates(rep, rep, [O(3), O2eR3(), Trivial(3)], Gaussian(1e-4), layers=0)
    tensor = x.unflatten(1, (3, 3))
    along = tensor * torch.tensor([1.0, 1.0, 1.5])[:, None]  # the z axis counts more
    skew = tensor * (1 + torch.rand(3, 3, generator=generator))
    engine, method = ExactSampling(draws=120), ExactEvidence()
    for truth, y in {"O(3)": tensor, "O2eR3": along, "Trivial(3)": skew}.items():
        found = compare(models, (x, y.flatten(1) + noise), engine=engine, method=method, seed=shifted(), progress=False)
        assert float(found.dataset.probability.sel(model=truth)) > 0.95
        assert all("Pareto k" in warning for warning in found.warnings)  # of LOO from few draws
        assert float(found.dataset.log_evidence_error.max()) == 0
        assert found.dataset.elpd_loo.notnull().all()


def test_sampling_of_known_variances_is_of_the_exact_posterior():
    model, data = linear(), observations()
    drawn = ExactSampling(draws=7).fit(model, data, seed=3).samples
    assert all(
        torch.equal(value, drawn[name]) for name, value in exact_posterior(model, data).draw(7, 3).samples.items()
    )


def test_the_same_seed_gives_the_same_draws():
    found = hierarchical_posterior(linear(dense=DENSE), observations())
    first, again, other = (found.draw(5, seed=seed).samples for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["dense_variance"], other["dense_variance"])


def test_what_it_cannot_integrate_is_refused():
    data = observations()
    with pytest.raises(ValueError, match="of known variances, take exact_posterior"):
        hierarchical_posterior(linear(), data)
    reps = Vector + Scalar, Vector
    chain = RPPEMLP(*reps, [SO(3), SO2eR3()], channels=8, layers=0).double()
    prior = RPPPrior(pathway_variances=[EQUIVARIANT, EQUIVARIANT], dense_variance=DENSE)
    with pytest.raises(ValueError, match="one to 3 variances with hyperpriors, got 4: dense_variance, pathway"):
        hierarchical_posterior(BayesianModel(chain, prior, Gaussian(0.3, learned=True)), data)
    with pytest.raises(ValueError, match="narrower than the finest spacing"):
        hierarchical_posterior(linear(dense=dist.LogNormal(-2.0, 1e-4)), data)
    with pytest.raises(TypeError, match="not linear in its parameters"):
        hierarchical_posterior(linear(dense=DENSE, layers=1), data)


def two_modes(noise_rows, noise, lam, rows=12, misfit=300.0):
    """A learned variance v that explains either of two groups of observations: the mode depends on the lattice."""

    def log_density(logs):
        v = logs[:, 0].exp()
        fit = noise_rows * (v.log() + noise / v) + rows * ((v + lam).log() + misfit / (v + lam))
        return -0.5 * fit - (logs[:, 0] + 1).square() / 8

    return log_density


@pytest.mark.parametrize(("noise_rows", "noise", "lam"), [(1000, 0.004, 0.56837), (200, 0.001, 1.80)])
def test_a_mode_between_the_first_points_is_found(noise_rows, noise, lam):
    log_density = two_modes(noise_rows, noise, lam)
    fine = torch.linspace(-15, 10, 200_001, dtype=torch.float64)[:, None]
    wanted = float(log_density(fine).logsumexp(0)) + math.log(25 / 200_000)
    assert integrate(log_density, ["v"]).log_integral == pytest.approx(wanted, abs=2e-3)


@pytest.mark.statistical
def test_draws_have_the_moments_of_a_density_of_any_height():
    for height in (0.0, -3e7):
        lattice = integrate(lambda u, height=height: height - 0.5 * ((u[:, 0] - 1) / 3).square(), ["v"])
        draws = lattice.sample(20_000, torch.Generator().manual_seed(shifted()))[:, 0]
        assert abs(float(draws.mean()) - 1) < z_limit(5) * 3 / math.sqrt(20_000)
        assert abs(float(draws.std()) / 3 - 1) < z_limit(5) / math.sqrt(40_000)
    few = [float(lattice.sample(1, torch.Generator().manual_seed(shifted(seed)))) for seed in range(300)]
    assert abs(np.std(few) / 3 - 1) < z_limit(5) / math.sqrt(600)


def test_what_lies_outside_the_range_is_said():
    x, y = observations()
    with pytest.raises(ValueError, match="the posterior of dense_variance reaches beyond 1e-16 to 1e"):
        hierarchical_posterior(linear(dense=dist.Gamma(0.01, 50.0)), (x[:2], y[:2]))
