"""JSON entries: what cannot be written and what is of another kind than declared is refused by file and entry."""

import contextlib
import json
import re

import numpy as np
import pytest
import torch
from safetensors import safe_open

from inference import MAP, NUTS, SGLD, DeepEnsemble, Posterior
from inference.json_entries import json_values
from inference.posterior.files import HEADER
from inference.tensor_file import write_tensors

OF_EVERY_KIND = {
    "a whole number": 3,
    "a number": 1.5,
    "a text": "words",
    "true or false": True,
    "null": None,
    "a list": [None],
    "a mapping": {"own": 1},
}
ENTRIES = {  # of posterior.json, and what each may hold
    "format": {"a text"},
    "version": {"a whole number"},
    "tensors_file": {"a text"},
    "model": {"a mapping", "null"},
    "stats": {"a mapping"},
    "history": {"a list"},
    "partial": {"a list"},
    "tensors": {"a mapping"},
}


@pytest.fixture
def saved(make_small_model, bodies, tmp_path):
    posterior = DeepEnsemble(members=2, epochs=4, snapshots=2).fit(make_small_model(bodies), bodies.train, seed=0)
    return posterior, posterior.save(tmp_path / "run") / HEADER


def leaves(value, path=()):
    """The paths to all entries of JSON values, and those to what they hold."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield (*path, key)
        yield from leaves(part, (*path, key))


def replaced(value, path, by):
    if not path:
        return by
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], by)
    return copy


def test_an_entry_of_another_kind_is_refused_by_file_and_entry(saved):
    _, file = saved
    whole = json.loads(file.read_text())
    assert whole.keys() == ENTRIES.keys()
    for name, right in ENTRIES.items():
        for kind, value in OF_EVERY_KIND.items():
            file.write_text(json.dumps(whole | {name: value}))
            if kind not in right:
                expected = f"{file} is damaged: its entry '{name}' holds {json.dumps(value)}, but should hold "
                with pytest.raises(ValueError, match=re.escape(expected)) as refused:
                    Posterior.load(file.parent)
                assert all(word in str(refused.value) for word in right)
        file.write_text(json.dumps({key: value for key, value in whole.items() if key != name}))
        with pytest.raises(ValueError, match=rf"{file} is damaged: it lacks '{name}'"):
            Posterior.load(file.parent)
    inside = [{"history": [0, "2"]}, {"partial": [3]}, {"tensors": {"data/x": [30, 2.5]}}, {"history": [0, 1, 2]}]
    for changes, entry in zip(inside, ["history[1]", "partial[0]", "tensors.data/x[1]", "history"], strict=True):
        file.write_text(json.dumps(whole | changes))
        with pytest.raises(ValueError, match=rf"{file} is damaged: its entry '{re.escape(entry)}' h(old|a)s"):
            Posterior.load(file.parent)
    file.write_text("[" * 100_000)
    with pytest.raises(ValueError, match=rf"{file} is damaged"):
        Posterior.load(file.parent)


class _NamedError(Exception):
    """A ValueError that names the file."""


@contextlib.contextmanager
def _named(file):
    try:
        yield
    except ValueError as error:
        if str(file) in str(error):
            raise _NamedError from error
        raise


def test_whatever_is_wrong_in_a_models_description_is_refused_by_file(saved):
    _, file = saved
    whole = json.loads(file.read_text())
    for path in leaves(whole["model"], ("model",)):
        for value in (None, -1, [["words"]]):
            file.write_text(json.dumps(replaced(whole, path, value)))
            with contextlib.suppress(_NamedError), _named(file):
                Posterior.load(file.parent)


def test_numbers_of_every_library_are_saved_and_what_json_cannot_hold_is_refused_before_anything_is_written(saved):
    posterior, file = saved
    before = {path.name: path.read_bytes() for path in file.parent.iterdir()}
    for wrong in (np.ones(3), torch.ones(1), {1, 2}, 1j, object(), {"a": [0, np.ones(2)]}, {(1, 2): 3}):
        posterior.stats["own"] = wrong
        for folder in (file.parent, file.parents[1] / "new"):
            with pytest.raises(TypeError, match=r"posterior\.stats\['own'\]"):
                posterior.save(folder)
    assert {path.name: path.read_bytes() for path in file.parent.iterdir()} == before
    assert not (file.parents[1] / "new").exists()
    numbers = [
        np.float32(0.5),
        np.float64(0.5),
        np.array(0.5),
        torch.tensor(0.5),
        torch.tensor(0.5, requires_grad=True),
    ]
    posterior.stats["own"] = {"numbers": numbers, "count": np.int64(3), "flag": np.bool_(True), "pair": (1, None)}
    posterior.history[1] = type(posterior.history[1])(np.int64(2), posterior.history[1].samples)
    loaded = Posterior.load(posterior.save(file.parent))
    assert loaded.stats["own"] == {"numbers": [0.5] * 5, "count": 3, "flag": True, "pair": [1, None]}
    assert loaded.history[1].epoch == 2
    assert json_values(posterior.stats, "stats") == loaded.stats


def test_settings_in_numbers_of_numpy_can_be_checkpointed_and_saved(slope, tmp_path):
    engines = [
        MAP(epochs=2, lr=np.float32(0.5)),
        SGLD(np.float32(1e-3), chains=2, draws=2, warmup=1, temperature=np.float32(0.5)),
    ]
    for index, engine in enumerate(engines):
        path = tmp_path / str(index)
        posterior = engine.fit(slope, None, seed=0, checkpoint=path)
        again = engine.fit(slope, None, seed=0, checkpoint=path)
        loaded = Posterior.load(again.save(tmp_path / f"saved {index}"), model=slope)
        assert torch.equal(loaded.samples["z"], posterior.samples["z"])


def test_a_checkpoint_with_an_entry_of_another_kind_is_refused_by_file_and_entry(slope, tmp_path):
    sampler = {"chains": 2, "draws": 2, "warmup": 1}
    changes = {
        "steps": "two", "epochs": "two", "seconds": None, "failures": {"0": "two"}, "history": [None], "step": 1.5,
        "drawn": [], "diverged": {"0": [1]}, "chains": {"0": {"steps": 3}},
    }  # fmt: skip
    tried = set()
    for engine in (MAP(epochs=2, snapshots=1), SGLD(1e-3, **sampler), NUTS(max_tree_depth=2, **sampler)):
        path = tmp_path / type(engine).__name__
        model = slope if isinstance(engine, MAP) else type(slope)(lambda p: -p["z"].square().sum(), slope.example)
        engine.fit(model, None, seed=0, checkpoint=path)
        with safe_open(path, framework="pt") as file:
            metadata, tensors = file.metadata(), {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        plain = json.loads(metadata["plain"])
        spoilt = [(json.dumps(plain | {name: changes[name]}), rf"its entry '{name}\b") for name in plain]
        for text, message in [*spoilt, ("[]", "it holds"), ("no JSON", ""), ("{}", "it lacks")]:
            with path.open("wb") as file:
                write_tensors(file, tensors, metadata | {"plain": text})
            with pytest.raises(ValueError, match=rf"the checkpoint {path} is damaged: .*{message}.*Remove it to start"):
                engine.fit(model, None, seed=0, checkpoint=path)
        tried |= plain.keys()
        with path.open("wb") as file:
            write_tensors(file, tensors, {key: value for key, value in metadata.items() if key != "identity"})
        with pytest.raises(ValueError, match=rf"the checkpoint {path} is damaged"):
            engine.fit(model, None, seed=0, checkpoint=path)
    assert tried == changes.keys()
