"""NUTS draws from the posterior: closed forms within Monte Carlo errors, bits, interrupts, refusals."""

import dataclasses
import logging
import math

import arviz
import pytest
import torch
from torch.distributions import Gamma, MultivariateNormal, constraints

from bayes_rpp import Gaussian, LogDensity
from inference import MAP, NUTS, Posterior
from inference.density.unconstrained import UnconstrainedDensity
from inference.sampling.nuts import nuts
from tests.arviz_versions import bfmi
from tests.error_rate import effective_degrees, t_limit
from tests.seeds import shifted

QUICK = NUTS(chains=2, draws=6, warmup=8, max_tree_depth=4, metric="identity")


def gaussian(covariance):
    """A centred Gaussian; ``z`` has the given covariance."""
    precision = torch.linalg.inv(covariance)
    return LogDensity(lambda p: -0.5 * p["z"] @ precision @ p["z"], {"z": torch.zeros(len(covariance)).to(covariance)})


CORRELATED = torch.tensor([[1.0, 0.9, 0.0], [0.9, 4.0, 0.1], [0.0, 0.1, 0.5]], dtype=torch.float64)


def estimates(draws, least=150):
    """Means of statistics, (chain, draw, statistic), their Monte Carlo errors, and their least effective draws."""
    columns = arviz.convert_to_dataset({f"s{i}": draws[..., i].numpy() for i in range(draws.shape[-1])})
    sizes = torch.tensor([float(value) for value in arviz.ess(columns, method="mean").values()], dtype=torch.float64)
    assert float(sizes.min()) >= least
    return draws.mean((0, 1)), draws.std((0, 1)) / sizes.sqrt(), float(sizes.min())


def agree(found, truth):
    """Whether these estimates have this truth."""
    means, errors, effective = found
    return bool(((means - truth) / errors).abs().max() < t_limit(means.numel(), effective_degrees(effective)))


def squares(draws):
    """The products of all pairs, (chain, draw, n (n + 1) / 2)."""
    i, j = torch.triu_indices(draws.shape[-1], draws.shape[-1])
    return draws[..., i] * draws[..., j]


def upper(matrix):
    return matrix[tuple(torch.triu_indices(len(matrix), len(matrix)))]


def flat(posterior):
    return torch.cat([value.flatten(2) for value in posterior.samples.values()], dim=2)


def exact_posterior(model, x, y, noise_variance=0.2):
    """Mean and covariance of all parameters of y = (Q beta + B) x + b + noise, by dense matrices."""
    layer, identity = model.network.network[0], torch.eye(3, dtype=torch.float64)
    features = torch.cat([torch.cat([torch.kron(identity, row[None]), identity], dim=1) for row in x])  # of (W, b)
    q = layer.basis.dense()
    if hasattr(layer, "beta"):
        mixing = torch.block_diag(torch.cat([q, torch.eye(21, dtype=torch.float64)], dim=1), identity)
        features, prior = features @ mixing, torch.diag(torch.tensor([1.0] * q.shape[1] + [0.1] * 24).double())
    else:
        prior = torch.block_diag(q @ q.mT, 0 * identity) + 0.1 * torch.eye(24, dtype=torch.float64)
    covariance = torch.linalg.inv(torch.linalg.inv(prior) + features.mT @ features / noise_variance)
    return covariance @ features.mT @ y.reshape(-1) / noise_variance, covariance


@pytest.mark.statistical
@pytest.mark.parametrize(("parametrization", "metric"), [("collapsed", "identity"), ("residual", "full")])
def test_linear_rpp_regression_has_the_exact_posterior(make_linear_problem, parametrization, metric):
    model, data = make_linear_problem(parametrization, likelihood=Gaussian(noise_variance=0.2))
    mean, covariance = exact_posterior(model, *data)
    posterior = NUTS(chains=2, draws=500, warmup=80, metric=metric).fit(model, data, seed=shifted())
    deviations = flat(posterior) - mean
    assert agree(estimates(deviations, least=500), 0.0)
    # Variances, covariances of neighbours, and the squared distance, which has all of the covariance in it
    neighbours = deviations[..., 1:] * deviations[..., :-1]
    distance = torch.einsum("cdi,ij,cdj->cd", deviations, torch.linalg.inv(covariance), deviations)
    found = estimates(torch.cat([deviations.square(), neighbours, distance[..., None]], dim=2))
    count = torch.tensor([float(len(mean))], dtype=torch.float64)
    assert agree(found, torch.cat([covariance.diagonal(), covariance.diagonal(1), count]))
    assert not agree(found, torch.cat([2.5 * covariance.diagonal(), covariance.diagonal(1), count]))
    densities = [float(model.log_joint({n: v[0, i] for n, v in posterior.samples.items()}, *data)) for i in range(5)]
    assert posterior.sample_stats["lp"][0, :5].tolist() == pytest.approx(densities, rel=1e-12)


@pytest.mark.statistical
def test_temperature_multiplies_the_covariance_and_is_caught():
    posterior = NUTS(chains=2, draws=700, warmup=80, temperature=0.25).fit(gaussian(CORRELATED), None, seed=shifted())
    products = squares(posterior.samples["z"])
    found = estimates(products)
    assert agree(found, 0.25 * upper(CORRELATED))
    assert not agree(found, upper(CORRELATED))


@pytest.mark.statistical
def test_gamma_has_the_right_moments_through_its_jacobian():
    example = {"rate": torch.tensor(1.0, dtype=torch.float64)}
    density = LogDensity(lambda p: Gamma(3.0, 2.0).log_prob(p["rate"]), example, {"rate": constraints.positive})
    posterior = NUTS(chains=2, draws=1000, warmup=80).fit(density, None, seed=shifted())
    rate = posterior.samples["rate"]
    statistics = torch.stack([rate, rate.square(), rate.log()], dim=2)
    logarithm = float(torch.digamma(torch.tensor(3.0, dtype=torch.float64))) - math.log(2)
    assert agree(estimates(statistics), torch.tensor([1.5, 3.0, logarithm], dtype=torch.float64))
    assert not agree(
        estimates(statistics[..., :2]), torch.tensor([1.0, 1.5], dtype=torch.float64)
    )  # without a Jacobian
    # lp is the density of the free coordinate, log rate
    log_density = Gamma(3.0, 2.0).log_prob(rate) + rate.log()
    torch.testing.assert_close(posterior.sample_stats["lp"], log_density)


@pytest.mark.statistical
def test_dense_mass_is_exact_and_takes_fewer_steps_where_coordinates_are_correlated():
    covariance = torch.full((4, 4), 0.998, dtype=torch.float64).fill_diagonal_(1.0)
    engine = NUTS(chains=2, draws=700, warmup=150, dense_mass=True, metric="identity")
    dense = engine.fit(gaussian(covariance), None, seed=shifted())
    assert agree(estimates(squares(dense.samples["z"])), upper(covariance))
    fewer = dataclasses.replace(engine, dense_mass=False, chains=1, draws=120)
    plain = fewer.fit(gaussian(covariance), None, seed=shifted())

    def steps_per_effective_draw(posterior):  # of the long axis
        effective = float(arviz.ess(posterior.samples["z"].sum(-1).numpy(), method="mean"))
        return float(posterior.sample_stats["n_steps"].sum()) / effective

    assert steps_per_effective_draw(dense) < 0.5 * steps_per_effective_draw(plain)


@pytest.mark.statistical
def test_statistics_are_those_of_hamiltonian_dynamics():
    """At stationarity the momenta of the draws are N(0, M): H + lp is half a chi-squared number of n degrees."""
    engine = NUTS(chains=2, draws=700, warmup=300, target_accept=0.9, metric="identity")
    posterior = engine.fit(gaussian(CORRELATED), None, seed=shifted())
    statistics = posterior.sample_stats
    assert {value.shape for value in statistics.values()} == {(2, 700)}
    kinetic = statistics["energy"] + statistics["lp"]
    assert (kinetic > -1e-12).all()
    assert agree(
        estimates(torch.stack([kinetic, kinetic.square()], dim=2)), torch.tensor([1.5, 3.75], dtype=torch.float64)
    )
    z = posterior.samples["z"]
    torch.testing.assert_close(
        statistics["lp"], -0.5 * torch.einsum("cdi,ij,cdj->cd", z, torch.linalg.inv(CORRELATED), z)
    )
    assert 0.85 < float(statistics["acceptance_rate"].mean()) < 0.97
    assert ((statistics["acceptance_rate"] >= 0) & (statistics["acceptance_rate"] <= 1)).all()
    depth, steps = statistics["tree_depth"], statistics["n_steps"]
    assert ((2 ** (depth - 1) <= steps) & (steps < 2**depth) & (depth <= 10)).all()
    assert (statistics["step_size"] == statistics["step_size"][:, :1]).all()
    assert not statistics["diverging"].any()
    assert int(steps.sum()) < posterior.stats["gradient_evaluations"]


def test_every_evaluation_of_the_potential_counts(monkeypatch):
    calls = []
    potential = UnconstrainedDensity.potential
    monkeypatch.setattr(UnconstrainedDensity, "potential", lambda self, z: calls.append(1) or potential(self, z))
    monkeypatch.setattr(nuts, "_check_starts", lambda density, z: None)
    posterior = QUICK.fit(gaussian(CORRELATED), None, seed=0)
    assert posterior.stats["gradient_evaluations"] == len(calls)
    assert posterior.stats["steps"] == 14


@pytest.mark.statistical
def test_trajectories_that_break_off_are_counted_and_reported(caplog):
    def cliff(params):
        z = params["z"]
        return torch.where(z < 1, -0.5 * z.square(), -1e5 * z)

    density = LogDensity(cliff, {"z": torch.tensor(0.0, dtype=torch.float64)})
    with caplog.at_level(logging.WARNING):
        posterior = NUTS(chains=3, draws=50, warmup=50).fit(density, None, seed=shifted())
    diverging = posterior.sample_stats["diverging"]
    assert diverging.any()
    assert posterior.stats["divergences"] == diverging.sum(1).tolist()
    assert "target_accept" in caplog.text
    assert (posterior.samples["z"] < 1).all()


@pytest.mark.statistical
def test_where_the_density_is_nan_no_chain_goes():
    density = LogDensity(lambda p: p["z"].log() - p["z"], {"z": torch.tensor(1.0, dtype=torch.float64)})  # Gamma(2, 1)
    start = Posterior(density, {"z": torch.ones(1, 1, dtype=torch.float64)})
    posterior = NUTS(chains=2, draws=1200, warmup=100).fit(density, None, seed=shifted(), start=start)
    assert (posterior.samples["z"] > 0).all()
    assert agree(estimates(posterior.samples["z"][..., None]), 2.0)


@pytest.mark.parametrize("dense_mass", [False, True])
def test_same_seed_same_bits_and_a_chain_does_not_depend_on_how_many_there_are(make_linear_problem, dense_mass):
    model, data = make_linear_problem(likelihood=Gaussian(noise_variance=0.5, learned=True))
    engine = dataclasses.replace(QUICK, dense_mass=dense_mass, metric="identity")
    torch.manual_seed(1)
    first = engine.fit(model, data, seed=3)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = engine.fit(model, data, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    alone = dataclasses.replace(engine, chains=1).fit(model, data, seed=3)
    other = engine.fit(model, data, seed=4)
    for name, value in first.samples.items():
        assert torch.equal(value, again.samples[name])
        assert torch.equal(value[:1], alone.samples[name])
        assert not torch.equal(value, other.samples[name])
        assert not torch.equal(value[0], value[1])
    assert all(torch.equal(value, again.sample_stats[name]) for name, value in first.sample_stats.items())


def test_thinned_draws_are_every_so_many_of_all():
    every = NUTS(chains=2, draws=9, warmup=20, metric="identity").fit(gaussian(CORRELATED), None, seed=0)
    third = NUTS(chains=2, draws=3, warmup=20, thin=3, metric="identity").fit(gaussian(CORRELATED), None, seed=0)
    assert torch.equal(third.samples["z"], every.samples["z"][:, 2::3])
    assert torch.equal(third.sample_stats["energy"], every.sample_stats["energy"][:, 2::3])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_network_with_learned_noise_predicts_is_saved_and_goes_to_arviz(make_small_model, bodies, tmp_path, dtype):
    noise = Gaussian(0.2, learned=True, floor=0.1)
    model = make_small_model(bodies, noise, dtype=dtype)
    before = {name: value.detach().clone() for name, value in model.network.named_parameters()}
    posterior = QUICK.fit(model, bodies.train, seed=0)
    assert all(torch.equal(value, before[name]) for name, value in model.network.named_parameters())
    assert {value.dtype for value in posterior.samples.values()} == {dtype}
    assert not any(value.requires_grad for value in posterior.samples.values())
    assert (posterior.samples["noise_variance"] > 0.1).all()
    assert posterior.predict(bodies.test.x).samples.shape == (2, 6, 12, 9)
    loaded = Posterior.load(posterior.save(tmp_path / "run"))
    for kind in ("samples", "sample_stats"):
        found, expected = getattr(loaded, kind), getattr(posterior, kind)
        assert all(torch.equal(found[name], value) for name, value in expected.items())
    view = posterior.to_arviz()
    assert view.sample_stats["diverging"].shape == (2, 6)
    assert bfmi(view).shape == (2,)
    assert (bfmi(view) > 0).all()


def test_start_is_a_posterior(make_linear_problem):
    model, data = make_linear_problem()
    mode = MAP(epochs=5).fit(model, data, seed=0)
    engine = NUTS(chains=2, draws=1, warmup=0, max_tree_depth=1)
    near = engine.fit(model, data, seed=0, start=mode)
    far = engine.fit(model, data, seed=0)
    assert not torch.equal(near.samples["network.0.dense"], far.samples["network.0.dense"])
    again = engine.fit(model, data, seed=0, start=mode)
    assert torch.equal(near.samples["network.0.dense"], again.samples["network.0.dense"])
    with pytest.raises(ValueError, match="start is of another model"):
        engine.fit(gaussian(CORRELATED), None, seed=0, start=mode)


def test_a_start_that_is_not_finite_names_the_chain():
    flat_or_nan = LogDensity(lambda p: p["z"].log(), {"z": torch.tensor(1.0, dtype=torch.float64)})
    start = Posterior(flat_or_nan, {"z": torch.tensor([[-1.0, 1.0]], dtype=torch.float64)})  # the last comes first
    with pytest.raises(ValueError, match=r"chain 1 starts where the log density is nan; .* start=MAP"):
        QUICK.fit(flat_or_nan, None, seed=0, start=start)
    steep = LogDensity(lambda p: -p["z"].abs().sqrt(), {"z": torch.tensor(1.0, dtype=torch.float64)})
    start = Posterior(steep, {"z": torch.zeros(1, 1, dtype=torch.float64)})
    with pytest.raises(ValueError, match="chain 0 starts where its gradient is not finite"):
        QUICK.fit(steep, None, seed=0, start=start)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"target_accept": 0.0}, r"target_accept must lie between 0 and 1, got 0\.0"),
        ({"target_accept": 1}, "target_accept must lie between 0 and 1, got 1"),
        ({"target_accept": float("nan")}, "target_accept must lie between 0 and 1, got nan"),
        ({"max_tree_depth": 0}, "max_tree_depth must be an integer of at least 1, got 0"),
        ({"max_tree_depth": 2.5}, r"max_tree_depth must be an integer of at least 1, got 2\.5"),
        ({"dense_mass": "full"}, "dense_mass must be True or False, got 'full'"),
        ({"chains": 0}, "chains must be an integer of at least 1, got 0"),
        ({"temperature": -1.0}, "temperature must be positive and finite, got -1"),
    ],
)
def test_wrong_settings_are_refused_by_name(setting, message):
    with pytest.raises(ValueError, match=message):
        NUTS(**setting)


def test_dense_mass_matrices_that_cannot_be_held_are_refused():
    with pytest.raises(ValueError, match=r"40,000 parameters would take 32,000,000,000 bytes .* dense_mass=False"):
        NUTS(dense_mass=True).fit(
            LogDensity(lambda p: -p["z"].square().sum(), {"z": torch.zeros(40_000)}), None, seed=0
        )


def test_pyros_validation_is_as_it_was_and_not_in_the_way():
    """A density that would refuse what it meets on the way is evaluated without validation, inside fit alone."""
    law = MultivariateNormal(torch.zeros(3, dtype=torch.float64), CORRELATED)
    QUICK.fit(LogDensity(lambda p: law.log_prob(p["z"]), {"z": torch.zeros(3, dtype=torch.float64)}), None, seed=0)
    with pytest.raises(ValueError, match="scale"):
        torch.distributions.Normal(0.0, -1.0)
