"""Chains may walk in the other parametrization: which one is chosen, by what number, and that the draws come back."""

import math

import pytest
import torch
from pyro.distributions import HalfCauchy

from bayes_rpp import (
    EMLP,
    SO,
    BayesianModel,
    Gaussian,
    LogDensity,
    RPPPrior,
    Vector,
    equivariant_maps,
)
from inference import HMC, MAP, NUTS, SGHMC, SGLD, Posterior
from inference.density.noncentred import sampling_density
from inference.posterior.parametrization import hyperpriors_differ
from inference.sampling.choose_parametrization import choose_parametrization
from tests.error_rate import agrees
from tests.scenarios.conditioning import (
    NOISE,
    STRONG,
    USELESS,
    both,
    condition,
    exact_posterior,
    linear_problem,
    normal,
    other,
)
from tests.seeds import shifted


def jacobi(precision):
    """A matrix in the coordinates in which its diagonal is one."""
    scales = precision.diagonal().rsqrt()
    return scales[:, None] * precision * scales


@both
@pytest.mark.parametrize(("variances", "num_data", "better"), [(USELESS, 40, "collapsed"), (STRONG, 4, "residual")])
def test_auto_takes_the_parametrization_with_the_smaller_number(parametrization, variances, num_data, better):
    numbers = {}
    for name in ("residual", "collapsed"):
        numbers[name] = condition(jacobi(exact_posterior(*linear_problem(name, variances, num_data), variances)[1]))
    assert 5 * numbers[better] < numbers[other(better)]
    model, data = linear_problem(parametrization, variances, num_data)
    engine = HMC(chains=2, draws=2, warmup=0, metric="diagonal", trajectory_length=0.1, parametrization="auto")
    stats = engine.fit(model, data, seed=0).stats
    assert stats.get("parametrization", parametrization) == better
    assert ("parametrization" in stats) == (better != parametrization)


@pytest.mark.parametrize("variances", [USELESS, STRONG])
def test_auto_takes_the_fewer_coordinates_where_the_metric_leaves_nothing_to_choose(variances):
    model, data = linear_problem("residual", variances)
    walked, _ = choose_parametrization(HMC(metric="full", parametrization="auto"), model, data, None, seed=0)
    assert walked.network.network[0].parametrization == "collapsed"


@pytest.mark.parametrize("engine", [HMC, NUTS])
def test_auto_chooses_on_the_device_of_the_run(engine, monkeypatch):
    devices = []

    def noted(model, pair, temperature, device, centred):
        devices.append(device)
        return sampling_density(model, pair, temperature, "cpu", centred=centred)

    monkeypatch.setattr("inference.sampling.choose_parametrization.sampling_density", noted)
    monkeypatch.setattr("inference.sampling.choose_parametrization.condition_number", lambda preconditioned, z: 1.0)
    model, data = linear_problem("residual", STRONG)
    engine(chains=1, draws=1, warmup=0, parametrization="auto").fit(model, data, seed=0, device="cpu:0")
    assert devices == 2 * [torch.device("cpu:0")]


WALK = {"chains": 2, "draws": 3, "warmup": 2}
SAMPLERS = [
    HMC(metric="full", trajectory_length=0.5, **WALK),
    NUTS(metric="full", max_tree_depth=2, **WALK),
    SGLD(step_size=1e-4, batch_size=8, **WALK),
    SGHMC(step_size=1e-3, batch_size=8, **WALK),
]


def in_parametrization(sampler, parametrization):
    return type(sampler)(**(vars(sampler) | {"parametrization": parametrization}))


@both
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
def test_draws_come_back_in_the_models_own_parametrization(sampler, parametrization, tmp_path):
    model, (x, y) = linear_problem(parametrization)
    posterior = in_parametrization(sampler, other(parametrization)).fit(model, (x, y), seed=0)
    assert posterior.model is model
    assert posterior.stats["parametrization"] == other(parametrization)
    shapes = {name: value.shape[2:] for name, value in posterior.samples.items()}
    assert shapes == {name: value.shape for name, value in model.network.named_parameters()}
    assert (posterior.chains, posterior.draws) == (2, 3)
    places = [(chain, draw) for chain in range(2) for draw in range(3)]
    densities = [model.log_joint({n: v[place] for n, v in posterior.samples.items()}, x, y) for place in places]
    torch.testing.assert_close(posterior.log_joint().flatten(), torch.stack(densities).detach())
    assert torch.isfinite(posterior.predict(x).samples).all()
    assert "lp" not in posterior.sample_stats  # which would be the density over other coordinates
    assert {tuple(value.shape) for value in posterior.sample_stats.values()} == {(2, 3)}
    again = in_parametrization(sampler, other(parametrization)).fit(model, (x, y), seed=0)
    assert all(torch.equal(again.samples[name], value) for name, value in posterior.samples.items())
    loaded = Posterior.load(posterior.save(tmp_path / "run"))
    assert torch.equal(loaded.log_joint(), posterior.log_joint())
    assert loaded.stats == posterior.stats


@both
def test_the_models_own_parametrization_is_walked_as_it_was_given(parametrization):
    model, data = linear_problem(parametrization)
    given, same = (
        in_parametrization(SAMPLERS[0], name).fit(model, data, seed=0) for name in ("given", parametrization)
    )
    assert same.model is model
    assert "parametrization" not in same.stats
    assert all(torch.equal(same.samples[name], value) for name, value in given.samples.items())
    assert torch.equal(same.sample_stats["lp"], given.sample_stats["lp"])


def hyper_problem(parametrization):
    """With a hyperprior on the dense variance."""
    model, data = linear_problem(parametrization)
    return BayesianModel(model.network, RPPPrior(1.0, HalfCauchy(0.3)), model.likelihood), data


def log_masses(parametrization, temperature, v):
    """log of the integral of (prior x likelihood)^(1 / T) over the weights of a layer, at each v."""
    x, y = normal(12, 3), normal(12, 3, seed=1)
    basis = equivariant_maps(Vector(SO(3)), Vector(SO(3))).dense()
    features, eye = torch.kron(torch.eye(3).double(), x), torch.eye(9).double()
    if parametrization == "residual":
        features = torch.cat([features @ basis, features], 1)
    density, masses = y.mT.reshape(-1), []
    for value in v:
        own = torch.block_diag(torch.eye(1).double(), value * eye)
        sigma = own if parametrization == "residual" else basis @ basis.mT + value * eye
        precision = (torch.linalg.inv(sigma) + features.mT @ features / NOISE) / temperature
        slope = features.mT @ density / NOISE / temperature
        size = len(sigma)
        masses.append(
            (-0.5 / temperature) * (torch.logdet(sigma) + size * math.log(2 * math.pi))
            + 0.5 * slope @ torch.linalg.solve(precision, slope)
            - 0.5 * torch.logdet(precision)
            + 0.5 * size * math.log(2 * math.pi)
        )
    return torch.stack(masses)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_two_are_one_law_of_a_variance_only_at_temperature_one(temperature):
    """Up to a constant the masses, as functions of v, are the same at T = 1; at T = 4 they are not."""
    v = torch.tensor([0.01, 0.1, 1.0, 10.0], dtype=torch.float64)
    differences = log_masses("residual", temperature, v) - log_masses("collapsed", temperature, v)
    model, _ = hyper_problem("residual")
    assert (float(differences.max() - differences.min()) > 0.1) == hyperpriors_differ(model, temperature)
    assert temperature != 1 or float(differences.max() - differences.min()) < 1e-8


@both
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
def test_tempered_hyperpriors_are_walked_only_as_given(sampler, parametrization):
    warm = type(sampler)(**(vars(sampler) | {"temperature": 4.0}))
    model, data = hyper_problem(parametrization)
    with pytest.raises(ValueError, match="at temperature 4 the two parametrizations are different laws"):
        in_parametrization(warm, other(parametrization)).fit(model, data, seed=0)
    given = in_parametrization(warm, "given").fit(model, data, seed=0)
    for same in ("auto", parametrization):
        posterior = in_parametrization(warm, same).fit(model, data, seed=0)
        assert all(torch.equal(posterior.samples[name], value) for name, value in given.samples.items())
        assert "parametrization" not in posterior.stats
    with pytest.raises(ValueError, match="at temperature 4 the two parametrizations are different laws"):
        given.in_parametrization(other(parametrization))


@both
def test_hyperpriors_of_other_layers_are_no_obstacle(parametrization):
    network = torch.nn.Sequential(linear_problem(parametrization)[0].network, torch.nn.Linear(3, 3).double())
    model = BayesianModel(network, RPPPrior(mlp_variance=HalfCauchy(0.3)), Gaussian(NOISE), num_outputs=3)
    warm = HMC(temperature=4.0, trajectory_length=0.1, parametrization=other(parametrization), **WALK)
    assert warm.fit(model, linear_problem(parametrization)[1], seed=0).stats["parametrization"] == other(
        parametrization
    )


CHAINS, DRAWS = 96, 40


@pytest.mark.statistical
@both
def test_the_posterior_is_exact_whichever_is_walked(parametrization):
    """Means, variances, and the squared distance, which has all covariances in it, of the model's own coordinates."""
    variances = 10.0, 0.1
    model, data = linear_problem(parametrization, variances)
    mean, precision = exact_posterior(model, data, variances)
    deviation = torch.linalg.inv(precision).diagonal().sqrt()
    engine = HMC(chains=CHAINS, warmup=40, draws=DRAWS, parametrization=other(parametrization))
    posterior = engine.fit(model, data, seed=shifted())
    away = torch.cat([value.flatten(2) for value in posterior.samples.values()], dim=2) - mean
    distance = torch.einsum("cdi,ij,cdj->cd", away, precision, away)[..., None] / len(mean)
    found = torch.cat([away / deviation, (away / deviation).square(), distance], dim=2).mean(1)
    truth = torch.cat([torch.zeros(len(mean)), torch.ones(len(mean) + 1)]).double()
    assert agrees(found, truth)
    # The comparison can tell variances that are too small by a third, and means that are off by half a deviation.
    assert not agrees(found, torch.cat([torch.zeros(len(mean)), 1.5 * torch.ones(len(mean) + 1)]).double())
    assert not agrees(found, truth + torch.cat([0.5 * torch.ones(len(mean)), torch.zeros(len(mean) + 1)]).double())


@both
def test_starts_are_converted(parametrization):
    """A step of next to nothing leaves every chain with the function that it starts with."""
    model, data = linear_problem(parametrization)
    start = MAP(epochs=5).fit(model, data, seed=0)
    engine = SGLD(chains=2, draws=1, warmup=0, step_size=1e-30, parametrization=other(parametrization))
    posterior = engine.fit(model, data, seed=0, start=start)
    torch.testing.assert_close(posterior.outputs(data[0]), start.outputs(data[0]).expand(2, -1, -1, -1))
    twin = start.in_parametrization(other(parametrization))
    own = engine.fit(model, data, seed=0, start=twin)  # a start in the parametrization that is walked
    torch.testing.assert_close(own.outputs(data[0]), posterior.outputs(data[0]))
    unconverted = engine.fit(model, data, seed=0)
    assert not torch.allclose(unconverted.outputs(data[0]), posterior.outputs(data[0]), rtol=1e-2)
    assert start.model is model


@both
def test_what_a_chain_had_before_it_diverged_comes_back_too(parametrization):
    """The steps are too large; the second chain starts near the largest numbers, and is the first to pass them."""
    model, data = linear_problem(parametrization)
    example = model.initial_params(0)
    start = Posterior(model, {name: torch.stack([value, 1e140 * value])[:, None] for name, value in example.items()})
    engine = SGLD(chains=2, draws=12, warmup=0, step_size=1.0, parametrization=other(parametrization))
    posterior = engine.fit(model, data, seed=0, start=start)
    (part,) = posterior.partial
    assert (posterior.chains, posterior.draws, part.chains) == (1, 12, 1)
    assert 0 < part.draws < 12
    assert part.model is model
    assert {name: value.shape[2:] for name, value in part.samples.items()} == {n: v.shape for n, v in example.items()}
    assert torch.isfinite(part.predict(data[0]).samples).all()


@pytest.mark.parametrize("parametrization", ["residual", "collapsed", "auto"])
@pytest.mark.parametrize("sampler", [HMC(), NUTS(), SGLD(step_size=1e-4)], ids=["HMC", "NUTS", "SGLD"])
def test_models_that_have_but_one_parametrization_are_refused(sampler, parametrization, bodies):
    log_density = LogDensity(lambda p: -0.5 * p["z"].square().sum(), {"z": torch.zeros(3)})
    with pytest.raises(TypeError, match=f"parametrization='{parametrization}' needs a BayesianModel"):
        in_parametrization(sampler, parametrization).fit(log_density, None, seed=0)
    net = EMLP(bodies.rep_in, bodies.rep_out, bodies.group, channels=16, layers=1)
    model = BayesianModel(net, RPPPrior(), Gaussian(noise_variance=0.2))
    with pytest.raises(ValueError, match=r"EMLP has no residual pathway layers .* RPPEMLP has two"):
        in_parametrization(sampler, parametrization).fit(model, bodies.train, seed=0)


def test_unknown_parametrizations_are_refused():
    with pytest.raises(ValueError, match="parametrization must be one of given, residual, collapsed, auto, got 'both'"):
        HMC(parametrization="both")
