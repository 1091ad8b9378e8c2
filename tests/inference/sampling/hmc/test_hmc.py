"""HMC: the leapfrog's geometry, the moments of known densities, what it records, and what it refuses."""

import math

import pytest
import torch
from torch.distributions import Dirichlet, Gamma, LKJCholesky, constraints

from bayes_rpp import LogDensity
from inference import HMC, SGLD, Posterior
from inference.density.unconstrained import UnconstrainedDensity
from inference.metrics.preconditioned import PreconditionedDensity
from inference.sampling.hmc import hmc
from inference.sampling.hmc.leapfrog import PreconditionedHamiltonian, leapfrog
from tests.error_rate import agrees
from tests.seeds import shifted

METRICS = ["identity", "diagonal", "layer", "full", "pathway"]
STATISTICS = {"lp", "acceptance_rate", "diverging", "energy", "n_steps", "step_size"}


def number(value):
    return torch.tensor(value, dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(*precisions):
    precision = number(precisions)
    return LogDensity(lambda p: -0.5 * (precision * p["z"].square()).sum(), {"z": torch.zeros_like(precision)})


@pytest.fixture
def make_space(make_small_model, bodies):
    """The posterior of a small network in float64, in the coordinates of a metric, and starts for three chains."""

    def make(metric):
        model = make_small_model(bodies, dtype=torch.float64)
        density = UnconstrainedDensity(model, tuple(part.double() for part in bodies.train))
        z = density.initial([0, 1, 2])
        preconditioned = PreconditionedDensity(density, metric, z)
        hamiltonian = PreconditionedHamiltonian(preconditioned)
        return hamiltonian, hamiltonian.at(preconditioned.whiten(z))

    return make


def energy(point, momentum):
    return point.potential + momentum.square().sum(1) / 2


@pytest.mark.parametrize("metric", METRICS)
def test_leapfrog_is_reversible_and_of_second_order(make_space, metric):
    hamiltonian, start = make_space(metric)
    momentum = normal(3, hamiltonian.preconditioned.size)
    slopes = start.gradient.abs().max()
    step_size = float(0.02 / slopes.sqrt())
    end, after = leapfrog(hamiltonian, start, momentum, step_size, 7)
    assert (end.position - start.position).abs().max() > 1e-3
    back, before = leapfrog(hamiltonian, end, -after, step_size, 7)
    torch.testing.assert_close(back.position, start.position, rtol=0, atol=1e-10)
    torch.testing.assert_close(before, -momentum, rtol=1e-10, atol=1e-10)
    errors = []
    for halvings in (1, 2):
        end, after = leapfrog(hamiltonian, start, momentum, step_size / 2**halvings, 8 * 2**halvings)
        errors.append((energy(end, after) - energy(start, momentum)).norm())
    assert 3.5 < float(errors[0] / errors[1]) < 4.5


def test_leapfrog_preserves_volume_and_what_the_space_knows_of_its_end():
    density = UnconstrainedDensity(
        LogDensity(lambda p: (-p["z"].pow(4)).sum() + p["z"].prod().sin(), {"z": number([0.3, -0.8])}), None
    )
    preconditioned, around = PreconditionedDensity(density, None, density.initial([0])), normal(4)
    preconditioned.fit_to(number([0.49, 4.0]))
    points = torch.cat([around + 1e-5 * torch.eye(4).double(), around - 1e-5 * torch.eye(4).double()])
    hamiltonian = PreconditionedHamiltonian(preconditioned)
    end, after = leapfrog(hamiltonian, hamiltonian.at(points[:, :2]), points[:, 2:], 0.2, 6)
    moved = torch.cat([end.position, after], dim=1)
    jacobian = (moved[:4] - moved[4:]) / 2e-5
    assert torch.linalg.det(jacobian) == pytest.approx(1, abs=1e-6)
    assert (jacobian - torch.eye(4)).abs().max() > 0.5
    for found, value in zip(end, hamiltonian.at(end.position), strict=True):
        assert torch.equal(found, value)


GAMMA = LogDensity(lambda p: Gamma(3.0, 2.0).log_prob(p["rate"]), {"rate": number(1.0)}, {"rate": constraints.positive})
SHARES = LogDensity(
    lambda p: Dirichlet(number([1.0, 2.0, 4.0])).log_prob(p["share"]),
    {"share": number([0.2, 0.3, 0.5])},
    {"share": constraints.simplex},
)
CORRELATIONS = LogDensity(
    lambda p: LKJCholesky(3, number(2.0)).log_prob(p["root"]),
    {"root": torch.eye(3, dtype=torch.float64)},
    {"root": constraints.corr_cholesky},
)
WAVE = LogDensity(  # the second is N(sin 2 first, 1 / 4)
    lambda p: -0.5 * p["z"][0].square() - 2 * (p["z"][1] - (2 * p["z"][0]).sin()).square(), {"z": number([0.0, 0.0])}
)


def moments_of_gamma(samples):
    rate = samples["rate"]
    return torch.stack([rate, rate.square(), rate.log()], dim=2)


def moments_of_shares(samples):
    return torch.cat([samples["share"], samples["share"].square()], dim=2)


def squared_correlations(samples):
    root = samples["root"]
    correlation = root @ root.mT
    below = torch.stack([correlation[..., 1, 0], correlation[..., 2, 0], correlation[..., 2, 1]], dim=2)
    return torch.cat([below, below.square()], dim=2)


def moments_of_wave(samples):
    first, second = samples["z"].unbind(-1)
    return torch.stack([first, first.square(), second, second.square(), first * second], dim=2)


KNOWN = {
    "gamma": (GAMMA, moments_of_gamma, [1.5, 3.0, float(torch.digamma(number(3.0))) - math.log(2)]),
    "shares": (SHARES, moments_of_shares, [1 / 7, 2 / 7, 4 / 7, 2 / 56, 6 / 56, 20 / 56]),
    "correlations": (CORRELATIONS, squared_correlations, [0.0, 0.0, 0.0, 1 / 6, 1 / 6, 1 / 6]),
    "wave": (WAVE, moments_of_wave, [0.0, 1.0, 0.0, 0.75 - math.exp(-8) / 2, 2 * math.exp(-2)]),
}


@pytest.mark.statistical
@pytest.mark.parametrize("case", KNOWN)
def test_known_densities_have_their_moments_through_their_jacobians(case):
    density, moments, truth = KNOWN[case]
    posterior = HMC(chains=128, warmup=150, draws=100).fit(density, None, seed=shifted(), progress=False)
    found = moments(posterior.samples)
    assert found.shape[2] == len(truth)
    assert agrees(found.mean(1), truth)
    spread = found.std((0, 1))
    assert not agrees(found.mean(1), number(truth) + 0.5 * spread)


class AlwaysAccepts(HMC):
    def advance(self, preconditioned, state, random, step):
        class Yes:
            noise = random.noise

            @staticmethod
            def uniform():
                return torch.zeros_like(random.uniform())

        return super().advance(preconditioned, state, Yes, step)


@pytest.mark.statistical
@pytest.mark.parametrize("kind", [HMC, AlwaysAccepts])
def test_large_steps_are_right_because_some_are_not_accepted(kind):
    engine = kind(chains=128, warmup=100, draws=60, target_accept=0.6)
    posterior = engine.fit(gaussian(*[1.0] * 10), None, seed=shifted(), progress=False)
    assert agrees(posterior.samples["z"].square().mean(1), 1.0) is (kind is HMC)


@pytest.mark.statistical
@pytest.mark.parametrize("beyond", [-1e5, -math.inf])
def test_a_cliff_is_a_divergence_that_is_counted_and_never_passed(beyond):
    def log_density(params):
        inside = params["z"].abs().max() < 1.5
        return torch.where(inside, -0.5 * params["z"].square().sum(), beyond)

    density = LogDensity(log_density, {"z": torch.zeros(1, dtype=torch.float64)})
    start = Posterior(None, {"z": 0.01 * normal(128, 1, 1, seed=shifted())})
    posterior = HMC(chains=128, warmup=60, draws=60).fit(density, None, seed=shifted(), start=start, progress=False)
    z, diverging = posterior.samples["z"][..., 0], posterior.sample_stats["diverging"]
    assert z.abs().max() < 1.5
    cut = math.sqrt(2 / math.pi) * 1.5 * math.exp(-(1.5**2) / 2) / math.erf(1.5 / math.sqrt(2))
    assert agrees(z.square().mean(1)[:, None], 1 - cut)
    assert 0.01 < float(diverging.double().mean()) < 0.9
    assert (posterior.sample_stats["acceptance_rate"][diverging] == 0).all()
    stayed = torch.cat([torch.zeros(128, 1), (z[:, 1:] == z[:, :-1]).double()], dim=1).bool()
    assert stayed[:, 1:][diverging[:, 1:]].all()
    assert posterior.stats["diverged"] == {}


@pytest.mark.statistical
def test_statistics_are_those_of_the_draws_and_every_gradient_is_counted(make_linear_problem, monkeypatch):
    model, data = make_linear_problem()
    used, calls, true = [], [], UnconstrainedDensity.gradients
    monkeypatch.setattr(
        UnconstrainedDensity, "gradients", lambda self, z, batch=None: calls.append(len(z)) or true(self, z, batch)
    )

    class Watched(HMC):
        def advance(self, preconditioned, state, random, step):
            calls.clear()
            after = super().advance(preconditioned, state, random, step)
            used.append(sum(calls))
            return after

    engine = Watched(chains=16, warmup=0, draws=200, trajectory_length=3.0, temperature=1.7)
    posterior = engine.fit(model, data, seed=shifted(), progress=False)
    stats, density = posterior.sample_stats, UnconstrainedDensity(model, data, temperature=1.7)
    assert stats.keys() == STATISTICS
    assert {value.shape for value in stats.values()} == {(16, 200)}
    assert stats["diverging"].dtype == torch.bool
    assert stats["n_steps"].sum(0).tolist() == used  # gradients of all chains
    assert len(set(used)) > 1
    z = density.free(posterior.samples)
    potential = torch.func.vmap(density.potential)(z.flatten(0, 1)).reshape(16, 200)
    torch.testing.assert_close(stats["lp"], -potential, rtol=1e-9, atol=1e-9)
    kinetic = stats["energy"][:, 1:] + stats["lp"][:, :-1]  # of the momentum that the trajectory began with
    assert (kinetic > 0).all()
    assert agrees(kinetic.mean(1)[:, None], density.size / 2)
    assert ((stats["acceptance_rate"] >= 0) & (stats["acceptance_rate"] <= 1)).all()
    moved = (z[:, 1:] != z[:, :-1]).any(2)
    assert agrees((moved.double() - stats["acceptance_rate"][:, 1:]).mean(1)[:, None], 0.0)
    assert posterior.stats["step_size"] == pytest.approx(float(stats["step_size"][0, 0]))
    assert posterior.stats["trajectory_length"] == pytest.approx(3.0)


def test_same_seed_gives_the_same_bits_and_leaves_the_global_generator_alone(make_linear_problem):
    model, data = make_linear_problem()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    engine = HMC(chains=2, warmup=25, draws=5)
    first, again, other = (engine.fit(model, data, seed=seed, progress=False) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    for kind in ("samples", "sample_stats"):
        one, two = getattr(first, kind), getattr(again, kind)
        assert all(torch.equal(one[name], two[name]) for name in one)
    assert all((first.samples[name] != other.samples[name]).any() for name in first.samples)


def test_a_start_without_a_density_is_refused_by_its_chain():
    example = {"z": torch.zeros(1, dtype=torch.float64)}
    density = LogDensity(lambda p: torch.where(p["z"] < 5, -p["z"].square(), -math.inf).sum(), example)
    start = Posterior(None, {"z": number([[[0.0]], [[9.0]]])})
    with pytest.raises(ValueError, match="chain 1 starts where the log density is -inf; start elsewhere"):
        HMC(chains=2).fit(density, None, seed=0, start=start)


def test_trajectories_that_are_cut_short_are_reported_once(monkeypatch, caplog):
    monkeypatch.setattr(hmc, "MOST_STEPS", 2)
    engine = HMC(chains=2, warmup=0, draws=8, metric="identity", trajectory_length=50.0)
    assert engine.fit(gaussian(1.0), None, seed=0).sample_stats["n_steps"].max() == 2
    assert caplog.text.count("all such are cut short to 2") == 1
    caplog.clear()
    HMC(chains=2, warmup=0, draws=8, metric="identity", trajectory_length=0.1).fit(gaussian(1.0), None, seed=0)
    assert "cut short" not in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target_accept": 0.0}, r"target_accept must be in \(0, 1\), got 0\.0"),
        ({"target_accept": 1.0}, r"target_accept must be in \(0, 1\), got 1\.0"),
        ({"target_accept": math.nan}, r"target_accept must be in \(0, 1\), got nan"),
        ({"trajectory_length": 0.0}, r"trajectory_length must be positive and finite, got 0\.0"),
        ({"trajectory_length": math.inf}, r"trajectory_length must be positive and finite, got inf"),
        ({"metric": "dense"}, r"metric must be one of identity, diagonal, layer, full, pathway, got 'dense'"),
        ({"draws": 0}, r"draws must be an integer of at least 1, got 0"),
        ({"warmup": -1}, r"warmup must be an integer of at least 0, got -1"),
        ({"temperature": math.inf}, r"temperature must be positive and finite, got inf"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        HMC(**settings)


@pytest.mark.parametrize("engine", [HMC(metric="full"), SGLD(0.1, metric="pathway")])
def test_a_log_density_has_no_curvature_of_outputs(engine):
    with pytest.raises(TypeError, match=rf'metric="{engine.metric}" needs the outputs of a BayesianModel'):
        engine.fit(gaussian(1.0), None, seed=0)
