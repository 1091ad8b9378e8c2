"""The ArviZ view of a posterior."""

import arviz
import numpy as np
import pytest
import torch

from bayes_rpp import MLP, Categorical, Gaussian, LogDensity
from inference import MAP, DeepEnsemble, Posterior
from inference.posterior.arviz import chain_diagnostics, pareto_smoothed
from tests.arviz_versions import groups_of, loo
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
    assert set(groups_of(view)) == {"posterior", "posterior_predictive", "log_likelihood", "observed_data"}
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
    assert loo(view).elpd == pytest.approx(float(lppd - penalty), abs=0.05 * float(penalty))


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
    assert groups_of(view) == ["posterior"]
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


def test_slashes_in_names_which_a_tree_refuses_become_underscores():
    example = {name: torch.zeros(2) for name in ("net/w", "net_w", "net_w_dim_0")}
    density = LogDensity(lambda params: -sum(value.square().sum() for value in params.values()), example)
    posterior = Posterior(density, {name: torch.randn(2, 5, 2) for name in example})
    view = posterior.to_arviz()
    for name, new in zip(example, ("net_w_", "net_w", "net_w_dim_0_"), strict=True):
        assert np.array_equal(view.posterior[new].values, posterior.samples[name].numpy())


def test_many_short_chains_are_shown_without_a_warning(slope, recwarn):
    view = Posterior(slope, {"z": torch.randn(9, 3, 2)}).to_arviz()
    assert view.posterior["z"].shape == (9, 3, 2)
    assert [str(warning.message) for warning in recwarn] == []


def test_it_is_written_to_a_file_and_read(posterior, tmp_path):
    path = str(tmp_path / "view.nc")
    posterior.to_arviz().to_netcdf(path)
    view = arviz.from_netcdf(path)
    assert set(groups_of(view)) == {"posterior", "posterior_predictive", "log_likelihood", "observed_data"}
    for name, value in posterior.samples.items():
        assert np.array_equal(view.posterior[name].values, value.numpy())


def waves(chains, draws, scale=1):
    """Numbers without order, the same everywhere."""
    steps = np.arange(1.0, chains * draws + 1).reshape(chains, draws)
    return np.sin(scale * steps**2) + 0.3 * np.cos(steps / 9)


@pytest.mark.parametrize(
    ("chains", "draws", "expected"),
    [
        (4, 500, (0.998882996514384, 672.3201685209422, 780.2101995435333, 0.023082566049321445)),
        (1, 43, (1.009128926166278, 37.735051728071255, 26.02866779089376, 0.09615076039866122)),
    ],
)
def test_diagnostics_are_the_same_numbers_by_every_version(chains, draws, expected):
    found = chain_diagnostics(waves(chains, draws))
    assert list(found) == ["r_hat", "ess_bulk", "ess_tail", "mcse_mean"]
    assert tuple(found.values()) == pytest.approx(expected, rel=1e-9)


def test_leave_one_out_is_the_same_numbers_by_every_version():
    """Of 200 draws: of numbers that are no multiples of 5, versions smooth one weight more or less."""
    values = np.stack([waves(4, 50), 3 * waves(4, 50, 3)], axis=-1)
    pointwise, shapes = pareto_smoothed(0.3 * values)
    assert pointwise == pytest.approx([-0.021513376837134925, -0.2618558971174742], rel=1e-9)
    assert shapes == pytest.approx([-0.29153013535996225, -0.36833287351628713], rel=1e-9)


def test_weights_whose_largest_are_all_the_same_are_taken_as_they_are():
    same, stuck, moving = np.full((4, 50), -1.5), waves(4, 50), waves(4, 50, 7)
    stuck[0] = stuck.min() - 1
    pointwise, shapes = pareto_smoothed(np.stack([same, stuck, moving], axis=-1))
    assert np.isinf(shapes[:2]).all()
    assert np.isfinite(shapes[2])
    assert pointwise[:2] == pytest.approx([-1.5, -np.log(np.exp(-stuck).mean())], rel=1e-12)


def test_a_posterior_without_its_model_still_has_its_draws(posterior):
    view = Posterior(None, posterior.samples, data=posterior.data).to_arviz()
    assert "posterior" in groups_of(view)
    assert np.array_equal(view.observed_data["y"].values, posterior.data[1].numpy())
