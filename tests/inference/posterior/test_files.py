"""Posteriors on disk: exact round trips, and clear refusals of what is no posterior."""

import contextlib
import json
import os

import pytest
import torch

from bayes_rpp import (
    EMLP,
    MLP,
    RPPEMLP,
    BayesianModel,
    Categorical,
    Gaussian,
    Group,
    NormalizedNetwork,
    RPPPrior,
    Vector,
)
from inference import MAP, DeepEnsemble, Posterior
from inference.atomic_write import check_writable
from inference.posterior.files import HEADER, tensors_file

ENGINE = DeepEnsemble(members=2, epochs=4, snapshots=2)


@pytest.fixture
def saved(make_small_model, bodies, tmp_path):
    """A posterior and the folder that it was saved to."""
    posterior = ENGINE.fit(make_small_model(bodies), bodies.train, seed=0)
    return posterior, posterior.save(tmp_path / "runs" / "inertia")


def assert_same(loaded, posterior):
    def assert_same_tensors(found, expected):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name].dtype == value.dtype
            assert torch.equal(found[name], value)

    assert_same_tensors(loaded.samples, posterior.samples)
    assert loaded.stats == posterior.stats
    assert [snapshot.epoch for snapshot in loaded.history] == [snapshot.epoch for snapshot in posterior.history]
    for found, expected in zip(loaded.history, posterior.history, strict=True):
        assert_same_tensors(found.samples, expected.samples)
    assert (loaded.data is None) == (posterior.data is None)
    for found, expected in zip(loaded.data or (), posterior.data or (), strict=True):
        assert torch.equal(found, expected)


def test_everything_comes_back_bit_by_bit(saved, bodies):
    posterior, folder = saved
    loaded = Posterior.load(folder)
    assert_same(loaded, posterior)
    assert len(loaded.history) == 2
    assert torch.equal(loaded.predict(bodies.test.x).samples, posterior.predict(bodies.test.x).samples)
    assert {path.name for path in folder.iterdir()} == {HEADER, tensors_file(folder)}
    assert {path.name for path in folder.parent.iterdir()} == {folder.name}  # nothing is left beside it


def test_parameters_come_back_in_the_networks_order(saved):
    posterior, folder = saved
    assert list(Posterior.load(folder).samples) == list(posterior.samples)


def test_files_are_safetensors_and_strict_json(saved):
    header = json.loads((saved[1] / HEADER).read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert header["model"]["network"]["kind"] == "RPPEMLP"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normalized_networks_come_back_with_their_scales(make_small_model, bodies, tmp_path, dtype):
    data = tuple(100 * part.to(dtype) for part in bodies.train)
    network = NormalizedNetwork.fit(make_small_model(bodies, dtype=dtype).network, *data)
    posterior = ENGINE.fit(BayesianModel(network, RPPPrior(), Gaussian(0.2)), data, seed=0)
    loaded = Posterior.load(posterior.save(tmp_path / "run"))
    assert_same(loaded, posterior)
    assert torch.equal(loaded.predict(data[0]).samples, posterior.predict(data[0]).samples)
    assert {value.dtype for value in loaded.model.network.state_dict().values()} == {dtype}


@pytest.mark.parametrize("network", [EMLP, MLP, RPPEMLP])
def test_every_network_and_prior_is_rebuilt_from_the_files_alone(make_small_model, bodies, tmp_path, network):
    options = {"parametrization": "collapsed"} if network is RPPEMLP else {}
    model = make_small_model(bodies, Gaussian(0.3, learned=True, per_output=True), network, **options)
    model = BayesianModel(model.network, RPPPrior({"": 2.0, "network.1": 3.0}, 1e-3, 0.5, "none"), model.likelihood)
    posterior = MAP(epochs=2).fit(model, bodies.train, seed=0)
    loaded = Posterior.load(posterior.save(tmp_path / "run"))
    assert_same(loaded, posterior)
    assert (loaded.model.prior, loaded.model.likelihood) == (model.prior, model.likelihood)
    params = {name: value[0, 0] for name, value in posterior.samples.items()}
    assert torch.equal(loaded.model.log_joint(params, *bodies.train), model.log_joint(params, *bodies.train))


def test_categorical_models_come_back(make_small_model, bodies, tmp_path):
    model = make_small_model(bodies, Categorical(), network=MLP)
    posterior = MAP(epochs=2).fit(model, (bodies.train.x, torch.arange(30) % 9), seed=0)
    assert_same(Posterior.load(posterior.save(tmp_path / "run")), posterior)


def test_groups_of_ones_own_come_back_by_their_generators(tmp_path):
    turn = torch.tensor([[[0.0, -1.0], [1.0, 0.0]]])
    network = RPPEMLP(Vector, Vector, Group(generators=turn, name="O(2)"), channels=4, layers=1)  # a misleading name
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    posterior = MAP(epochs=2).fit(BayesianModel(network, RPPPrior(), Gaussian(0.2)), (x, x**2), seed=0)
    loaded = Posterior.load(posterior.save(tmp_path / "run"))
    assert loaded.model.network.group == network.group
    assert torch.equal(loaded.predict(x).samples, posterior.predict(x).samples)


def test_outputs_may_be_the_inputs_themselves(make_linear_problem, tmp_path):
    """As in an autoencoder: x and y share their memory."""
    model, _ = make_linear_problem()
    y = torch.ones(6, 3, dtype=torch.float64)
    network = RPPEMLP(Vector, Vector, model.network.group, layers=0).double()
    posterior = MAP(epochs=1).fit(BayesianModel(network, RPPPrior(), Gaussian(0.2)), (y, y), seed=0)
    assert_same(Posterior.load(posterior.save(tmp_path / "run")), posterior)


def test_an_older_run_is_replaced_whole(saved, make_small_model, bodies):
    _, folder = saved
    newer = MAP(epochs=1).fit(make_small_model(bodies, parametrization="collapsed"), bodies.train, seed=9)
    assert newer.save(str(folder)) == folder
    assert_same(Posterior.load(folder), newer)
    assert {path.name for path in folder.parent.iterdir()} == {folder.name}


def test_replacing_a_run_is_all_or_nothing(saved, make_small_model, bodies, monkeypatch):
    """Whatever goes wrong half way, the folder holds the older run or the newer one, never a mixture."""
    older, folder = saved
    newer, renames = ENGINE.fit(make_small_model(bodies), bodies.train, seed=9), []

    def second_fails(source, density, rename=os.replace):
        renames.append(density)
        if len(renames) == 2:
            raise OSError("power cut")
        rename(source, density)

    monkeypatch.setattr(os, "replace", second_fails)
    with contextlib.suppress(OSError):
        newer.save(folder)
    loaded = Posterior.load(folder)
    assert_same(loaded, newer if loaded.stats["seed"] == 9 else older)


def test_log_densities_and_foreign_networks_come_back_with_the_model_given(slope, tmp_path, caplog):
    network = torch.nn.Linear(3, 2)
    model = BayesianModel(network, RPPPrior(), Gaussian(0.2), num_outputs=2)
    data = torch.ones(4, 3), torch.zeros(4, 2)
    for own, pair in ((slope, None), (model, data)):
        posterior = MAP(epochs=2).fit(own, pair, seed=0)
        folder = posterior.save(tmp_path / "run")
        assert_same(Posterior.load(folder, model=own), posterior)
        assert not caplog.records
        without = Posterior.load(folder)
        assert without.model is None
        assert "model=" in caplog.text
        caplog.clear()
    with pytest.raises(TypeError, match=r"model=|needs a posterior of a BayesianModel"):
        without.predict(data[0])


def test_interrupted_before_the_first_epoch_ended_is_saved_as_strict_json(slope, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("inference.training.parameter_stack.ParameterStack.step", interrupt)
    folder = MAP(epochs=2).fit(slope, None, seed=0).save(tmp_path / "run")
    json.loads((folder / HEADER).read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit_header(**changes):
    def edit(folder):
        header = json.loads((folder / HEADER).read_text())
        (folder / HEADER).write_text(json.dumps(header | changes))

    return edit


def rename_a_tensor(folder):
    header = json.loads((folder / HEADER).read_text())
    header["tensors"]["samples/network.9.beta"] = header["tensors"].pop("samples/network.1.beta")
    (folder / HEADER).write_text(json.dumps(header))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: truncate(folder / tensors_file(folder)),
            r"tensors-\w+\.safetensors is missing or damaged.*Fit and save",
        ),
        (lambda folder: (folder / tensors_file(folder)).unlink(), r"tensors-\w+\.safetensors is missing or damaged"),
        (lambda folder: truncate(folder / HEADER), r"posterior\.json is damaged.*Fit and save"),
        (lambda folder: (folder / HEADER).write_bytes(b"\xff\xfe\x00"), r"posterior\.json is damaged"),
        (lambda folder: (folder / HEADER).write_text("[1, 2]"), r"posterior\.json is damaged"),
        (edit_header(format="other"), r"posterior\.json is of format 'other', not 'bayes_rpp posterior'"),
        (edit_header(version=3), r"version 3 of the format; this program reads versions 1 and 2"),
        (edit_header(model={"network": {"kind": "RPPEMLP"}}), r"description is damaged"),
        (rename_a_tensor, r"does not match posterior\.json.*network\.1\.beta"),
    ],
    ids=[
        "truncated tensors",
        "no tensors",
        "truncated JSON",
        "no text",
        "a list",
        "format",
        "version",
        "model",
        "renamed tensor",
    ],
)
def test_damage_is_refused_by_name(saved, damage, message):
    damage(saved[1])
    with pytest.raises(ValueError, match=message):
        Posterior.load(saved[1])


def test_missing_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere holds no saved posterior"):
        Posterior.load(tmp_path / "nowhere")


def test_a_file_in_the_way_is_found_before_anything_is_written(saved, tmp_path):
    (tmp_path / "file").write_text("keep me")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        for attempt in (saved[0].save, check_writable):
            with pytest.raises(OSError, match=rf"cannot write to {path}"):
                attempt(path)
    assert (tmp_path / "file").read_text() == "keep me"


def test_a_failed_save_leaves_the_older_run_and_nothing_beside_it(saved, monkeypatch):
    posterior, folder = saved

    def full(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr("inference.posterior.files.write_tensors", full)
    with pytest.raises(OSError, match="no space left"):
        posterior.save(folder)
    assert_same(Posterior.load(folder), posterior)
    assert {path.name for path in folder.parent.iterdir()} == {folder.name}


def test_what_is_no_posterior_is_left_alone_and_hidden_files_do_not_count(saved, tmp_path):
    posterior, folder = saved
    (folder / ".hidden").write_text("made by a file browser")
    assert_same(Posterior.load(posterior.save(folder)), posterior)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds other files \(notes\.txt\)"):
        posterior.save(folder)
    assert (folder / "notes.txt").read_text() == "mine"
