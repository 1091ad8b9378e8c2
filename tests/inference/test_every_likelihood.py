"""What every engine must do with every likelihood, a user's own among them."""

import dataclasses

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Normal
from torch.distributions import constraints

from bayes_rpp import BayesianModel, RPPPrior
from inference import HMC, MAP, DeepEnsemble, EmpiricalBayes, Laplace, Posterior
from tests.scenarios.engines import CASES
from tests.scenarios.likelihoods import BUILT_IN, LIKELIHOODS, likelihood_model, numbers
from tests.seeds import shifted

ONES = torch.ones(2)
each_likelihood = pytest.mark.parametrize("name", LIKELIHOODS)


def moments_by_hand(posterior, x):
    """Mean, epistemic and aleatoric variance of y, from the distributions of all draws."""
    outputs, means, variances = posterior.outputs(x), [], []
    for chain in range(posterior.chains):
        for draw in range(posterior.draws):
            own = {name: value[chain, draw] for name, value in posterior.samples.items()}
            law = posterior.model.likelihood.distribution(outputs[chain, draw], own)
            means.append(law.mean)
            variances.append(law.variance)
    means = torch.stack(means)
    return means.mean(0), means.var(0, correction=0), torch.stack(variances).mean(0)


@each_likelihood
def test_every_engine_fits_it_and_its_posterior_does_all_that_posteriors_do(name, subtests, tmp_path):
    model, (x, y) = likelihood_model(name, num_data=12)
    for engine, size, _ in CASES:
        kind = type(engine).__name__
        with subtests.test(msg=kind):
            posterior = engine.fit(model, (x, y), seed=0)
            assert posterior.samples.keys() == posterior.bayesian_model.initial_params(0).keys()
            assert all(value.isfinite().all() for value in posterior.samples.values())
            prediction = posterior.predict(x)
            assert prediction.samples.shape == (*size, 12, model.num_outputs)
            parts = (prediction.mean, prediction.epistemic, prediction.aleatoric)
            for found, expected in zip(parts, moments_by_hand(posterior, x), strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
            assert torch.equal(prediction.variance, prediction.epistemic + prediction.aleatoric)
            groups = posterior.to_arviz()
            shape = size if size[1] > 1 else (1, size[0])
            assert groups.log_likelihood["y"].shape == (*shape, 12)
            assert groups.posterior_predictive["y"].shape == (*shape, *y.shape)
            assert (groups.observed_data["y"].values == y.numpy()).all()
            given = None if name in BUILT_IN else posterior.model
            loaded = Posterior.load(posterior.save(tmp_path / kind), model=given)
            assert torch.equal(loaded.predict(x).variance, prediction.variance)
            assert torch.equal(loaded.log_joint(), posterior.log_joint())


@each_likelihood
def test_the_pyro_program_has_the_same_joint(name):
    model, (x, y) = likelihood_model(name, num_data=12)
    params = model.initial_params(seed=0)
    with pyro.validation_enabled(True):
        trace = poutine.trace(poutine.condition(model.pyro_model, data=params)).get_trace(x, y)
    torch.testing.assert_close(trace.log_prob_sum(), model.log_joint(params, x, y), rtol=1e-9, atol=1e-9)


@each_likelihood
def test_gradients_and_batches_of_draws_agree(name):
    """Under vmap and grad, as the engines evaluate it."""
    model, (x, y) = likelihood_model(name, layers=1, num_data=12)
    starts = [model.initial_params(seed) for seed in range(3)]
    stacked = {key: torch.stack([start[key] for start in starts]) for key in starts[0]}
    with pyro.validation_enabled(False):
        slopes = torch.func.vmap(torch.func.grad(lambda params: model.log_joint(params, x, y)))(stacked)
    for index, start in enumerate(starts):
        leaves = {key: value.clone().requires_grad_() for key, value in start.items()}
        expected = torch.autograd.grad(model.log_joint(leaves, x, y), list(leaves.values()))
        for key, slope in zip(leaves, expected, strict=True):
            torch.testing.assert_close(slopes[key][index], slope, rtol=1e-9, atol=1e-9)


@pytest.mark.statistical
@each_likelihood
def test_a_fit_predicts_new_data_better_than_one_without_inputs(name):
    model, data = likelihood_model(name, num_data=600, seed=shifted())
    train, test = ([part[rows] for part in data] for rows in (slice(300), slice(300, None)))
    engine = MAP(epochs=200, lr=2e-2)

    def scores(blind):
        pairs = [(x * (0.0 if blind else 1.0), y) for x, y in (train, test)]
        return engine.fit(model, pairs[0], seed=0).log_likelihood(*pairs[1])[0, 0]

    gain = scores(blind=False) - scores(blind=True)
    assert gain.mean() > 0


@pytest.mark.parametrize("name", [name for name in LIKELIHOODS if LIKELIHOODS[name].parameters(3)])
def test_parameters_of_its_own_are_learned_beside_the_prior(name):
    """Variances by the evidence, the likelihood's parameters with the weights; a Gaussian's noise by the evidence."""
    model, data = likelihood_model(name)
    posterior = EmpiricalBayes(epochs=60, lr=3e-2, members=2).fit(model, data, seed=0)
    own = model.likelihood.parameters(model.num_outputs)
    if "noise_variance" in own:
        assert posterior.bayesian_model.likelihood.noise_variance == posterior.stats["variances"]["noise_variance"]
        assert "noise_variance" not in posterior.samples
        return
    for key, start in own.items():
        learned = posterior.samples[key][:, 0]
        assert (learned != start).all()
        assert model.likelihood.constraints()[key].check(learned).all()


def test_its_parameters_reach_their_conditional_mode_beside_the_prior():
    """At the end of the training the joint is flat in a learned scale, which nothing else moves."""
    model, (x, y) = likelihood_model("LaplaceNoise, learned", num_data=200)
    posterior = EmpiricalBayes(epochs=400, lr=3e-2).fit(model, (x, y), seed=0)
    params = {key: value[0, 0] for key, value in posterior.samples.items()}
    scale = params["noise_scale"].clone().requires_grad_()
    joint = posterior.bayesian_model.log_joint({**params, "noise_scale": scale}, x, y) + (scale - 1e-3).log().sum()
    assert torch.autograd.grad(joint, scale)[0].mul(scale.detach()).abs().max() < 0.02 * len(x)


class AbsoluteError:
    """A user's own, whose log density is of straight lines."""

    def __init__(self, given):
        self.given = given

    def __getattr__(self, name):
        if name == "output_curvature":
            raise AttributeError(name)
        return getattr(self.given, name)


def test_a_log_density_of_lines_has_no_hessian_and_is_refused_by_curvatures():
    model, data = likelihood_model("LaplaceNoise")
    own = BayesianModel(model.network, model.prior, AbsoluteError(model.likelihood))
    for curvature in ("full", "layer", "diagonal"):
        with pytest.raises(TypeError, match=r"AbsoluteError has no curvature .* method output_curvature"):
            Laplace(curvature, mode=MAP(epochs=3)).fit(own, data, seed=0)
    HMC(chains=2, draws=3, warmup=3, trajectory_length=0.1).fit(own, data, seed=0)


def test_predictions_without_moments_say_so(caplog):
    model, data = likelihood_model("StudentT")
    posterior = DeepEnsemble(members=2, epochs=3).fit(model, data, seed=0)

    def predict(degrees):
        likelihood = dataclasses.replace(model.likelihood, degrees_of_freedom=degrees)
        wide = BayesianModel(model.network, RPPPrior(), likelihood)
        return Posterior(wide, posterior.samples).predict(data[0])

    prediction = predict(1.5)
    assert prediction.variance.isinf().all()
    torch.testing.assert_close(prediction.mean, posterior.predict(data[0]).mean)
    assert "the variance of an observation is infinite under StudentT(degrees_of_freedom=1.5" in caplog.text
    with pytest.raises(
        TypeError, match=r"an observation has no (mean|variance) under StudentT\(degrees_of_freedom=1\.0"
    ):
        predict(1.0)


def test_the_linearised_predictive_is_exact_where_the_output_is_the_mean():
    for name, exact in (("LaplaceNoise", True), ("StudentT", True), ("Bernoulli", False), ("Poisson", False)):
        model, (x, y) = likelihood_model(name)
        posterior = Laplace(draws=20, mode=MAP(epochs=50)).fit(model, (x, y), seed=0)
        prediction, new = posterior.linearized(x), model.output(posterior.mode, x)
        # A linear network is its own linearisation, draw by draw.
        torch.testing.assert_close(prediction.samples, posterior.predict(x).samples, rtol=1e-9, atol=1e-9)
        if exact:
            torch.testing.assert_close(prediction.mean, new)
        else:
            torch.testing.assert_close(prediction.mean, posterior.predict(x).mean, rtol=1e-9, atol=1e-9)


def test_a_model_asks_for_what_a_likelihood_lacks():
    model, (x, y) = likelihood_model("a user's")

    def having(**methods):
        kind = type("Mine", (type(model.likelihood),), methods)
        return BayesianModel(model.network, RPPPrior(), kind())

    with pytest.raises(TypeError, match=r"likelihood 0\.2 has no method 'parameters': derive its class from bayes_rpp"):
        BayesianModel(model.network, RPPPrior(), 0.2)
    with pytest.raises(
        ValueError, match=r"Mine.priors are of \[\], but its parameters are \['k'\]: they differ in 'k'"
    ):
        having(parameters=lambda self, num_outputs: {"k": torch.ones(())})
    k = {"constraints": lambda self: {"k": constraints.positive}, "parameters": lambda self, num_outputs: {"k": -ONES}}
    with pytest.raises(ValueError, match=r"Mine's initial 'k' = \[-1\.0, -1\.0\] breaks its constraint"):
        having(priors=lambda self, num_outputs: {"k": Normal(ONES, 1.0).to_event(1)}, **k)
    k["parameters"] = lambda self, num_outputs: {"k": ONES}
    with pytest.raises(
        ValueError, match=r"prior of 'k' must have one event of shape \(2,\), got events of shape \(\) in"
    ):
        having(priors=lambda self, num_outputs: {"k": Normal(ONES, 1.0)}, **k)
    plain = having(distribution=lambda self, output, params: torch.distributions.Exponential(output.exp()))
    with pytest.raises(ValueError, match=r"y has shape \(40, 3\); expected \(batch\)"):
        plain.check_data(x, y)
    with pytest.raises(ValueError, match=r"log_prob of Mine has shape \(40, 3\) for 40 examples, .* \.to_event\(1\)"):
        plain.log_likelihood(plain.initial_params(0), x, y)
    nameless = having(distribution=lambda self, output, params: torch.distributions.Cauchy(output, 1.0))
    posterior = Posterior(nameless, {key: value[None, None] for key, value in nameless.initial_params(0).items()})
    with pytest.raises(
        TypeError, match=r"an observation has no mean under .*, as far as its distribution, a Cauchy, says"
    ):
        posterior.predict(numbers(3, 4))
