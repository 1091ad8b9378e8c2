"""What a posterior says about outputs and observations, against literal loops and torch.distributions."""

import pytest
import torch
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Normal
from torch.func import functional_call

from bayes_rpp import MLP, BayesianModel, Categorical, Gaussian, NormalizedNetwork, RPPPrior
from inference import MAP, DeepEnsemble, Posterior
from tests.error_rate import z_limit
from tests.seeds import shifted

MEMBERS = DeepEnsemble(members=4, epochs=2, batch_size=None)


@pytest.fixture
def double_bodies(bodies):
    return tuple(part.double() for part in bodies.train), tuple(part.double() for part in bodies.test)


@pytest.fixture
def fit(make_small_model, bodies, double_bodies):
    def fit(likelihood=None, **options):
        model = make_small_model(bodies, likelihood, dtype=torch.float64, **options)
        return MEMBERS.fit(model, double_bodies[0], seed=0)

    return fit


def literal_outputs(posterior, x):
    """One call of the network for every draw, with that draw's parameters."""
    network, names = posterior.model.network, dict(posterior.model.network.named_parameters())
    chains = [
        torch.stack(
            [functional_call(network, {n: posterior.samples[n][c, d] for n in names}, (x,)) for d in range(draws)]
        )
        for c, draws in enumerate([posterior.draws] * posterior.chains)
    ]
    return torch.stack(chains).detach()


def as_one_chain(posterior):
    """The same draws as two chains of two."""
    samples = {name: value.reshape(2, 2, *value.shape[2:]) for name, value in posterior.samples.items()}
    return Posterior(posterior.model, samples, posterior.stats, data=posterior.data)


def test_outputs_are_the_networks_own_draw_by_draw(fit, double_bodies):
    posterior, x = fit(), double_bodies[1][0]
    samples = posterior.predict(x).samples
    assert samples.shape == (4, 1, 12, 9)
    torch.testing.assert_close(samples, literal_outputs(posterior, x), rtol=1e-10, atol=1e-12)
    two_by_two = as_one_chain(posterior).predict(x).samples
    assert two_by_two.shape == (2, 2, 12, 9)
    assert torch.equal(two_by_two[1, 0], samples[2, 0])


def test_mean_and_epistemic_variance_are_the_moments_over_draws(fit, double_bodies):
    posterior, x = fit(), double_bodies[1][0]
    prediction, draws = posterior.predict(x), literal_outputs(posterior, x).flatten(0, 1)
    mean = sum(draws) / 4
    torch.testing.assert_close(prediction.mean, mean)
    torch.testing.assert_close(prediction.epistemic, sum((draw - mean) ** 2 for draw in draws) / 4)
    assert (prediction.epistemic > 0).all()


def test_known_noise_is_the_aleatoric_variance_and_the_total_is_the_sum(fit, double_bodies):
    prediction = fit().predict(double_bodies[1][0])
    assert prediction.mean.shape == prediction.variance.shape == (12, 9)
    torch.testing.assert_close(prediction.aleatoric, torch.full_like(prediction.mean, 0.2), rtol=1e-14, atol=0)
    assert torch.equal(prediction.variance, prediction.epistemic + prediction.aleatoric)


@pytest.mark.parametrize("per_output", [False, True])
def test_learned_noise_is_averaged_over_the_draws(fit, double_bodies, per_output):
    posterior = fit(Gaussian(noise_variance=0.2, learned=True, per_output=per_output))
    shape = (4, 1, 9) if per_output else (4, 1)
    assert posterior.samples["noise_variance"].shape == shape
    posterior.samples["noise_variance"] = torch.arange(1.0, 1 + torch.Size(shape).numel()).double().reshape(shape)
    aleatoric = posterior.predict(double_bodies[1][0]).aleatoric
    expected = posterior.samples["noise_variance"].mean((0, 1)).expand(12, 9)
    torch.testing.assert_close(aleatoric, expected)
    torch.testing.assert_close(as_one_chain(posterior).predict(double_bodies[1][0]).aleatoric, expected)


@pytest.mark.statistical
def test_predictive_variance_is_that_of_simulated_observations(fit, double_bodies):
    posterior, x = fit(Gaussian(noise_variance=0.5)), double_bodies[1][0][:2]
    prediction = posterior.predict(x)
    generator = torch.Generator().manual_seed(shifted())
    draws = prediction.samples.flatten(0, 1).repeat(5000, 1, 1)
    simulated = draws + 0.5**0.5 * torch.randn(draws.shape, generator=generator, dtype=draws.dtype)
    ratio = simulated.var(0) / prediction.variance
    assert ((ratio - 1).abs() < z_limit(ratio.numel()) * (2 / len(draws)) ** 0.5).all()


class Rollout(torch.nn.Module):
    """A foreign network whose output is (batch, time, dim)."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 6)

    def forward(self, x):
        return self.linear(x).unflatten(-1, (3, 2))


@pytest.mark.parametrize("per_output", [False, True])
def test_rollouts_have_learned_noise_too(per_output):
    likelihood = Gaussian(noise_variance=0.3, learned=True, per_output=per_output)
    model = BayesianModel(Rollout(), RPPPrior(), likelihood, num_outputs=2)
    x, y = torch.ones(5, 2), torch.zeros(5, 3, 2)
    posterior = MEMBERS.fit(model, (x, y), seed=0)
    noise = posterior.samples["noise_variance"].mean((0, 1))
    for batch in (x, x[:4]):  # as many examples as draws, and another number
        prediction = posterior.predict(batch)
        assert prediction.variance.shape == (len(batch), 3, 2)
        torch.testing.assert_close(prediction.aleatoric, noise.expand(len(batch), 3, 2))
    assert posterior.log_likelihood(x, y).shape == (4, 1, 5)


def test_categorical_predictive_is_that_of_the_one_hot_label(fit, make_small_model, bodies, double_bodies):
    model = make_small_model(bodies, Categorical(), network=MLP, dtype=torch.float64)
    x = double_bodies[1][0]
    posterior = MEMBERS.fit(model, (double_bodies[0][0], torch.arange(30) % 9), seed=0)
    prediction = posterior.predict(x)
    probabilities = TorchCategorical(logits=literal_outputs(posterior, x).flatten(0, 1)).probs
    torch.testing.assert_close(prediction.samples, literal_outputs(posterior, x))
    torch.testing.assert_close(prediction.mean, probabilities.mean(0))
    torch.testing.assert_close(prediction.epistemic, probabilities.var(0, correction=0))
    # The label is Bernoulli in each class: its total variance is p (1 - p) of the mean probability p.
    torch.testing.assert_close(prediction.variance, prediction.mean * (1 - prediction.mean))


def test_no_examples_give_no_predictions(fit, double_bodies):
    assert fit().predict(double_bodies[1][0][:0]).mean.shape == (0, 9)


@pytest.mark.parametrize("per_output", [False, True])
def test_log_likelihood_is_that_of_torch_distributions(fit, double_bodies, per_output):
    posterior, (x, y) = fit(Gaussian(0.2, learned=True, per_output=per_output)), double_bodies[1]
    noise = posterior.samples["noise_variance"].reshape(4, 1, 1, -1)
    expected = Normal(literal_outputs(posterior, x), noise.sqrt()).log_prob(y).sum(-1)
    assert expected.shape == (4, 1, 12)
    torch.testing.assert_close(posterior.log_likelihood(x, y), expected)


def test_log_likelihood_takes_arrays_and_refuses_what_fit_refuses(fit, double_bodies):
    posterior, (x, y) = fit(), double_bodies[1]
    assert torch.equal(posterior.log_likelihood(x.numpy(), y.numpy()), posterior.log_likelihood(x, y))
    for wrong in (y[:, :1], y[:1], y[:, :, None]):
        with pytest.raises(ValueError, match="y has"):
            posterior.log_likelihood(x, wrong)


@pytest.mark.parametrize("normalized", [False, True])
def test_predict_refuses_inputs_that_do_not_fit(make_small_model, bodies, normalized):
    model = make_small_model(bodies)
    if normalized:
        model = BayesianModel(NormalizedNetwork.fit(model.network, *bodies.train), RPPPrior(), Gaussian(0.2))
    posterior = MAP(epochs=1).fit(model, bodies.train, seed=0)
    for width in (19, 1):
        with pytest.raises(ValueError, match=rf"\(4, {width}\).*size 20"):
            posterior.predict(torch.zeros(4, width))
    with pytest.raises(ValueError, match="x holds 80 NaN or infinite"):
        posterior.predict(torch.full((4, 20), float("inf")))
