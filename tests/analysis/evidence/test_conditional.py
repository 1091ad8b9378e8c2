"""The conditional evidence against the predictive law of linear models, and the bookkeeping of its orderings."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from analysis.evidence.conditional import ConditionalEvidence, held_out_evidence
from analysis.evidence.exact import ExactEvidence
from analysis.evidence.protocol import Evidence
from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, LogDensity, RPPPrior, Scalar, Vector
from inference import MAP
from inference.exact.exact_posterior import exact_posterior
from tests.error_rate import ERROR_RATE, t_limit
from tests.seeds import shifted

NOISE = 0.25


@pytest.fixture(scope="module")
def problem():
    """A linear RPP layer, and 30 examples of no symmetric map."""
    generator = torch.Generator().manual_seed(5)
    net = RPPEMLP(Vector + Scalar, Vector, SO(3), layers=0, parametrization="collapsed").double()
    x, weight, noise = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((30, 4), (3, 4), (30, 3))
    )
    prior = RPPPrior(equivariant_variance=1.0, dense_variance=0.1, scaling="none")
    return BayesianModel(net, prior, Gaussian(NOISE)), (x, x @ weight.mT / 2 + 0.3 * noise)


def predictive_log_density(model, kept, rest):
    """log N(rest; their predictive mean, their joint predictive covariance) of the posterior of those that are kept."""
    (x, y), posterior = rest, exact_posterior(model, kept, device="cpu")
    eye = torch.eye(3, dtype=torch.float64)
    jacobian = torch.cat([torch.cat([torch.kron(eye, row[None]), eye], dim=1) for row in x])
    covariance = jacobian @ posterior.covariance @ jacobian.mT + NOISE * torch.eye(y.numel(), dtype=torch.float64)
    mean = model.output(posterior.mean, x).flatten()
    return float(torch.distributions.MultivariateNormal(mean, covariance).log_prob(y.flatten()))


@dataclass(frozen=True)
class Recorded:
    """A method or an engine that keeps what it was given."""

    inner: object
    calls: list = field(default_factory=list)


class RecordedMethod(Recorded):
    def estimate(self, model, data, *, seed, device="auto", progress=True):
        self.calls.append((data, seed))
        return self.inner.estimate(model, data, seed=seed, device=device, progress=progress)


class RecordedEngine(Recorded):
    def fit(self, model, data, *, seed, device="auto", progress=True):
        self.calls.append((data, seed))
        return exact_posterior(model, data, device=device).draw(self.inner, seed)


def others(data, kept):
    """The examples that are not among those that are kept; all examples differ."""
    rest = ~(data[0][:, None] == kept[0]).all(-1).any(-1)
    return data[0][rest], data[1][rest]


@pytest.mark.parametrize(("fraction", "first"), [(0.1, 3), (0.5, 15), (0.97, 29)])
def test_difference_of_evidences_is_the_joint_predictive_density(problem, fraction, first):
    model, data = problem
    recorded = RecordedMethod(ExactEvidence())
    method = ConditionalEvidence(recorded, fraction, orderings=4)
    found = method.estimate(model, data, seed=2, device="cpu")
    (whole, _), *parts = recorded.calls
    assert torch.equal(whole[0], data[0])
    expected = [predictive_log_density(model, kept, others(data, kept)) for kept, _ in parts]
    np.testing.assert_allclose(found.details["per_ordering"], expected, rtol=1e-9)
    assert found.value == pytest.approx(np.mean(expected), rel=1e-9)
    assert found.standard_error == pytest.approx(np.std(expected, ddof=1) / 2, rel=1e-6)
    assert (found.details["conditioned_on"], found.details["held_out"]) == (first, 30 - first)
    assert [len(kept[0]) for kept, _ in parts] == [first] * 4
    assert len({kept[0].sum().item() for kept, _ in parts}) == 4
    assert len({seed for _, seed in recorded.calls}) == 5


def test_one_ordering_has_the_errors_of_the_method(problem):
    found = ConditionalEvidence(ExactEvidence(), orderings=1).estimate(*problem, seed=0, device="cpu")
    assert found.standard_error == 0.0
    assert found.method == "conditional, exact"


def test_orderings_come_from_the_seed(problem):
    one, same, other = (
        ConditionalEvidence(ExactEvidence()).estimate(*problem, seed=seed, device="cpu").details["per_ordering"]
        for seed in (0, 0, 1)
    )
    assert np.array_equal(one, same)
    assert not np.allclose(one, other)


@dataclass(frozen=True)
class Scripted:
    """A method that has its answers ready."""

    answers: list

    def estimate(self, model, data, *, seed, device="auto", progress=True):
        return self.answers.pop(0)


def test_standard_errors_gradients_and_warnings_are_combined(problem):
    answers = [
        Evidence(-10.0, "script", 0.3, gradients=5, warnings=("a",)),
        Evidence(-6.0, "script", 0.4, gradients=7, warnings=("b", "a")),
        Evidence(-8.0, "script", 0.4, gradients=9),
    ]
    two = ConditionalEvidence(Scripted(answers.copy()), orderings=2).estimate(*problem, seed=0)
    assert (two.value, two.gradients, two.warnings) == (-3.0, 21, ("a", "b"))
    assert two.standard_error == pytest.approx(math.hypot(1.0, 0.3))  # the orderings' own errors are in their spread
    one = ConditionalEvidence(Scripted(answers[:2]), orderings=1).estimate(*problem, seed=0)
    assert one.standard_error == pytest.approx(0.5)
    silent = [Evidence(-10.0, "script", 0.3, gradients=5), Evidence(-6.0, "script")]
    unknown = ConditionalEvidence(Scripted(silent), orderings=1).estimate(*problem, seed=0)
    assert unknown.standard_error is None
    assert unknown.gradients is None


@pytest.mark.statistical
def test_draws_give_the_predictive_density_within_their_error(problem):
    """Each ordering within its standard error of the closed form, for all four."""
    model, data = problem
    recorded = RecordedEngine(4000)
    found = ConditionalEvidence(recorded, fraction=0.9, orderings=4).estimate(
        model, data, seed=shifted(1), device="cpu"
    )
    threshold = t_limit(4, 3999)
    for (kept, seed), value in zip(list(recorded.calls), found.details["per_ordering"], strict=True):
        rest = others(data, kept)
        draws = recorded.fit(model, kept, seed=seed, device="cpu")
        single = held_out_evidence(draws, rest)
        assert single.value == pytest.approx(value, rel=1e-12)
        assert 0 < single.standard_error < 0.1
        assert abs(value - predictive_log_density(model, kept, rest)) < threshold * single.standard_error
        mean_log = float(draws.log_likelihood(*rest).sum(-1).mean())  # where the log of the mean is asked for
        assert abs(mean_log - predictive_log_density(model, kept, rest)) > threshold * single.standard_error
    assert found.method == "conditional, held-out"
    assert found.warnings == ()


@pytest.mark.statistical
def test_error_of_held_out_evidence_is_the_scatter_over_repetitions(problem):
    model, (x, y) = problem
    posterior, rest = exact_posterior(model, (x[:26], y[:26]), device="cpu"), (x[26:], y[26:])
    runs = [held_out_evidence(posterior.draw(500, shifted(seed)), rest) for seed in range(40)]
    scatter = np.std([run.value for run in runs], ddof=1)
    claimed = np.sqrt(np.mean([run.standard_error**2 for run in runs]))
    least, most = np.sqrt(chi2.isf([1 - ERROR_RATE / 2, ERROR_RATE / 2], 39) / 39)
    assert least < scatter / claimed < most


@pytest.mark.statistical
def test_many_held_out_examples_are_warned_of(problem):
    model, (x, y) = problem
    posterior = exact_posterior(model, (x[:6], y[:6]), device="cpu").draw(1000, seed=shifted())
    found = held_out_evidence(posterior, (x[6:], y[6:]))
    assert found.details["effective_draws"] < 100
    assert "held-out examples: value and standard error are too small" in found.warnings[0]
    weights = posterior.log_likelihood(x[6:], y[6:]).sum(-1).softmax(-1)
    assert found.details["effective_draws"] == pytest.approx(float(1 / weights.square().sum()), rel=1e-9)


def test_what_cannot_be_is_refused(problem):
    model, data = problem
    for wrong in (None, ExactEvidence, "exact"):
        with pytest.raises(TypeError, match="method must be an evidence method"):
            ConditionalEvidence(wrong)
    for fraction in (0.0, 1.0, -0.5, math.nan):
        with pytest.raises(ValueError, match="fraction must be between 0 and 1"):
            ConditionalEvidence(ExactEvidence(), fraction)
    for orderings in (0, 1.5):
        with pytest.raises(ValueError, match="orderings must be an integer of at least 1"):
            ConditionalEvidence(ExactEvidence(), orderings=orderings)
    with pytest.raises(ValueError, match=r"fraction = 0\.01 of 30 examples is 0"):
        ConditionalEvidence(ExactEvidence(), 0.01).estimate(model, data, seed=0)
    density = LogDensity(lambda p: -p["z"].square().sum(), {"z": torch.zeros(2)})
    with pytest.raises(ValueError, match="needs data that can be divided"):
        ConditionalEvidence(ExactEvidence()).estimate(density, None, seed=0)
    with pytest.raises(ValueError, match="needs draws of the posterior, but MAP gave one state"):
        ConditionalEvidence(MAP(epochs=2)).estimate(model, data, seed=0, device="cpu", progress=False)
