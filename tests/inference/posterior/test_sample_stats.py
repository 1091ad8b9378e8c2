"""What samplers record of each draw, chains that diverged, and the log joint of the draws."""

import json
import types

import arviz
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch.distributions import constraints

from bayes_rpp import MLP, Categorical, Gaussian, LogDensity
from inference import MAP, DeepEnsemble, Posterior
from inference.posterior.files import HEADER, tensors_file
from tests.arviz_versions import energy_curves, groups_of, marked_draws

CHAINS, DRAWS = 4, 50


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def sampled(slope):
    """Draws of a log density as a sampler such as NUTS leaves them, with a chain that diverged."""
    draws = normal(CHAINS, DRAWS, 2)
    sample_stats = {
        "lp": -0.5 * draws.square().sum(-1),
        "acceptance_rate": torch.full((CHAINS, DRAWS), 0.8),
        "diverging": torch.arange(CHAINS * DRAWS).reshape(CHAINS, DRAWS) % 67 == 3,
        "energy": draws.square().sum(-1) + normal(CHAINS, DRAWS, seed=1).square(),
        "n_steps": torch.full((CHAINS, DRAWS), 7),
        "step_size": torch.full((CHAINS, DRAWS), 0.5),
        "tree_depth": torch.full((CHAINS, DRAWS), 3),
    }
    short = {name: value[:1, :3] + 0 for name, value in sample_stats.items()}
    partial = Posterior(slope, {"z": draws[:1, :3] + 9}, {"chain": 2, "diverged": 53}, sample_stats=short)
    lost = Posterior(slope, {"z": draws[:1, :0]}, {"chain": 4, "diverged": 1})
    return Posterior(slope, {"z": draws}, {"engine": "NUTS"}, sample_stats=sample_stats, partial=[partial, lost])


def assert_same_tensors(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


def test_a_posterior_has_none_by_default_and_says_how_many_chains_diverged(sampled, slope):
    plain = Posterior(slope, sampled.samples)
    assert (plain.sample_stats, plain.partial) == ({}, [])
    assert "diverged" not in repr(plain)
    assert "2 parameters; 2 chains diverged)" in repr(sampled)
    assert "; 1 chain diverged)" in repr(Posterior(slope, sampled.samples, partial=sampled.partial[:1]))


def test_statistics_and_diverged_chains_come_back_bit_by_bit(sampled, slope, tmp_path):
    loaded = Posterior.load(sampled.save(tmp_path / "run"), model=slope)
    assert_same_tensors(loaded.samples, sampled.samples)
    assert_same_tensors(loaded.sample_stats, sampled.sample_stats)
    assert [part.stats for part in loaded.partial] == [part.stats for part in sampled.partial]
    for found, expected in zip(loaded.partial, sampled.partial, strict=True):
        assert found.model is slope
        assert_same_tensors(found.samples, expected.samples)
        assert_same_tensors(found.sample_stats, expected.sample_stats)


def test_many_diverged_chains_are_not_mixed_up(slope, tmp_path):
    """Eleven of them: "partial/1" is the beginning of "partial/10"."""
    partial = [Posterior(slope, {"z": torch.full((1, 2, 2), float(i))}, {"chain": i, "diverged": i}) for i in range(11)]
    folder = Posterior(slope, {"z": torch.zeros(1, 2, 2)}, partial=partial).save(tmp_path / "run")
    loaded = Posterior.load(folder, model=slope).partial
    assert [float(part.samples["z"].mean()) for part in loaded] == list(range(11))


def test_diverged_chains_of_a_network_come_back_with_model_and_data(make_small_model, bodies, tmp_path):
    fitted = MAP(epochs=1).fit(make_small_model(bodies), bodies.train, seed=0)
    fitted.partial.append(Posterior(fitted.model, fitted.samples, {"chain": 1, "diverged": 5}, data=fitted.data))
    (loaded,) = Posterior.load(fitted.save(tmp_path / "run")).partial
    assert torch.equal(loaded.log_joint(), fitted.log_joint())


def test_files_from_before_there_were_any_still_load(slope, tmp_path):
    posterior = MAP(epochs=2).fit(slope, None, seed=0)
    folder = posterior.save(tmp_path / "run")
    (folder / tensors_file(folder)).rename(folder / "tensors.safetensors")
    header = json.loads((folder / HEADER).read_text()) | {"version": 1}
    older = {"format", "version", "model", "stats", "history", "tensors"}
    (folder / HEADER).write_text(json.dumps({key: header[key] for key in older}))
    loaded = Posterior.load(folder, model=slope)
    assert_same_tensors(loaded.samples, posterior.samples)
    assert (loaded.sample_stats, loaded.partial) == ({}, [])
    posterior.save(folder)  # and are replaced
    assert sorted(path.name for path in folder.iterdir()) == [HEADER, tensors_file(folder)]


def test_arviz_takes_the_statistics_by_its_own_names(sampled):
    view = sampled.to_arviz()
    assert set(groups_of(view)) == {"posterior", "sample_stats"}
    for name, value in sampled.sample_stats.items():
        assert view.sample_stats[name].dims == ("chain", "draw")
        assert np.array_equal(view.sample_stats[name].values, value.numpy())


def test_arviz_tables_and_pictures_work_on_them(sampled):
    view = sampled.to_arviz()
    summary = arviz.summary(view, round_to="none")
    assert np.allclose(summary["mean"], sampled.samples["z"].mean((0, 1)), rtol=1e-12)
    assert np.isfinite(summary).all(axis=None)
    assert float(arviz.rhat(view)["z"].max()) < 1.1
    assert float(arviz.ess(view)["z"].min()) > 50
    try:
        _, draw = sampled.sample_stats["diverging"].nonzero(as_tuple=True)
        assert sorted(marked_draws(view, "z")) == sorted(2 * draw.tolist())
        assert energy_curves(view) == 2
    finally:
        plt.close("all")


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_arviz_summary_takes_parameters_of_any_size(slope, scale):
    draws = scale * normal(CHAINS, DRAWS, 2)
    summary = arviz.summary(Posterior(slope, {"z": draws}).to_arviz(), round_to="none")
    assert np.allclose(summary["mean"], draws.mean((0, 1)), rtol=1e-9, atol=0)
    assert np.isfinite(summary).all(axis=None)


def test_arviz_of_the_1_line_gets_one_mapping_of_groups(sampled, monkeypatch):
    newer = types.SimpleNamespace(__version__="1.0.0", from_dict=lambda groups: groups)
    monkeypatch.setattr("inference.posterior.arviz.quiet_arviz", lambda: newer)
    groups = sampled.to_arviz()
    assert set(groups) == {"posterior", "sample_stats"}
    assert np.array_equal(groups["sample_stats"]["energy"], sampled.sample_stats["energy"])


def fit(model, data, members=6):
    """A few states as two chains."""
    fitted = DeepEnsemble(members=members, epochs=2).fit(model, data, seed=0)
    samples = {name: value.reshape(2, members // 2, *value.shape[2:]) for name, value in fitted.samples.items()}
    return Posterior(model, samples, data=fitted.data)


def one_by_one(posterior):
    pair = posterior.data or ()
    rows = [
        [float(posterior.model.log_joint({n: v[c, d] for n, v in posterior.samples.items()}, *pair)) for d in range(3)]
        for c in range(2)
    ]
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("numbers", [1, 10_000, 1_048_576])
@pytest.mark.parametrize("case", ["known noise", "learned noise", "labels", "collapsed"])
def test_the_log_joint_is_the_models_whatever_the_size_of_the_pieces(
    make_small_model, bodies, monkeypatch, case, numbers
):
    monkeypatch.setattr("inference.memory.AT_ONCE", numbers)
    data = tuple(part.double() for part in bodies.train)
    if case == "labels":
        model = make_small_model(bodies, Categorical(), network=MLP, dtype=torch.float64)
        data = data[0], torch.arange(30) % 9
    elif case == "collapsed":
        model = make_small_model(bodies, dtype=torch.float64, parametrization="collapsed")
    else:
        likelihood = Gaussian(0.2, learned=case == "learned noise", per_output=case == "learned noise")
        model = make_small_model(bodies, likelihood, dtype=torch.float64)
    posterior = fit(model, data)
    assert torch.allclose(posterior.log_joint(), one_by_one(posterior), rtol=1e-10)


def test_the_log_joint_of_a_log_density_is_that_of_constrained_values():
    def log_density(params):
        return -params["rate"].sum() + 2 * params["rate"].log().sum() - params["z"].square()

    example = {"rate": torch.ones(2, dtype=torch.float64), "z": torch.zeros((), dtype=torch.float64)}
    density = LogDensity(log_density, example, {"rate": constraints.positive})
    posterior = Posterior(density, {"rate": normal(2, 3, 2).exp(), "z": normal(2, 3)})
    assert torch.allclose(posterior.log_joint(), one_by_one(posterior), rtol=1e-12)


def test_the_log_joint_needs_a_model_and_its_data(make_small_model, bodies):
    posterior = MAP(epochs=1).fit(make_small_model(bodies), bodies.train, seed=0)
    with pytest.raises(ValueError, match=r"needs the training data \(x, y\)"):
        Posterior(posterior.model, posterior.samples).log_joint()
    with pytest.raises(TypeError, match="pass model="):
        Posterior(None, posterior.samples, data=posterior.data).log_joint()
