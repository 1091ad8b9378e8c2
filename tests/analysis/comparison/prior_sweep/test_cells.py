"""A sweep over prior variances: against the exact evidence of linear models, and cell by cell."""

import math

import numpy as np
import pytest
import torch
import xarray as xr

from analysis import chosen_cell
from analysis.comparison import sweep_training
from analysis.evidence import ExactEvidence, LaplaceEvidence, exact_loo, loo_of
from bayes_rpp import MLP, SO, BayesianModel, Categorical, Gaussian, RPPPrior, Scalar, Vector
from inference import MAP, Laplace
from inference.density.unconstrained import float64_density
from inference.laplace.expansion import Expansion
from inference.training.objectives import initial_params
from tests.seeds import shifted

REP_IN, REP_OUT = (Vector + Scalar)(SO(3)), Vector(SO(3))
GRID = {"equivariant_variance": [0.1, 1.0, 10.0], "dense_variance": [1e-4, 1e-2, 0.3]}
SHORT = MAP(epochs=400, lr=0.05)


@pytest.mark.statistical
@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
def test_laplace_is_the_exact_evidence_of_a_linear_model_in_every_cell(parametrization, observations, linear, sweep):
    data = observations()
    found = sweep(linear(parametrization), data, criteria=[LaplaceEvidence("full"), ExactEvidence()], **GRID)
    assert dict(found.sizes) == {"equivariant_variance": 3, "dense_variance": 3}
    np.testing.assert_allclose(found.laplace_full, found.exact_evidence, atol=0.01)
    assert np.ptp(found.exact_evidence.values) > 100 * 0.01
    assert chosen_cell(found) == chosen_cell(found, "exact_evidence")
    for a in (0, 2):  # the cells are where the coordinates say
        for b in (0, 1):
            values = {"equivariant_variance": GRID["equivariant_variance"][a], "dense_variance": 10 ** (2.0 * b - 4)}
            alone = ExactEvidence().estimate(linear(prior=RPPPrior(**values)), data, seed=0, device="cpu").value
            assert float(found.exact_evidence.sel(values)) == pytest.approx(alone, abs=1e-8)


@pytest.mark.statistical
def test_a_noise_variance_can_be_swept(observations, linear, sweep):
    data = observations()
    found = sweep(linear(), data, criteria=[LaplaceEvidence("full"), ExactEvidence()], noise_variance=[1.0, 0.1, 0.3])
    assert found.noise_variance.dims == ("noise_variance",)
    assert found.noise_variance.values.tolist() == [0.1, 0.3, 1.0]
    np.testing.assert_allclose(found.laplace_full, found.exact_evidence, atol=0.01)
    assert chosen_cell(found) == {"noise_variance": 0.3}  # 0.25 is the truth


@pytest.mark.statistical
def test_what_the_gradient_says_bounds_what_the_evidence_lacks(observations, linear, sweep):
    found = sweep(
        linear(), observations(), criteria=[LaplaceEvidence("full"), ExactEvidence()], mode=MAP(epochs=12), **GRID
    )
    lacking = found.exact_evidence - found.laplace_full
    assert float(lacking.max()) > 0.1
    assert bool((lacking > -1e-8).all())
    assert bool((lacking <= found.gradient_norm**2 / 2 * (1 + 1e-8)).all())


def test_a_sweep_takes_gradients_where_they_are_switched_off(observations, linear, sweep):
    options = {"mode": MAP(epochs=2), "noise_variance": [0.1, 1.0]}
    expected = sweep(linear(), observations(), **options)
    with torch.inference_mode():
        xr.testing.assert_equal(sweep(linear(), observations(), **options), expected)


def test_the_gradient_norm_is_in_units_of_the_prior(observations, linear, sweep):
    data, model, kept = observations(), linear("collapsed", prior=RPPPrior(2.0, 0.1)), []
    criteria = {"kept": lambda posterior: kept.append(posterior) or 1.0}
    found = sweep(model, data, dense_variance=[0.1], mode=MAP(epochs=1), criteria=criteria)
    density = float64_density(model, data, 1.0, torch.device("cpu"))
    gradient = density.gradients(density.latest(kept[0], 1))[0][0]
    eye = torch.eye(12, dtype=torch.float64).reshape(12, 3, 4)
    covariance = torch.linalg.inv(model.prior_distributions["weight"].precision_times(eye).reshape(12, 12))
    assert found.gradient_norm.item() == pytest.approx(math.sqrt(gradient @ covariance @ gradient), rel=1e-6)


def test_every_variable_is_that_of_the_cell_trained_alone(observations, wide, sweep):
    data = tuple(part.double() for part in observations())
    model, grid = BayesianModel(wide(), RPPPrior(), Gaussian(0.25)), {"equivariant_variance": [1.0, 10.0]}
    options = {"mode": MAP(epochs=4, batch_size=8), "seed": 3, "test": observations(seed=1)}
    together = sweep(model, data, dense_variance=[1e-6, 1e-3, 0.1], **grid, **options)
    alone = sweep(model, data, dense_variance=[1e-3], equivariant_variance=[10.0], **options)
    xr.testing.assert_allclose(together.sel(dense_variance=[1e-3], equivariant_variance=[10.0]), alone, rtol=1e-8)
    assert np.ptp(together.laplace_symmetric.values) > 1


def test_cells_do_not_depend_on_the_chunks(monkeypatch, observations, wide, sweep):
    model, data = BayesianModel(wide(), RPPPrior(), Gaussian(0.25)), observations()
    options = {"mode": MAP(epochs=3, batch_size=8), "dense_variance": [1e-6, 1e-4, 1e-2, 1.0]}
    whole = sweep(model, data, **options)
    sizes = []
    train = sweep_training.train_cells
    monkeypatch.setattr("analysis.comparison.prior_sweep.cells_at_once", lambda *_: 3)
    monkeypatch.setattr(
        "analysis.comparison.prior_sweep.train_cells", lambda p, v, q: sizes.append(len(v)) or train(p, v, q)
    )
    xr.testing.assert_allclose(sweep(model, data, **options), whole, rtol=1e-8)
    assert sizes == [2, 2]


def test_memory_bounds_the_cells_at_once(monkeypatch, observations, wide):
    model, data = BayesianModel(wide(), RPPPrior(), Gaussian(0.25)), observations()
    problem = sweep_training.Problem(model, data, MAP(), 0, torch.device("cpu"), "symmetric")
    values = {"equivariant_variance": 1.0, "dense_variance": 0.1}
    many = sweep_training.cells_at_once(problem, values)
    monkeypatch.setattr(sweep_training, "_BYTES_AT_ONCE", sweep_training._BYTES_AT_ONCE // 100)
    assert sweep_training.cells_at_once(problem, values) == pytest.approx(many / 100, rel=0.02)
    weights = 8 * sum(p.numel() for p in model.network.parameters())
    assert many < 2**30 / weights


def test_a_start_is_no_wider_than_a_narrow_prior(observations, wide):
    model = BayesianModel(wide(), RPPPrior(scaling="none"), Gaussian(0.25))
    problem = sweep_training.Problem(model, observations(), MAP(epochs=1), 0, torch.device("cpu"), "symmetric")
    values = [{"equivariant_variance": v, "dense_variance": 1e-3} for v in (1e4, 1e-8)]
    broad, narrow = (
        {name: start[cell] for name, start in sweep_training._starts(problem, values).items()} for cell in (0, 1)
    )
    assert all(torch.equal(broad[name], value[0]) for name, value in initial_params(model, problem.seeds).items())
    assert narrow["network.0.linear.beta"].square().mean().sqrt() == pytest.approx(1e-4, rel=1e-6)
    assert torch.equal(narrow["network.0.linear.dense"], broad["network.0.linear.dense"])


@pytest.mark.statistical
def test_a_learned_noise_is_at_the_maximum_of_the_evidence(observations, linear, sweep):
    data, model = observations(), linear(likelihood=Gaussian(3.0, learned=True))
    found = sweep(model, data, criteria=[LaplaceEvidence("full"), ExactEvidence()], dense_variance=[1e-3, 0.3])
    np.testing.assert_allclose(found.laplace_full, found.exact_evidence, atol=0.01)
    law = Gaussian(3.0, learned=True).priors(3)["noise_variance"]
    for cell in (0, 1):
        variance, noise = float(found.dense_variance[cell]), float(found.noise_variance[cell])

        def log_density(v, variance=variance):
            known = linear(likelihood=Gaussian(v), prior=RPPPrior(dense_variance=variance))
            exact = ExactEvidence().estimate(known, data, seed=0, device="cpu").value
            return exact + float(law.log_prob(torch.tensor(v, dtype=torch.float64))) + math.log(v)

        slope = (log_density(noise * 1.01) - log_density(noise / 1.01)) / (2 * math.log(1.01))
        curvature = (log_density(noise * 1.01) - 2 * log_density(noise) + log_density(noise / 1.01)) / math.log(
            1.01
        ) ** 2
        assert abs(slope / curvature) < 0.02  # of a Newton step in log v; a mode of the joint is 0.1 away
    assert found.noise_variance.values[1] > 1.1 * found.train_mse.values[1]


def test_a_cell_is_what_map_fits(observations, wide, sweep):
    """Both train in units of the prior, from starts no wider than it: with a dense variance that is so narrow that
    neither is left out by chance."""
    model, data = BayesianModel(wide(), RPPPrior(dense_variance=1e-6), Gaussian(0.25)), observations()
    alone, kept = MAP(epochs=20, batch_size=10).fit(model, data, seed=0, progress=False), []
    sweep(
        model,
        data,
        dense_variance=[1e-6],
        mode=MAP(epochs=20, batch_size=10),
        criteria={"kept": lambda p: kept.append(p) or 1.0},
    )
    for name, value in alone.samples.items():
        torch.testing.assert_close(kept[0].samples[name], value, rtol=1e-6, atol=1e-9)
        assert float(value.square().mean().sqrt()) < 1e-2 or not name.endswith("dense")


def test_expansions_are_at_the_trained_weights_of_the_cell(observations, wide, sweep):
    model, data = BayesianModel(wide(), RPPPrior(), Gaussian(0.25)), observations()
    kept = []
    criteria = {"laplace": LaplaceEvidence("layer"), "kept": lambda posterior: kept.append(posterior) or 1.0}
    found = sweep(model, data, dense_variance=[1e-2], mode=MAP(epochs=20), criteria=criteria)
    (posterior,) = kept
    assert posterior.model.prior.dense_variance == 1e-2
    assert found.log_joint.item() == pytest.approx(float(posterior.log_joint()), rel=1e-6)
    assert found.train_mse.item() == pytest.approx(float((posterior.predict(data[0]).mean - data[1]).square().mean()))
    density = float64_density(posterior.model, data, 1.0, torch.device("cpu"))
    with torch.no_grad():
        expected = Expansion.at(density, density.latest(posterior, 1)[0], "layer").log_evidence()
    assert found.laplace.item() == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.statistical
def test_labels_have_an_error_in_place_of_a_mean_square(sweep):
    x, kept = torch.randn(40, 4, generator=torch.Generator().manual_seed(shifted())), []
    network = MLP(REP_IN, (3 * Scalar)(SO(3)), SO(3), channels=8, layers=1)
    y = x[:, :3].argmax(-1)
    found = sweep(
        BayesianModel(network, RPPPrior(), Categorical()),
        (x, y),
        mlp_variance=[1.0],
        test=(x, y.roll(1)),
        mode=MAP(epochs=30, lr=0.03),
        criteria=[LaplaceEvidence("symmetric"), lambda posterior: kept.append(posterior) or 1.0],
    )
    guess = kept[0].predict(x).mean.argmax(-1)
    assert found.train_error.item() == pytest.approx(float((guess != y).double().mean()))
    assert found.test_error.item() == pytest.approx(float((guess != y.roll(1)).double().mean()))
    assert found.train_error.item() < found.test_error.item()
    assert found.attrs["criteria"] == ["laplace_symmetric", "<lambda>"]
    assert "train_mse" not in found


@pytest.mark.statistical
def test_a_function_can_go_on_from_the_cell(observations, linear, sweep):
    def draws(posterior):
        fitted = Laplace("full", draws=200).fit(
            posterior.model, posterior.data, seed=shifted(), device="cpu", start=posterior, progress=False
        )
        return loo_of(fitted).value

    data = observations()
    found = sweep(linear(), data, dense_variance=[0.01, 0.3], mode=MAP(epochs=50), criteria=[draws])
    for value, variance in zip(found.draws.values, found.dense_variance.values, strict=True):
        exact = exact_loo(linear(prior=RPPPrior(dense_variance=float(variance))), data, device="cpu").sum()
        assert value == pytest.approx(float(exact), abs=2.0)


def test_entries_of_layers_are_swept_by_name(observations, wide, sweep):
    prior = RPPPrior(dense_variance={"": 1e-4, "network.1": 1e-2})
    model = BayesianModel(wide(), prior, Gaussian(0.25))
    found = sweep(model, observations(), mode=MAP(epochs=1), **{"dense_variance[network.1]": [1e-3, 1.0]})
    assert found.laplace_symmetric.dims == ("dense_variance[network.1]",)
    assert chosen_cell(found, "train_mse").keys() == {"dense_variance[network.1]"}
