"""Draws of one parametrization as draws of the other: the same functions, and the exact law of the parts."""

import pytest
import torch
from torch.distributions import MultivariateNormal

from bayes_rpp import (
    EMLP,
    MLP,
    RPPEMLP,
    SO,
    BayesianModel,
    Gaussian,
    NormalizedNetwork,
    O,
    O2eR3,
    RPPLinear,
    RPPPrior,
    Scalar,
    T,
    Vector,
    banded_maps,
    equivariant_maps,
    low_frequency_maps,
)
from inference import MAP, DeepEnsemble, Posterior, Snapshot
from inference.posterior import parametrization as module
from tests.error_rate import z_limit
from tests.seeds import shifted

REP_IN, REP_OUT, CHAIN = 2 * Vector + Scalar, Vector + Scalar, [O(3), O2eR3()]
TURNS = (2 * Vector)(O(2))
COUNT = 20_000


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(shifted(seed)), dtype=torch.float64)


def overlapping(parametrization):
    pathways = [equivariant_maps(TURNS, TURNS), banded_maps(4, 4, 1), low_frequency_maps(4, 4, 2)]
    return RPPLinear(TURNS, TURNS, pathways=pathways, parametrization=parametrization)


def deep(parametrization):
    network = RPPEMLP(REP_IN, T(2) + Scalar, O(3), channels=30, layers=2, parametrization=parametrization)
    return NormalizedNetwork.fit(network, 3 * numbers(50, 7) + 1, 9 * numbers(50, 10) - 2)


LINEAR = {
    "a group": (lambda p: RPPEMLP(REP_IN, REP_OUT, SO(3), layers=0, parametrization=p), 7, 4),
    "a chain": (lambda p: RPPEMLP(REP_IN, REP_OUT, CHAIN, layers=0, parametrization=p), 7, 4),
    "overlapping pathways": (overlapping, 4, 4),
    "no bias": (lambda p: RPPLinear(REP_IN, REP_OUT, group=SO(3), bias=False, parametrization=p), 7, 4),
}
NETWORKS = LINEAR | {
    "a deep chain": (lambda p: RPPEMLP(REP_IN, REP_OUT, CHAIN, channels=12, layers=1, parametrization=p), 7, 4),
    "a deep normalised network": (deep, 7, 10),
}
networks = pytest.mark.parametrize("case", NETWORKS)
linear = pytest.mark.parametrize("case", LINEAR)
both = pytest.mark.parametrize(("here", "there"), [("residual", "collapsed"), ("collapsed", "residual")])


def make(case, parametrization, dtype=torch.float64, equivariant=1.0, dense=0.1, learned=False):
    build, _, outputs = NETWORKS[case]
    levels = [equivariant, equivariant / 2, equivariant / 3]
    prior = RPPPrior(equivariant, dense, pathway_variances=levels, scaling="none")
    likelihood = Gaussian(noise_variance=0.2, learned=learned)
    return BayesianModel(build(parametrization).to(dtype), prior, likelihood, num_outputs=outputs)


def prior_draws(model, batch=(2, 3), seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(shifted(seed))
        return {name: law.sample(batch) for name, law in model.prior_distributions.items()}


def moved(model, samples, there, seed=0):
    """A model and its samples (chain, draw, ...) in another parametrization."""
    found = Posterior(model, samples).in_parametrization(there, seed)
    return found.model, found.samples


def collapse(model, samples):
    return moved(model, samples, "collapsed")


def recover(model, samples, seed):
    return moved(model, samples, "residual", seed)


def close(actual, expected, tolerance=1e-10):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@both
@networks
def test_the_function_of_every_draw_stays(case, here, there):
    model = make(case, here, learned=True)
    posterior = Posterior(model, prior_draws(model))
    other, samples = moved(model, posterior.samples, there)
    x = numbers(6, NETWORKS[case][1])
    close(Posterior(other, samples).outputs(x), posterior.outputs(x))
    assert [*samples] == [*make(case, there, learned=True).prior_distributions]
    for name in samples.keys() & posterior.samples.keys():
        assert torch.equal(samples[name], posterior.samples[name])
    assert "noise_variance" in samples
    assert (other.prior, other.likelihood, other.num_outputs) == (model.prior, model.likelihood, model.num_outputs)


@both
@networks
def test_predictions_in_single_precision_stay(case, here, there):
    model = make(case, here, torch.float32, equivariant=0.3, dense=3e-4)
    posterior = Posterior(model, prior_draws(model))
    other = Posterior(*moved(model, posterior.samples, there))
    assert {value.dtype for value in other.samples.values()} == {torch.float32}
    x = numbers(6, NETWORKS[case][1]).float()
    before, after = posterior.predict(x).samples, other.predict(x).samples
    assert (after - before).abs().max() < 1e-5 * before.abs().max()


@pytest.mark.parametrize("batch", [(2, 3), (1, 0), (1, 1)], ids=str)
@both
@networks
def test_any_number_of_draws_is_converted_and_pieces_change_nothing(case, here, there, batch, monkeypatch):
    model = make(case, here)
    samples = prior_draws(model, batch)
    for _ in range(2):
        other, found = moved(model, samples, there)
        laws = other.prior_distributions
        assert {n: v.shape for n, v in found.items()} == {n: (*batch, *law.event_shape) for n, law in laws.items()}
        whole = samples if there == "residual" else found
        again = collapse(other, found)[1] if there == "residual" else collapse(model, samples)[1]
        for name, value in whole.items():
            close(again[name], value)
        monkeypatch.setattr(module, "_NUMBERS_AT_ONCE", 60)


@networks
def test_a_round_trip_keeps_the_sums_and_draws_new_parts(case):
    model = make(case, "residual")
    samples = prior_draws(model)
    collapsed, sums = collapse(model, samples)
    residual, parts = recover(collapsed, sums, 0)
    for name, value in collapse(residual, parts)[1].items():
        close(value, sums[name], 1e-12)
    changed = [name for name in samples if not torch.equal(parts[name], samples[name])]
    assert changed == [n for n in samples if "beta" in n or ("dense" in n and coordinates_of(model, total_of(n)))]


def conditional(model, twin, name, names, value):
    """The law of a layer's coordinates given a sum, by dense matrices: coordinates (r,), mean and covariance."""
    law, dense = model.prior_distributions[name], float(model.prior_distributions[name].dense_variance)
    kept = [(basis.dense(), float(v)) for basis, v in zip(law.bases, law.pathway_variances, strict=True) if basis.rank]
    assert [float(twin.prior_distributions[n].dense_variance) for n in names] == [v for _, v in kept]
    q = torch.cat([basis for basis, _ in kept], dim=1)
    prior = torch.cat([torch.full(basis.shape[1:], v).double() for basis, v in kept])
    sigma = dense * torch.eye(law.numel).double() + q * prior @ q.mT
    gain = torch.linalg.solve(sigma, q * prior).mT
    given = prior.diag() - gain @ q * prior
    return MultivariateNormal(gain @ value.flatten(), (given + given.mT) / 2)


def coordinates_of(twin, total):
    """The names of the coordinates whose sum this parameter is."""
    path, _, last = total.rpartition(".")
    start = f"{path}.{'beta' if last == 'weight' else 'bias_beta'}".lstrip(".")
    return [name for name in twin.prior_distributions if name.startswith(start)]


@linear
def test_log_joints_differ_by_the_log_density_of_the_parts_given_the_sums(case):
    model, x, y = make(case, "residual"), numbers(6, LINEAR[case][1]), numbers(6, LINEAR[case][2], seed=1)
    params = prior_draws(model, ())
    collapsed, sums = collapse(model, {name: value[None, None] for name, value in params.items()})
    sums = {name: value[0, 0] for name, value in sums.items()}
    given = torch.zeros(()).double()
    for name in sums:
        names = coordinates_of(model, name)
        if names:
            law = conditional(collapsed, model, name, names, sums[name])
            given = given + law.log_prob(torch.cat([params[n] for n in names]))
    assert given != 0
    close(model.log_joint(params, x, y) - collapsed.log_joint(sums, x, y), given, 1e-8)


def total_of(dense):
    """The name of the sum that a dense part belongs to."""
    return dense.replace("bias_dense", "bias").replace("dense", "weight")


def check_law(draws, mean, sigma):
    """Independent draws (count, size) have this mean and covariance."""
    count, scale = len(draws), sigma.diagonal().sqrt()
    centred, correlation = (draws - mean) / scale, sigma / torch.outer(scale, scale)
    first = centred.mean(0) * count**0.5
    second = (centred.mT @ centred / count - correlation) * count**0.5 / (1 + correlation**2).sqrt()
    scores = torch.cat([first, second[tuple(torch.triu_indices(*second.shape))]])
    assert scores.abs().max() < z_limit(len(scores))


@pytest.mark.statistical
@pytest.mark.parametrize("ratio", [1.0, 1e3, 1e7])
@linear
def test_recovered_coordinates_have_their_law_given_the_sum(case, ratio):
    model = make(case, "collapsed", dense=1 / ratio)
    alone = prior_draws(model, (), seed=4)
    samples = {name: value.expand(4, COUNT // 4, *value.shape) for name, value in alone.items()}
    twin, parts = recover(model, samples, shifted())
    for name in alone:
        names = coordinates_of(twin, name)
        if names:
            law = conditional(model, twin, name, names, alone[name])
            check_law(torch.cat([parts[n].flatten(0, 1) for n in names], dim=-1), law.mean, law.covariance_matrix)


def exact_posterior(model, x, y):
    """Mean and covariance of a linear model's parameters, in the order of its parameters."""
    laws = model.prior_distributions
    zero = {name: torch.zeros(law.event_shape).double() for name, law in laws.items()}
    slopes = torch.func.jacrev(lambda params: model.output(params, x).flatten())(zero)
    design = torch.cat([slope.flatten(1) for slope in slopes.values()], dim=1)
    blocks = [-torch.autograd.functional.hessian(law.log_prob, zero[name]) for name, law in laws.items()]
    prior = torch.block_diag(*(b.reshape(2 * [laws[n].numel]) for n, b in zip(laws, blocks, strict=True)))
    sigma = torch.linalg.inv(design.mT @ design / 0.2 + prior)
    return sigma @ design.mT @ y.flatten() / 0.2, (sigma + sigma.mT) / 2


def draws_of(model, mean, sigma):
    draws = mean + numbers(COUNT, len(mean)) @ torch.linalg.cholesky(sigma).mT
    laws = model.prior_distributions
    pieces = draws.split([law.numel for law in laws.values()], dim=1)
    return {name: piece.reshape(4, -1, *laws[name].event_shape) for name, piece in zip(laws, pieces, strict=True)}


def flat(samples):
    return torch.cat([value.flatten(0, 1).flatten(1) for value in samples.values()], dim=1)


def regression(case, ratio):
    x, outputs = numbers(30, LINEAR[case][1]), LINEAR[case][2]
    y = x @ numbers(LINEAR[case][1], outputs, seed=1) / 3 + 0.4 * numbers(30, outputs, seed=2) + 0.5
    return make(case, "collapsed", dense=1 / ratio), x, y


@pytest.mark.statistical
@pytest.mark.parametrize("ratio", [1.0, 1e1, 1e3, 1e5, 1e7])
@linear
def test_the_exact_posterior_of_the_sums_becomes_that_of_the_parts(case, ratio):
    model, x, y = regression(case, ratio)
    samples = draws_of(model, *exact_posterior(model, x, y))
    twin, parts = recover(model, samples, shifted(1))
    check_law(flat(parts), *exact_posterior(twin, x, y))


@pytest.mark.statistical
@pytest.mark.parametrize("ratio", [1.0, 1e7])
@linear
def test_the_exact_posterior_of_the_parts_becomes_that_of_the_sums(case, ratio):
    x, y = regression(case, ratio)[1:]
    model = make(case, "residual", dense=1 / ratio)
    twin, sums = collapse(model, draws_of(model, *exact_posterior(model, x, y)))
    check_law(flat(sums), *exact_posterior(twin, x, y))


@pytest.mark.statistical
def test_the_problem_of_the_engines_tests_too(make_linear_problem):
    model, (x, y) = make_linear_problem("collapsed")
    twin, parts = recover(model, draws_of(model, *exact_posterior(model, x, y)), shifted(1))
    mean, sigma = exact_posterior(make_linear_problem("residual")[0], x, y)
    check_law(flat(parts), mean, sigma)
    assert [*parts] == [*twin.prior_distributions]


@pytest.mark.statistical
@pytest.mark.parametrize("ratio", [1.0, 1e1, 1e3, 1e5, 1e7])
def test_a_share_of_one_without_noise_is_seen(ratio):
    model, x, y = regression("a group", ratio)
    samples = draws_of(model, *exact_posterior(model, x, y))
    twin, parts = recover(model, samples, shifted(1))
    basis = model.network.network[0].basis
    projected = basis.coordinates(samples["network.0.weight"].flatten(2))
    wrong = parts | {
        "network.0.beta": projected,
        "network.0.dense": samples["network.0.weight"] - basis.expand(projected).unflatten(-1, (4, 7)),
    }
    close(collapse(twin, wrong)[1]["network.0.weight"], samples["network.0.weight"])
    with pytest.raises(AssertionError):
        check_law(flat(wrong), *exact_posterior(twin, x, y))


@pytest.mark.statistical
@pytest.mark.parametrize("temperature", [0.0, 0.25, 4.0])
def test_tempered_posteriors_become_tempered_posteriors(temperature):
    """exp(log joint / T) of a linear model has the same mean and T times the covariance; at 0 it is the mode."""
    model, x, y = regression("a chain", 1e2)
    mean, sigma = exact_posterior(model, x, y)
    cold = mean.expand(COUNT, -1) if temperature == 0 else mean + (flat(draws_of(model, 0 * mean, temperature * sigma)))
    laws = model.prior_distributions
    pieces = cold.split([law.numel for law in laws.values()], dim=1)
    samples = {name: p.reshape(4, -1, *laws[name].event_shape) for name, p in zip(laws, pieces, strict=True)}
    posterior = Posterior(model, samples, {"temperature": temperature}).in_parametrization("residual", shifted())
    mean, sigma = exact_posterior(posterior.model, x, y)
    if temperature == 0:
        close(flat(posterior.samples), mean.expand(COUNT, -1), 1e-8)
    else:
        check_law(flat(posterior.samples), mean, temperature * sigma)


class TestPosterior:
    def test_everything_is_converted_or_kept(self, make_small_model, bodies):
        fitted = DeepEnsemble(members=3, epochs=4, snapshots=2).fit(make_small_model(bodies), bodies.train, seed=0)
        fitted.sample_stats = {"lp": torch.zeros(3, 1), "energy": torch.ones(3, 1)}
        fitted.partial = [Posterior(fitted.model, {n: v[:1] for n, v in fitted.samples.items()}, {"chain": 3})]
        assert fitted.history
        x = bodies.test.x
        other = fitted.in_parametrization("collapsed")
        assert "network.0.linear.weight" in other.samples
        assert (other.chains, other.draws, other.stats) == (3, 1, fitted.stats)
        assert other.data is fitted.data
        assert {name: value.tolist() for name, value in other.sample_stats.items()} == {"energy": [[1.0]] * 3}
        assert [s.epoch for s in other.history] == [s.epoch for s in fitted.history]
        pairs = [(other, fitted), (other.partial[0], fitted.partial[0])]
        pairs += [(other.at(new), fitted.at(old)) for new, old in zip(other.history, fitted.history, strict=True)]
        for new, old in [*pairs, *((new.in_parametrization("residual"), old) for new, old in pairs)]:
            torch.testing.assert_close(new.outputs(x), old.outputs(x), rtol=1e-5, atol=1e-5)
        assert other.partial[0].stats == {"chain": 3}
        assert fitted.model.network.parametrization == "residual"

    @both
    @pytest.mark.parametrize("case", ["a chain", "a deep normalised network"])
    def test_saved_ones_come_back(self, case, here, there, tmp_path):
        model = make(case, here)
        samples = prior_draws(model)
        posterior = Posterior(model, samples, history=[Snapshot(2, samples)]).in_parametrization(there)
        loaded = Posterior.load(posterior.save(tmp_path / "run"))
        assert loaded.model.network.state_dict().keys() == posterior.model.network.state_dict().keys()
        assert [*loaded.samples] == [*posterior.samples]
        x = numbers(6, 7)
        assert all(torch.equal(loaded.samples[name], value) for name, value in posterior.samples.items())
        close(loaded.outputs(x), posterior.outputs(x))  # how memory is aligned may change the last bits
        close(loaded.at(loaded.history[0]).outputs(x), Posterior(model, samples).outputs(x))
        close(loaded.in_parametrization(here).outputs(x), posterior.outputs(x))

    def test_the_seed_is_that_of_the_parts(self):
        model = make("a chain", "collapsed")
        posterior = Posterior(model, prior_draws(model))
        first, again, other = (posterior.in_parametrization("residual", seed).samples for seed in (0, 0, 1))
        for name in first:
            assert torch.equal(first[name], again[name])
            assert not torch.equal(first[name], other[name])

    @pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
    def test_the_same_parametrization_is_the_posterior_itself(self, parametrization):
        model = make("a chain", parametrization)
        posterior = Posterior(model, prior_draws(model))
        assert posterior.in_parametrization(parametrization) is posterior

    def test_log_densities_are_refused(self, slope):
        posterior = MAP(epochs=1).fit(slope, None, seed=0)
        with pytest.raises(TypeError, match="needs a posterior of a BayesianModel"):
            posterior.in_parametrization("collapsed")

    @pytest.mark.parametrize("network", [EMLP, MLP])
    def test_networks_without_residual_layers_are_refused(self, network, make_small_model, bodies):
        model = make_small_model(bodies, network=network)
        posterior = Posterior(model, prior_draws(model))
        for parametrization in ("residual", "collapsed"):
            with pytest.raises(ValueError, match=f"{network.__name__} has no residual pathway layers"):
                posterior.in_parametrization(parametrization)

    def test_an_unknown_parametrization_is_refused(self):
        model = make("a chain", "residual")
        with pytest.raises(ValueError, match="must be 'residual' or 'collapsed', got 'both'"):
            Posterior(model, prior_draws(model)).in_parametrization("both")


@pytest.mark.parametrize("change", ["another", "fewer"])
def test_samples_of_other_parameters_are_refused(change):
    model = make("a group", "residual")
    samples = prior_draws(model)
    if change == "another":
        samples["network.0.gamma"] = torch.zeros(2, 3, 1)
    else:
        del samples["network.0.beta"]
    with pytest.raises(ValueError, match="differ in 'network.0.gamma'" if change == "another" else "'network.0.beta'"):
        collapse(model, samples)
