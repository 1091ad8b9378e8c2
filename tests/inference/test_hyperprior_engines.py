"""Models whose variances are parameters, in every engine: who takes them, who refuses, and what comes back."""

import math

import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, RPPLinear, RPPPrior, Scalar, Vector
from inference import HMC, MAP, NUTS, SGHMC, SGLD, DeepEnsemble, Laplace, Posterior, PyroGuide
from inference.curvature.block_structure import Structure
from inference.density.unconstrained import UnconstrainedDensity
from tests.error_rate import z_limit
from tests.seeds import shifted


def linear_model(parametrization="residual", learned=False, **settings):
    torch.manual_seed(0)
    net = RPPEMLP(Vector + Scalar, Vector, SO(3), layers=0, parametrization=parametrization).double()
    given = {"equivariant_variance": 1.5, "dense_variance": dist.InverseGamma(2.0, 0.2)} | settings
    return BayesianModel(net, RPPPrior(**given, scaling="none"), Gaussian(noise_variance=0.3, learned=learned))


def data():
    generator = torch.Generator().manual_seed(2)
    return tuple(torch.randn(8, n, generator=generator, dtype=torch.float64) for n in (4, 3))


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        (MAP(epochs=1), "MAP"),
        (DeepEnsemble(members=2, epochs=1), "DeepEnsemble"),
        (Laplace(), "Laplace"),
        (Laplace("last_layer"), "Laplace"),
    ],
)
def test_what_maximises_refuses_hyperpriors_and_names_the_alternatives(engine, name):
    expected = (
        rf"^{name} maximises the joint density, which is unbounded as a variance goes to 0.*dense_variance\. "
        r".*HMC, NUTS or SGHMC.*EmpiricalBayes.*with_variances"
    )
    with pytest.raises(ValueError, match=expected):
        engine.fit(linear_model(), data(), seed=0)


def test_the_joint_density_is_indeed_unbounded():
    model = linear_model(dense_variance=dist.HalfCauchy(1.0))
    zero = {name: torch.zeros_like(value) for name, value in model.initial_params(0).items()}

    def joint(v):
        return float(model.log_joint(zero | {"dense_variance": torch.tensor(v, dtype=torch.float64)}, *data()))

    assert joint(1e-12) - joint(1e-6) == pytest.approx(15 / 2 * math.log(1e6), rel=1e-3)  # 12 weights and 3 biases


short = {"chains": 2, "warmup": 4, "draws": 3}
ENGINES = {
    "HMC": HMC(**short),
    "HMC, non-centred": HMC(**short, centred=False),
    "NUTS": NUTS(**short, max_tree_depth=3),
    "NUTS, non-centred": NUTS(**short, max_tree_depth=3, centred=False, parametrization="collapsed"),
    "SGHMC": SGHMC(1e-3, batch_size=4, **short),
    "SGLD, non-centred": SGLD(1e-4, batch_size=4, **short, centred=False, metric="diagonal"),
    "HMC, chooses": HMC(**short, parametrization="auto"),
    "HMC, non-centred, chooses": HMC(**short, parametrization="auto", centred=False),
    "AutoNormal": PyroGuide(AutoNormal, steps=5, draws=3),
}


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_the_draws_are_parameters_of_the_model_and_repeat_with_the_seed(engine):
    model, again = linear_model(learned=True), linear_model(learned=True)
    first = engine.fit(model, data(), seed=0, progress=False)
    assert list(first.samples) == list(model.constraints)
    assert all(model.constraints[name].check(value).all() for name, value in first.samples.items())
    assert first.samples["dense_variance"].dtype == torch.float64
    assert first.log_joint().isfinite().all()
    assert first.predict(data()[0]).mean.shape == (8, 3)
    second = engine.fit(again, data(), seed=0, progress=False)
    assert all(torch.equal(first.samples[name], second.samples[name]) for name in first.samples)


def test_the_recorded_density_is_that_over_the_coordinates_walked():
    model = linear_model()
    posterior = HMC(**short).fit(model, data(), seed=0, progress=False)
    jacobian = posterior.samples["dense_variance"].log()
    torch.testing.assert_close(posterior.log_joint() + jacobian, posterior.sample_stats["lp"], rtol=1e-6, atol=1e-6)


def test_chains_start_at_a_mode_that_was_found_for_a_number():
    fixed, free = linear_model(dense_variance=0.3), linear_model()
    mode = MAP(epochs=20).fit(fixed, data(), seed=0, progress=False)
    density = UnconstrainedDensity(free, data())
    found = density.params(density.latest(mode, 2))
    assert torch.equal(found["dense_variance"], density.params(density.initial([0, 0]))["dense_variance"])
    for name, value in mode.samples.items():
        assert torch.equal(found[name][1], value[0, 0])
    with pytest.raises(ValueError, match="start is of another model"):
        UnconstrainedDensity(fixed, data()).latest(HMC(**short).fit(free, data(), seed=0, progress=False), 1)


def test_a_run_that_was_broken_off_goes_on_with_the_same_bits(tmp_path):
    model, settings = linear_model(), HMC(**short, centred=False)
    whole = settings.fit(model, data(), seed=0, progress=False, checkpoint=tmp_path / "run")
    again = settings.fit(model, data(), seed=0, progress=False, checkpoint=tmp_path / "run")
    assert all(torch.equal(whole.samples[name], again.samples[name]) for name in whole.samples)
    with pytest.raises(ValueError, match="its centred is False, here it is True"):
        HMC(**short).fit(model, data(), seed=0, progress=False, checkpoint=tmp_path / "run")


def test_posteriors_with_variances_layer_by_layer_come_back_from_their_files(tmp_path):
    model = linear_model()
    net = model.network
    model = BayesianModel(net, RPPPrior(1.5, dist.HalfCauchy(0.3)).per_layer(net), model.likelihood)
    posterior = HMC(**short).fit(model, data(), seed=0, progress=False)
    assert "dense_variance[network.0]" in posterior.samples
    again = Posterior.load(posterior.save(tmp_path / "run"))
    assert list(again.bayesian_model.hyperpriors) == ["dense_variance[network.0]"]
    torch.testing.assert_close(again.log_joint(), posterior.log_joint(), rtol=0, atol=0)
    path = tmp_path / "arviz.nc"
    again.to_arviz().to_netcdf(str(path))
    assert path.exists()


def test_hyperpriors_that_no_file_holds_need_the_model_again(tmp_path):
    model = linear_model(dense_variance=dist.Weibull(0.3, 1.5))
    posterior = HMC(**short).fit(model, data(), seed=0, progress=False)
    path = posterior.save(tmp_path / "run")
    with pytest.raises(TypeError, match=r"pass model= to Posterior\.load"):
        _ = Posterior.load(path).bayesian_model
    loaded = Posterior.load(path, model)
    assert torch.equal(loaded.log_joint(), posterior.log_joint())


@pytest.mark.statistical
@pytest.mark.parametrize("per_layer", [False, True])
def test_sums_are_split_by_the_variances_of_their_own_draw(per_layer):
    """Of many draws of one W, each with its own variance: beta is normal with the mean and variance of its own law."""
    collapsed = linear_model("collapsed")
    net = collapsed.network
    prior = RPPPrior(1.5, dist.HalfCauchy(0.3), scaling="none")
    model = BayesianModel(net, prior.per_layer(net) if per_layer else prior, collapsed.likelihood)
    (name,) = model.hyperpriors
    v, count = torch.tensor([0.01, 0.5, 20.0]).double(), 4000
    start = model.initial_params(0)
    samples = {n: value.expand(3, count, *value.shape) for n, value in start.items()}
    samples |= {name: v[:, None].expand(3, count)}
    posterior = Posterior(model, samples).in_parametrization("residual", seed=shifted())
    twin, parts = posterior.model, posterior.samples
    assert torch.equal(parts[name], samples[name])
    layer = twin.network.network[0]
    assert isinstance(layer, RPPLinear)
    share = 1.5 / (1.5 + v)
    mean = share[:, None] * layer.basis.coordinates(start["network.0.weight"].reshape(-1))
    beta = parts["network.0.beta"]
    z = (beta.mean(1) - mean) / (share * v / count).sqrt()[:, None]
    spread = beta.var(1) / (share * v)[:, None] - 1
    bound = z_limit(2 * z.numel())
    assert z.abs().max() < bound
    assert spread.abs().max() < bound * math.sqrt(2 / count)
    sums = posterior.in_parametrization("collapsed").samples
    torch.testing.assert_close(sums["network.0.weight"], samples["network.0.weight"], rtol=1e-9, atol=1e-9)


def test_converted_draws_take_the_posterior_of_the_variances_with_them():
    posterior = HMC(**short).fit(linear_model("collapsed"), data(), seed=0, progress=False)
    parts = posterior.in_parametrization("residual")
    assert torch.equal(parts.samples["dense_variance"], posterior.samples["dense_variance"])
    assert list(parts.samples) == list(parts.bayesian_model.constraints)
    torch.testing.assert_close(parts.outputs(data()[0]), posterior.outputs(data()[0]), rtol=1e-9, atol=1e-9)


def test_each_variance_is_a_block_of_its_own_where_layers_are():
    model = linear_model(learned=True)
    names = Structure.of(UnconstrainedDensity(model, data()), "layer").names
    assert names[-2:] == (("dense_variance",), ("noise_variance",))
