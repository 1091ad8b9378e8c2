"""Checkpoints that are of another run, damaged, or not to be written are refused, with a message that says why."""

import errno
import os
import re

import pytest
import torch
from pyro.distributions import HalfCauchy, LogNormal, Normal, TransformedDistribution
from torch.distributions import ExpTransform, constraints

from bayes_rpp import BayesianModel, Gaussian, LogDensity, RPPPrior
from inference import HMC, SGHMC, SGLD, Polynomial, Posterior
from inference.checkpoint import Checkpoint
from inference.density.unconstrained import UnconstrainedDensity
from inference.posterior.files import tensors_file

ENGINE = SGLD(1e-3, batch_size=5, chains=2, draws=3, warmup=1)


def gaussian(precision, **options):
    example = {"z": torch.ones(2, dtype=torch.float64)}
    return LogDensity(lambda p: -0.5 * precision * p["z"].square().sum(), example, **options)


def fit(path, engine=ENGINE, problem=None, **options):
    model, data = problem or (gaussian(1.0), None)
    return engine.fit(model, data, checkpoint=path, **{"seed": 1, "progress": False, **options})


@pytest.mark.parametrize(
    ("engine", "named"),
    [
        (SGLD(2e-3, batch_size=5, chains=2, draws=3, warmup=1), "its step_size is 0.001, here it is 0.002"),
        (SGLD(1e-3, batch_size=6, chains=2, draws=3, warmup=1), "its batch_size is 5, here it is 6"),
        (SGLD(1e-3, batch_size=5, chains=3, draws=3, warmup=1), "its chains is 2, here it is 3"),
        (SGLD(1e-3, batch_size=5, chains=2, draws=4, warmup=1), "its draws is 3, here it is 4"),
        (SGLD(1e-3, batch_size=5, chains=2, draws=3, warmup=2), "its warmup is 1, here it is 2"),
        (SGLD(1e-3, batch_size=5, chains=2, draws=3, warmup=1, thin=2), "its thin is 1, here it is 2"),
        (SGLD(1e-3, batch_size=5, chains=2, draws=3, warmup=1, metric="layer"), "its metric is 'identity', here it"),
        (SGLD(1e-3, batch_size=5, chains=2, draws=3, warmup=1, schedule=Polynomial()), "its schedule is 'Constant()'"),
        (SGHMC(1e-3, batch_size=5, chains=2, draws=3, warmup=1), "its engine is 'SGLD', here it is 'SGHMC'"),
        (HMC(chains=2, draws=3, warmup=1), "its engine is 'SGLD', here it is 'HMC'"),
    ],
)
def test_other_settings_are_refused_by_name(make_linear_problem, tmp_path, engine, named):
    fit(tmp_path / "run", problem=make_linear_problem())
    before = (tmp_path / "run").read_bytes()
    with pytest.raises(ValueError, match=re.escape(named)):
        fit(tmp_path / "run", engine, make_linear_problem())
    assert (tmp_path / "run").read_bytes() == before


def test_another_temperature_data_or_seed_is_refused_by_name(make_linear_problem, tmp_path):
    (model, (x, y)), path = make_linear_problem(), tmp_path / "run"
    fit(path, problem=(model, (x, y)))
    with pytest.raises(ValueError, match="its seed is 1, here it is 2"):
        fit(path, problem=(model, (x, y)), seed=2)
    with pytest.raises(ValueError, match=r"its temperature is 1\.0, here it is 2\.0"):
        fit(path, SGLD(1e-3, batch_size=5, chains=2, draws=3, warmup=1, temperature=2.0), (model, (x, y)))
    for other in ((x, y.flip(0)), (x + 1e-12, y), (x[:-1], y[:-1])):
        with pytest.raises(ValueError, match=r"its data is '[0-9a-f]+', here it is '[0-9a-f]+'"):
            fit(path, problem=(model, other))


def test_another_model_is_refused_with_what_differs_in_sight(make_linear_problem, make_small_model, bodies, tmp_path):
    model, data = make_linear_problem()
    prior = RPPPrior(equivariant_variance=1.0, dense_variance=0.2, scaling="none")
    others = [
        BayesianModel(model.network, prior, model.likelihood),
        BayesianModel(model.network, model.prior, Gaussian(noise_variance=0.21)),
        make_linear_problem("collapsed")[0],
    ]
    fit(tmp_path / "linear", problem=(model, data))
    for other in others:
        assert_differs_in_sight(tmp_path / "linear", (other, data))
    small, cautious = make_small_model(bodies), SGLD(1e-7, chains=2, draws=2, warmup=0)
    fit(tmp_path / "small", engine=cautious, problem=(small, bodies.train))
    other = make_small_model(bodies, likelihood=Gaussian(noise_variance=0.25))
    assert_differs_in_sight(tmp_path / "small", (other, bodies.train), cautious)


def chatty(**changes):
    """A model of many parameters in float32, whose log densities are compared with a wide tolerance."""
    settings = {"prior": RPPPrior(mlp_variance=1.0), "noise": Gaussian(0.1), "activation": torch.nn.Tanh} | changes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        layers = torch.nn.Linear(3, 200), settings["activation"](), torch.nn.Linear(200, 3)
        network, data = torch.nn.Sequential(*layers), (torch.randn(20, 3), 0.1 * torch.randn(20, 3))
    return BayesianModel(network, settings["prior"], settings["noise"], num_outputs=3), data


def hyper(law):
    return RPPPrior(mlp_variance=law)


class Softer(torch.nn.Tanh):
    pass


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ({}, {"noise": Gaussian(0.105)}, "its model.likelihood.noise_variance is 0.1, here it is 0.105"),
        ({}, {"prior": hyper(1.0005)}, "its model.prior.mlp_variance is 1.0, here it is 1.0005"),
        ({}, {"prior": RPPPrior(mlp_variance=1.0, dense_variance=1.0)}, "its model.prior.dense_variance is 0.0001, "),
        ({}, {"activation": Softer}, "its model.network.1 is 'torch.nn"),
        (
            {"noise": Gaussian(0.1, learned=True)},
            {"noise": Gaussian(0.1, learned=True, floor=1e-5)},
            "its model.likelihood.floor is 1e-06, here it is 1e-05",
        ),
        ({"prior": hyper(HalfCauchy(0.1))}, {"prior": hyper(HalfCauchy(0.1001))}, "its model.prior.mlp_variance.scale"),
        ({"prior": hyper(HalfCauchy(1.0))}, {"prior": hyper(LogNormal(0.0, 1.0))}, "its model.prior.mlp_variance is"),
        (
            {"prior": hyper(TransformedDistribution(Normal(0.0, 1.0), [ExpTransform()]))},
            {"prior": hyper(TransformedDistribution(Normal(0.0, 1.0001), [ExpTransform()]))},
            "its model.prior.mlp_variance.base_dist.scale is 1.0, ",
        ),
    ],
)
def test_what_rounding_of_the_density_would_hide_is_refused_by_name(tmp_path, before, after, named):
    engine = SGLD(1e-9, chains=1, draws=1, warmup=0)
    first = fit(tmp_path / "run", engine, chatty(**before))
    again = fit(tmp_path / "run", engine, chatty(**before))
    assert all(torch.equal(again.samples[name], value) for name, value in first.samples.items())
    with pytest.raises(ValueError, match=re.escape(named)):
        fit(tmp_path / "run", engine, chatty(**after))


@pytest.mark.parametrize("error", [3e-6, 0.01])
def test_rounding_of_the_density_is_no_difference(make_small_model, bodies, tmp_path, monkeypatch, error):
    """It depends on the number of threads, in float32."""
    engine, problem, path = SGLD(1e-7, chains=2, draws=2, warmup=0), (make_small_model(bodies), bodies.train), "run"
    whole = fit(tmp_path / path, engine, problem)
    exact = UnconstrainedDensity.gradients
    monkeypatch.setattr(UnconstrainedDensity, "gradients", lambda *args: [(1 + error) * part for part in exact(*args)])
    if error < 1e-4:
        resumed = fit(tmp_path / path, engine, problem)
        assert all(torch.equal(resumed.samples[name], value) for name, value in whole.samples.items())
    else:
        with pytest.raises(ValueError, match="is of another run: its model"):
            fit(tmp_path / path, engine, problem)


def test_rounding_of_the_start_is_no_difference(tmp_path):
    engine = SGLD(1e-3, chains=2, draws=3, warmup=1)
    starts = [Posterior(None, {"z": torch.full((2, 1, 2), 1 + aside).double()}) for aside in (0.0, 1e-12)]
    whole = fit(tmp_path / "run", engine, start=starts[0])
    assert torch.equal(fit(tmp_path / "run", engine, start=starts[1]).samples["z"], whole.samples["z"])


def assert_differs_in_sight(path, problem, engine=ENGINE):
    with pytest.raises(ValueError, match="is of another run: its model") as caught:
        fit(path, engine, problem)
    found, wanted = re.search(r"its [\w.]+ is (.*), here it is (.*)\. Give another", str(caught.value)).groups()
    assert found != wanted


@pytest.mark.parametrize("kind", ["the same density at the start", "the same up to a constraint"])
def test_another_density_is_refused_even_where_the_first_start_cannot_tell(tmp_path, kind):
    """The start is the mode, where Gaussians of all widths are alike but for a constant."""
    engine = SGLD(1e-3, chains=2, draws=3, warmup=1)
    start = Posterior(None, {"z": torch.stack([torch.zeros(1, 2), torch.ones(1, 2)]).double()})
    others = {
        "the same density at the start": gaussian(4.0),
        "the same up to a constraint": LogDensity(
            lambda p: -0.5 * p["z"].square().sum(),
            {"z": torch.ones(2, dtype=torch.float64)},
            {"z": constraints.greater_than(-1.0)},
        ),
    }
    fit(tmp_path / "run", engine, start=start)
    with pytest.raises(ValueError, match="is of another run: its model"):
        fit(tmp_path / "run", engine, (others[kind], None), start=start)


def test_another_start_is_refused(tmp_path):
    engine = SGLD(1e-3, chains=2, draws=3, warmup=1)
    starts = [Posterior(None, {"z": torch.tensor([[[1.0, 1.0]], [[last, 0.0]]]).double()}) for last in (0.0, 5.0)]
    fit(tmp_path / "run", engine, start=starts[0])
    with pytest.raises(ValueError, match="is of another run: its start"):
        fit(tmp_path / "run", engine, start=starts[1])


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "other tensors", "folder"])
def test_a_damaged_file_is_refused_and_left_alone(tmp_path, damage):
    path, engine = tmp_path / "run", SGLD(1e-3, chains=2, draws=3, warmup=1)
    whole = fit(path, engine)
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-20])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("not a checkpoint at all, though it is long enough to be read as one")
    elif damage == "other tensors":
        saved = whole.save(tmp_path / "saved")
        os.replace(saved / tensors_file(saved), path)
    else:
        path.unlink()
        path.mkdir()
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(ValueError, match=rf"{path}.*(is damaged|is no checkpoint)"):
        fit(path, engine)
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_file_of_an_older_format_is_refused_with_both_formats(tmp_path, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr("inference.checkpoint._FORMAT", "bayes_rpp checkpoint 2")
        fit(tmp_path / "run", SGLD(1e-3, chains=2, draws=3, warmup=1))
    message = r"its format is 'bayes_rpp checkpoint 2', and this version reads 'bayes_rpp checkpoint 3'"
    with pytest.raises(ValueError, match=rf"is no checkpoint.*{message}"):
        fit(tmp_path / "run", SGLD(1e-3, chains=2, draws=3, warmup=1))


def test_a_place_that_cannot_be_written_is_found_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    calls = []
    density = LogDensity(lambda p: calls.append(None) or -p["z"].square().sum(), {"z": torch.zeros(1)})
    calls.clear()
    with pytest.raises(OSError, match="file"):
        fit(tmp_path / "file" / "run", SGLD(1e-3, chains=2, draws=50, warmup=0), (density, None))
    assert len(calls) < 5


def test_a_failed_write_leaves_the_file_before_and_no_other_and_is_reported(tmp_path, monkeypatch, caplog):
    path, engine = tmp_path / "run", SGLD(1e-3, chains=2, draws=3, warmup=1)
    fit(path, engine)
    before = path.read_bytes()

    def full(file, tensors, metadata):
        file.write(before[: len(before) // 2])
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr("inference.checkpoint.write_tensors", full)
    Checkpoint(path, {}).save({"z": torch.zeros(1)}, {})
    assert f"the checkpoint {path} could not be written: [Errno 28] cannot write {path}: no space left" in caplog.text
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["run"]
