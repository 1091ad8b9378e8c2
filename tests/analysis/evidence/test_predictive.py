"""PSIS-LOO against closed forms in linear models, and what it refuses."""

import math
import warnings

import arviz
import numpy as np
import pytest
import torch

from analysis.evidence.cross_validation import PSISLOO, loo_of
from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, LogDensity, RPPPrior, Scalar, Vector
from inference import MAP, DeepEnsemble, Laplace, Posterior
from inference.exact.exact_posterior import exact_loo, exact_posterior
from tests.arviz_versions import loo
from tests.error_rate import t_limit
from tests.seeds import shifted

QUICK = Laplace(mode=MAP(epochs=2), draws=200)


def linear(count, outlier=0.0):
    """A linear RPP layer and data from no symmetric map; the first example may be far out."""
    generator = torch.Generator().manual_seed(5)
    net = RPPEMLP(Vector + Scalar, Vector, SO(3), layers=0, parametrization="collapsed").double()
    x, weight, noise = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((count, 4), (3, 4), (count, 3))
    )
    y = x @ weight.mT / 2 + 0.3 * noise
    y[0] += outlier
    prior = RPPPrior(equivariant_variance=1.0, dense_variance=0.1, scaling="none")
    return BayesianModel(net, prior, Gaussian(0.25)), (x, y)


@pytest.fixture(scope="module")
def problem():
    return linear(80)


@pytest.fixture(scope="module")
def exact(problem):
    return exact_posterior(*problem, device="cpu")


def score_of_the_mean(values, expected):
    """|t| of independent estimates over the limit of right ones."""
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    return abs(np.mean(values) - expected) / error / t_limit(1, len(values) - 1)


def in_sample_score(model, data, exact):
    """sum_i log N(y_i; m_i, C_i + v I) for outputs N(m, C) of every example, which had a part in them."""
    x, y = data
    inputs = torch.cat([torch.kron(torch.eye(3).double(), row[None]) for row in x]).unflatten(0, (len(x), 3))
    jacobian = torch.cat([inputs, torch.eye(3).double().expand(len(x), 3, 3)], dim=-1)
    covariance = jacobian @ exact.covariance @ jacobian.mT + 0.25 * torch.eye(3).double()
    law = torch.distributions.MultivariateNormal(model.output(exact.mean, x), covariance)
    return float(law.log_prob(y).sum())


@pytest.mark.statistical
def test_loo_from_exact_draws_is_the_closed_form(problem, exact):
    expected = float(exact_loo(*problem, device="cpu").sum())
    found = [loo_of(exact.draw(1000, shifted(seed))) for seed in range(16)]
    assert score_of_the_mean([each.value for each in found], expected) < 1
    assert score_of_the_mean([each.value for each in found], in_sample_score(*problem, exact)) > 1
    pointwise = np.mean([each.details["pointwise"] for each in found], axis=0)
    np.testing.assert_allclose(pointwise, exact_loo(*problem, device="cpu").numpy(), atol=0.05)


def test_it_is_what_arviz_gives_on_the_whole_view(exact):
    posterior = exact.draw(400, seed=1)
    found, direct = loo_of(posterior), loo(posterior.to_arviz())
    assert found.value == pytest.approx(direct.elpd, rel=1e-12)
    assert found.details["effective_parameters"] == pytest.approx(direct.p, rel=1e-9)
    assert found.value == pytest.approx(found.details["pointwise"].sum(), rel=1e-12)
    assert found.standard_error == pytest.approx(math.sqrt(80) * found.details["pointwise"].std(), rel=1e-12)
    assert found.warnings == ()


def test_outputs_of_an_example_are_left_out_together(problem, exact):
    posterior = exact.draw(400, seed=1)
    assert loo_of(posterior).details["pointwise"].shape == (80,)
    log_likelihood = posterior.log_likelihood(*problem[1])[0]
    in_sample = (log_likelihood.logsumexp(0) - math.log(400)).sum()
    assert loo_of(posterior).value < float(in_sample)


def test_chains_that_move_slowly_count_by_their_effective_draws(exact):
    """Pareto's tail is longer the fewer draws are effective."""
    draws = exact.draw(250, seed=2)
    repeated = {
        name: value.repeat_interleave(4, dim=1).reshape(2, 500, *value.shape[2:])
        for name, value in draws.samples.items()
    }
    slow = Posterior(draws.model, repeated, {"engine": "HMC"}, data=draws.data)
    view = slow.to_arviz()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Estimated shape parameter", UserWarning)
        as_independent = loo(view, reff=1.0)
    found = loo_of(slow)
    relative = np.exp(view.log_likelihood["y"].values)
    sizes = arviz.ess(arviz.convert_to_dataset({"y": relative}), method="mean")["y"].values
    expected = loo(view, reff=float(sizes.mean()) / 1000)
    assert sizes.mean() < 500
    np.testing.assert_allclose(found.details["pareto_k"], expected.pareto_k, rtol=1e-6)
    assert not np.allclose(found.details["pareto_k"], as_independent.pareto_k, rtol=1e-3)


def test_a_chain_that_stands_still_is_named_where_its_weights_are_the_largest(exact):
    """The weights that are smoothed are all the same there: no Pareto distribution fits them."""
    draws = exact.draw(100, seed=3)
    samples = {name: value.reshape(4, 25, *value.shape[2:]).clone() for name, value in draws.samples.items()}
    for value in samples.values():
        value[0] = 3 * value[0, :1]
    found = loo_of(Posterior(draws.model, samples, {"engine": "HMC"}, data=draws.data))
    assert np.isinf(found.details["pareto_k"]).any()
    assert np.isfinite(found.details["pointwise"]).all()
    assert "(the largest is inf)" in found.warnings[0]


@pytest.mark.statistical
def test_influential_examples_are_counted_and_named():
    model, data = linear(40, outlier=6.0)
    posterior = exact_posterior(model, data, device="cpu").draw(4000, seed=shifted())
    loo = loo_of(posterior)
    high = np.flatnonzero(loo.details["pareto_k"] > 0.7).tolist()
    assert high[0] == 0  # the outlier; others that it draws along may be among them
    assert float(loo.details["pareto_k"].argmax()) == 0
    counted = f"{len(high)} example{'s' if len(high) > 1 else ''} ({', '.join(map(str, high))})"
    assert loo.warnings[0].startswith(f"The Pareto k of {counted} is above 0.7 (the largest is ")
    # It is right to warn: the score is far from the truth there.
    truth = float(exact_loo(model, data, device="cpu")[0])
    assert abs(loo.details["pointwise"][0] - truth) > 1


def test_the_method_scores_the_posterior_that_its_engine_fits(problem):
    model, data = problem
    method = PSISLOO(QUICK)
    found = method.estimate(model, data, seed=3, device="cpu", progress=False)
    expected = loo_of(QUICK.fit(model, data, seed=3, device="cpu", progress=False))
    again = method.estimate(model, data, seed=3, device="cpu", progress=False)
    assert found.value == expected.value == again.value
    assert found.seconds > expected.seconds
    assert found.warnings[0].startswith("Laplace approximates the posterior")


def test_states_that_are_no_draws_are_refused(problem, exact):
    model, data = problem
    for engine, what in ((MAP(epochs=2), "MAP gave one state"), (DeepEnsemble(members=3, epochs=2), "3 members")):
        with pytest.raises(ValueError, match=rf"needs draws of the posterior, but .*{what.split()[-1]}"):
            loo_of(engine.fit(model, data, seed=0, device="cpu", progress=False))
    with pytest.raises(ValueError, match="at least 100 draws, got 99 from exact"):
        loo_of(exact.draw(99, seed=0))
    warm = exact.draw(200, seed=0)
    warm.stats["temperature"] = 0.5
    with pytest.raises(ValueError, match=r"temperature 1, got draws at temperature 0\.5"):
        loo_of(warm)


def test_posteriors_without_examples_to_leave_out_are_refused(problem, exact):
    without = exact.draw(200, seed=0)
    without.data = None
    with pytest.raises(ValueError, match="needs the training data"):
        loo_of(without)
    model, (x, y) = problem
    with pytest.raises(ValueError, match="at least 2 examples"):
        loo_of(exact_posterior(model, (x[:1], y[:1]), device="cpu").draw(200, seed=0))
    density = LogDensity(lambda p: -p["z"].square().sum(), {"z": torch.zeros(2)})
    with pytest.raises(TypeError, match="posterior of a BayesianModel"):
        loo_of(Posterior(density, {"z": torch.randn(1, 200, 2)}))


def test_lost_chains_are_told(exact):
    posterior = exact.draw(400, seed=1)
    posterior.partial = [exact.draw(5, seed=0)]
    assert loo_of(posterior).warnings == ("1 chain(s) diverged and are left out.",)


@pytest.mark.parametrize("engine", [None, Laplace, PSISLOO(QUICK)])
def test_what_cannot_fit_is_no_engine(engine):
    with pytest.raises(TypeError, match="engine must have a method fit"):
        PSISLOO(engine)
