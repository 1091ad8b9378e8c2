"""The ArviZ view of a posterior."""

import arviz
import numpy as np
import pytest
import torch

from bayes_rpp import MLP, Categorical, Gaussian, LogDensity
from inference import MAP, DeepEnsemble, Posterior
from tests.error_rate import z_limit
from tests.seeds import shifted

NOISE = 0.2


@pytest.fixture
def posterior(make_small_model, bodies):
    """Eight draws as two chains of four, of a model with learned noise."""
    model = make_small_model(bodies, Gaussian(NOISE, learned=True))
    fitted = DeepEnsemble(members=8, epochs=2).fit(model, bodies.train, seed=shifted())
    samples = {name: value.reshape(2, 4, *value.shape[2:]) for name, value in fitted.samples.items()}
    return Posterior(model, samples, fitted.stats, data=fitted.data)


def test_groups_hold_everything_in_its_shape(posterior, bodies):
    view = posterior.to_arviz()
    assert set(view.groups()) == {"posterior", "posterior_predictive", "log_likelihood", "observed_data"}
    for name, value in posterior.samples.items():
        assert np.array_equal(view.posterior[name].values, value.numpy())
    assert view.posterior_predictive["y"].shape == (2, 4, 30, 9)
    assert view.log_likelihood["y"].shape == (2, 4, 30)
    assert np.array_equal(view.observed_data["y"].values, bodies.train.y.numpy())


def test_log_likelihood_is_the_posteriors(posterior):
    expected = posterior.log_likelihood(*posterior.data)
    assert np.array_equal(posterior.to_arviz().log_likelihood["y"].values, expected.numpy())


@pytest.mark.statistical
def test_replicates_scatter_about_the_outputs_with_the_noise_of_their_draw(posterior):
    posterior.samples["noise_variance"] = torch.linspace(0.1, 2.0, 8).reshape(2, 4)
    replicates = posterior.to_arviz().posterior_predictive["y"].values
    residuals = torch.as_tensor(replicates) - posterior.outputs(posterior.data[0])
    z = residuals.flatten(2) / posterior.samples["noise_variance"].sqrt()[..., None]
    count = z.shape[-1]
    assert (z.mean(-1).abs() < z_limit(8) / count**0.5).all()
    squares = (2 * z.square().sum(-1)).sqrt() - (2 * count - 1) ** 0.5  # standard normal, after Fisher
    assert (squares.abs() < z_limit(8)).all()
    correlation = np.corrcoef(z.flatten(0, 1).numpy()) - np.eye(8)  # every draw has noise of its own
    assert np.abs(correlation).max() < z_limit(28) / count**0.5


def test_replicates_come_from_the_seed_alone(posterior):
    state = torch.get_rng_state()
    first, second = (posterior.to_arviz().posterior_predictive["y"].values for _ in range(2))
    assert np.array_equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


def test_summary_and_loo_take_it(posterior):
    """Draws that differ little, so that leave-one-out is exact to first order: elpd = lppd - sum of variances."""
    draws = 200
    samples = {name: value[:1, :1].expand(2, draws, *value.shape[2:]) for name, value in posterior.samples.items()}
    noise = torch.randn(2, draws, generator=torch.Generator().manual_seed(0))
    samples["noise_variance"] = 30 + 0.3 * noise
    close = Posterior(posterior.model, samples, posterior.stats, data=posterior.data)
    view = close.to_arviz()
    summary = arviz.summary(view, var_names=["noise_variance"], round_to="none")
    assert summary.loc["noise_variance", "mean"] == pytest.approx(float(samples["noise_variance"].mean()), rel=1e-6)
    exact = close.log_likelihood(*close.data).double().flatten(0, 1)
    lppd, penalty = (exact.logsumexp(0) - np.log(2 * draws)).sum(), exact.var(0).sum()
    assert float(arviz.loo(view).elpd_loo) == pytest.approx(float(lppd - penalty), abs=0.05 * float(penalty))


def test_the_members_of_an_ensemble_are_the_draws_of_one_chain(make_small_model, bodies, recwarn):
    """Warnings are errors here, and a user would see them for every ensemble."""
    fitted = DeepEnsemble(members=3, epochs=1).fit(make_small_model(bodies), bodies.train, seed=0)
    view = fitted.to_arviz()
    assert dict(view.posterior.sizes)["chain"] == 1
    assert "3 chains of one draw" in view.posterior.attrs["note"]
    for name, value in fitted.samples.items():
        assert np.array_equal(view.posterior[name].values[0], value[:, 0].numpy())
    assert np.array_equal(view.log_likelihood["y"].values[0], fitted.log_likelihood(*fitted.data)[:, 0].numpy())
    assert [str(warning.message) for warning in recwarn] == []


def test_labels_are_replicated_as_labels(make_small_model, bodies):
    model = make_small_model(bodies, Categorical(), network=MLP)
    view = MAP(epochs=1).fit(model, (bodies.train.x, torch.arange(30) % 9), seed=0).to_arviz()
    replicates = view.posterior_predictive["y"].values
    assert replicates.shape == (1, 1, 30)
    assert set(replicates.reshape(-1)) <= set(range(9))


def test_log_densities_have_the_posterior_group_alone(slope):
    view = MAP(epochs=3).fit(slope, None, seed=0).to_arviz()
    assert list(view.groups()) == ["posterior"]
    assert view.posterior["z"].shape == (1, 1, 2)


def test_parameters_with_the_names_of_dimensions_are_kept():
    names = ("draw", "draw_", "chain", "z", "z_dim_0", "z_dim_1")  # z has a dimension 0, and no 1
    example = {name: torch.zeros(2) for name in names}
    density = LogDensity(lambda params: -sum(value.square().sum() for value in params.values()), example)
    posterior = Posterior(density, {name: torch.randn(2, 5, 2) for name in example})
    view = posterior.to_arviz()
    exported = dict(zip(names, ("draw__", "draw_", "chain_", "z", "z_dim_0_", "z_dim_1"), strict=True))
    assert set(view.posterior.data_vars) == set(exported.values())
    for name, new in exported.items():
        assert np.array_equal(view.posterior[new].values, posterior.samples[name].numpy())


def test_a_posterior_without_its_model_still_has_its_draws(posterior):
    view = Posterior(None, posterior.samples, data=posterior.data).to_arviz()
    assert "posterior" in view.groups()
    assert np.array_equal(view.observed_data["y"].values, posterior.data[1].numpy())
