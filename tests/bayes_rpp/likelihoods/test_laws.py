"""Every likelihood against the closed form of its density, as a density, and against its own moments."""

import inspect
import math
import typing

import numpy as np
import pytest
import torch
from scipy import stats

import bayes_rpp
from bayes_rpp import (
    Bernoulli,
    Categorical,
    Gaussian,
    HeteroscedasticGaussian,
    LaplaceNoise,
    Likelihood,
    Poisson,
    StudentT,
)
from bayes_rpp.likelihoods.likelihood import output_curvature
from tests.scenarios.likelihoods import (
    BUILT_IN,
    LIKELIHOODS,
    Exponential,
    GammaTimes,
    numbers,
    observations,
    outputs_of,
)
from tests.scenarios.likelihoods import own_parameters as initial

# log p(y | f) of one number, or of one label, by SciPy
CLOSED_FORMS = {
    "Gaussian": lambda y, f: stats.norm.logpdf(y, f, math.sqrt(0.2)),
    "LaplaceNoise": lambda y, f: stats.laplace.logpdf(y, f, 0.3),
    "StudentT": lambda y, f: stats.t.logpdf(y, 4.0, f, 0.3),
    "Bernoulli": lambda y, f: stats.bernoulli.logpmf(y, 1 / (1 + np.exp(-f))),
    "Poisson": lambda y, f: stats.poisson.logpmf(y, np.exp(f)),
    "a user's": lambda y, f: stats.expon.logpdf(y, scale=np.exp(-f)),
    "a user's with a parameter": lambda y, f: stats.gamma.logpdf(y, 2.0, scale=np.exp(f) / 2),
}
# with one output: an output f, (1, outputs), and the range of y: below and above f, from 0 up, or 0, 1, 2, ...
SINGLE = {
    "Gaussian": (Gaussian(0.2), [[0.7]], "line"),
    "LaplaceNoise": (LaplaceNoise(0.3), [[0.7]], "line"),
    "StudentT": (StudentT(5.0, 0.3), [[0.7]], "line"),
    "HeteroscedasticGaussian": (HeteroscedasticGaussian(1), [[0.7, -0.4]], "line"),
    "Bernoulli": (Bernoulli(), [[0.7]], 2),
    "Poisson": (Poisson(), [[1.3]], 60),
    "Categorical": (Categorical(), [[0.7, -0.4, 0.1]], 3),
    "a user's": (Exponential(), [[0.7]], "ray"),
    "a user's with a parameter": (GammaTimes(), [[0.7]], "ray"),
}


def close(actual, expected, rtol=1e-10):
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=1e-10)


def quadrature(likelihood, output, values):
    """Observations y, (point, ...), with weights, so that sums over points are integrals over y, or sums."""
    if isinstance(values, int):
        y = torch.arange(values)
        return (y if isinstance(likelihood, Categorical) else y[:, None]), torch.ones(values).double()
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(400))
    t = (nodes + 1) / 2  # half lines: t / (1 - t) for t in (0, 1), from the kink of an absolute error outwards
    half, slope = t / (1 - t), weights / 2 / (1 - t) ** 2
    if values == "ray":
        return half[:, None], slope
    return torch.cat([output[:, 0] - half, output[:, 0] + half])[:, None], torch.cat([slope, slope])


def test_densities_are_those_of_scipy(subtests):
    for name, closed_form in CLOSED_FORMS.items():
        with subtests.test(msg=name):
            likelihood, output = LIKELIHOODS[name], numbers(20, 3)
            y = observations(likelihood, output)
            expected = torch.from_numpy(closed_form(y.numpy(), output.numpy())).sum(1)
            close(likelihood.log_prob(output, y, initial(likelihood, 3)), expected)


def test_a_variance_head_is_a_gaussian_of_each_piece():
    likelihood, output, y = HeteroscedasticGaussian((2, 1)), numbers(20, 5), numbers(20, 3, seed=1)
    variance = output[:, [3, 3, 4]].exp()
    close(
        likelihood.log_prob(output, y, {}),
        torch.distributions.Normal(output[:, :3], variance.sqrt()).log_prob(y).sum(1),
    )


def test_log_prob_is_that_of_the_distribution_whose_events_are_observations(subtests):
    for name, likelihood in LIKELIHOODS.items():
        with subtests.test(msg=name):
            output = numbers(20, outputs_of(name))
            y, own = observations(likelihood, output), initial(likelihood, 3)
            law = likelihood.distribution(output, own)
            close(likelihood.log_prob(output, y, own), law.log_prob(y))
            assert law.batch_shape == (20,)
            assert law.event_shape == y.shape[1:]
            likelihood.check(y, outputs_of(name))


def test_densities_are_normalised_with_the_mean_and_variance_that_they_say(subtests):
    for name, (likelihood, output, values) in SINGLE.items():
        with subtests.test(msg=name):
            output, own = torch.tensor(output).double(), initial(likelihood, 1)
            y, weights = quadrature(likelihood, output, values)
            density = weights * likelihood.log_prob(output.expand(len(y), -1), y, own).exp()
            seen = torch.nn.functional.one_hot(y).double() if name == "Categorical" else y.double()
            close(density.sum(), torch.ones(()).double(), rtol=1e-6)
            law, mean = likelihood.distribution(output, own), density @ seen
            close(law.mean[0], mean, rtol=1e-6)
            close(law.variance[0], density @ (seen - mean).square(), rtol=1e-6)


def test_the_curvature_in_the_outputs_is_the_fisher_information(subtests):
    for name, (likelihood, output, values) in SINGLE.items():
        if name not in BUILT_IN:
            continue  # by default it is the Hessian at the y that was observed
        with subtests.test(msg=name):
            output = torch.tensor(output).double()
            y, weights = quadrature(likelihood, output, values)
            repeated = output.expand(len(y), -1).clone().requires_grad_()
            log_prob = likelihood.log_prob(repeated, y, {})
            (score,) = torch.autograd.grad(log_prob.sum(), repeated)
            density = (weights * log_prob.exp()).detach()
            fisher = torch.einsum("p,pi,pj->ij", density, score, score)
            close(output_curvature(likelihood, output, y[:1], {})[0], fisher, rtol=1e-6)


def test_the_curvature_of_several_outputs_and_of_a_users_own():
    output, y = numbers(4, 5), numbers(4, 3, seed=1)
    found = output_curvature(HeteroscedasticGaussian((2, 1)), output, y, {})
    expected = torch.cat([(-output[:, [3, 3, 4]]).exp(), torch.tensor([1.0, 0.5]).double().expand(4, 2)], dim=1)
    close(found, torch.diag_embed(expected))
    scales = torch.tensor([0.1, 0.2, 0.4], dtype=torch.float64)
    close(
        output_curvature(LaplaceNoise((0.1, 0.2, 0.4)), output[:, :3], y, {}),
        torch.diag_embed((scales**-2).expand(4, 3)),
    )
    by_hand = torch.diag_embed(output.exp() * y.new_tensor(0.7))  # of -(f - e^f y)
    close(output_curvature(Exponential(), output, torch.full_like(output, 0.7), {}), by_hand)


def test_large_numbers_lose_no_precision():
    counts = torch.tensor([[0], [1], [7], [10**4], [10**6]])
    for excess in (-1e-3, 0.0, 1e-3):
        output = counts.clamp_min(1).double().log() + excess
        exact = torch.from_numpy(stats.poisson.logpmf(counts.numpy(), output.exp().numpy()))[:, 0]
        found = Poisson().log_prob(output, counts, {})
        torch.testing.assert_close(found, exact, rtol=1e-8, atol=1e-8)
        single = Poisson().log_prob(output.float(), counts, {})
        expected = Poisson().log_prob(output.float().double(), counts, {})
        torch.testing.assert_close(single.double(), expected, rtol=1e-5, atol=3e-3)
    logits = torch.tensor([[-800.0], [-30.0], [30.0], [800.0]]).double()
    close(
        Bernoulli().log_prob(logits, torch.zeros(4, 1), {}), torch.tensor([0.0, -math.exp(-30), -30.0, -800.0]).double()
    )
    close(Bernoulli().log_prob(logits, torch.ones(4, 1), {}), torch.tensor([-800.0, -30.0, 0.0, 0.0]).double())


def test_labels_may_be_of_any_integer_type():
    output, labels = numbers(20, 2), numbers(20, seed=1) > 0
    for kind in (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32):
        y = labels.to(kind)
        Categorical().check(y, 2)
        close(Categorical().log_prob(output, y, {}), Categorical().log_prob(output, labels.long(), {}))


def test_yes_no_and_counts_may_be_of_any_type():
    output, yes = numbers(20, 3), numbers(20, 3, seed=1) > 0
    for y in (yes, yes.int(), yes.long(), yes.float(), yes.double()):
        for likelihood in (Bernoulli(), Poisson()):
            likelihood.check(y, 3)
            close(likelihood.log_prob(output, y, {}), likelihood.log_prob(output, yes.double(), {}))
            close(likelihood.distribution(output, {}).log_prob(y.to(torch.int64)), likelihood.log_prob(output, y, {}))


REFUSED = [
    (Bernoulli(), torch.zeros(5), 1, ValueError, r"y has shape \(5,\), but the network has 1 outputs: \(batch, 1\)"),
    (Bernoulli(), torch.full((5, 1), 0.5), 1, ValueError, r"needs y of 0 and 1, got 0\.5"),
    (Bernoulli(), torch.full((5, 1), -1), 1, ValueError, "needs y of 0 and 1, got -1"),
    (Poisson(), torch.zeros(5, 2), 1, ValueError, r"y has shape \(5, 2\), but the network has 1 outputs"),
    (Poisson(), torch.full((5, 1), 1.5), 1, ValueError, r"needs counts 0, 1, 2, ... as y, got 1\.5"),
    (Poisson(), torch.full((5, 1), -1), 1, ValueError, "needs counts 0, 1, 2, ... as y, got -1"),
    (LaplaceNoise(0.3), torch.zeros(5, 2), 1, ValueError, r"y has shape \(5, 2\)"),
    (LaplaceNoise((0.3, 0.1)), torch.zeros(5, 3), 3, ValueError, "scale has 2 numbers for 3 outputs"),
    (
        StudentT(4, 0.3),
        torch.zeros(5, 1, dtype=torch.int64),
        1,
        TypeError,
        "a StudentT likelihood needs floating-point y",
    ),
    (HeteroscedasticGaussian(3), torch.zeros(5, 3), 3, ValueError, "3 means and 1 log variance.*4 outputs.* has 3"),
    (HeteroscedasticGaussian(3), torch.zeros(5, 4), 4, ValueError, r"y has shape \(5, 4\), but pieces \(3,\) are of"),
    (HeteroscedasticGaussian(1), torch.zeros(5, 1, dtype=torch.int32), 2, TypeError, "needs floating-point y"),
]


def test_what_is_no_observation_is_refused():
    for likelihood, y, num_outputs, error, message in REFUSED:
        with pytest.raises(error, match=message):
            likelihood.check(y, num_outputs)


def test_impossible_settings_are_refused():
    for make, message in [
        (lambda: LaplaceNoise(-1.0), "scale must be positive and finite, got -1"),
        (lambda: LaplaceNoise(1e-4, learned=True), r"scale 0\.0001 must exceed the floor 0\.001"),
        (lambda: StudentT(4.0, math.inf), "scale must be positive and finite"),
        (lambda: StudentT(0.0, 1.0), "degrees_of_freedom must be positive and finite, got 0"),
        (lambda: StudentT(math.inf, 1.0), "degrees_of_freedom must be positive and finite"),
        (lambda: LaplaceNoise((0.3, 0.1), learned=True).parameters(3), "scale has 2 numbers for 3 outputs"),
        (lambda: HeteroscedasticGaussian(0), "pieces must be the sizes of the pieces of y, positive integers, got 0"),
        (lambda: HeteroscedasticGaussian((2, 0.5)), "positive integers, got"),
        (lambda: HeteroscedasticGaussian(()), "positive integers, got"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()


def test_annotations_can_be_read_and_every_public_likelihood_is_here():
    public = [getattr(bayes_rpp, name) for name in bayes_rpp.__all__]
    kinds = {kind for kind in public if isinstance(kind, type) and issubclass(kind, Likelihood)}
    assert kinds == {type(one) for one in BUILT_IN.values()} | {Likelihood}
    for kind in kinds:
        for name, method in inspect.getmembers(kind, inspect.isfunction):
            if not name.startswith("_"):
                assert "return" in typing.get_type_hints(method)
