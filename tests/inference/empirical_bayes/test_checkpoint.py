"""A fit that goes on after an interrupt, wherever that came, has the same bits as one without a break."""

import json
import os
import signal
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from bayes_rpp import BayesianModel, RPPPrior
from inference import EmpiricalBayes
from inference.empirical_bayes import learning, refinement
from inference.empirical_bayes.evidence_ascent import EvidenceAscent
from inference.tensor_file import write_tensors
from inference.training.parameter_stack import ParameterStack

pytestmark = pytest.mark.usefixtures("interrupts_are_heard")
ENGINE = EmpiricalBayes(
    members=2, epochs=44, batch_size=10, lr=0.02, passes=2, refinements=3, snapshots=2, curvature="kronecker"
)


@pytest.fixture(scope="module")
def problem(linear_data, linear_model):
    return linear_model(), linear_data(dense=0.02, count=30)


@pytest.fixture(scope="module")
def unbroken(problem):
    return fitted(problem)


def fitted(problem, checkpoint=None, engine=ENGINE):
    return engine.fit(*problem, seed=3, progress=False, checkpoint=checkpoint)


def is_same(found, expected):
    stats = ("variances", "log_evidences", "path", "refinements")
    assert {name: found.stats[name] for name in stats} == {name: expected.stats[name] for name in stats}
    assert [past.epoch for past in found.history] == [past.epoch for past in expected.history]
    parts = zip([found, *found.history], [expected, *expected.history], strict=True)
    return all(torch.equal(a.samples[name], b.samples[name]) for a, b in parts for name in a.samples)


INTERRUPTS = {  # where it comes: a function, and in which of its calls
    "a step before the first update": (ParameterStack, "step", 40),
    "a step between two updates": (ParameterStack, "step", 80),
    "the middle of an update": (EvidenceAscent, "_mean_gradient", 15),
    "the end of an update": (ParameterStack, "set_variances", 2),
    "a step of the second pass": (ParameterStack, "step", 200),
    "an update of the second pass": (learning.Expansion, "at", 20),
    "the second round of the refinement": (refinement, "at_modes", 2),
    "a Newton step": (EvidenceAscent, "newton_step", 2),
}


@pytest.mark.parametrize("where", INTERRUPTS)
def test_it_goes_on_to_the_same_bits(problem, unbroken, where, tmp_path, monkeypatch):
    owner, name, number = INTERRUPTS[where]
    plain, calls = getattr(owner, name), []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt
        return plain(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, interrupted)
        assert fitted(problem, tmp_path / "state").interrupted
    resumed = fitted(problem, tmp_path / "state")
    assert not resumed.interrupted
    assert is_same(resumed, unbroken)


def test_a_signal_in_an_update_waits_until_it_is_whole(problem, unbroken, tmp_path, monkeypatch):
    plain, calls = ParameterStack.set_variances, []

    def signalled(self, variances):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        plain(self, variances)

    with monkeypatch.context() as patched:
        patched.setattr(ParameterStack, "set_variances", signalled)
        assert fitted(problem, tmp_path / "state").interrupted
    assert is_same(fitted(problem, tmp_path / "state"), unbroken)


def test_later_stages_without_the_first_are_refused_before_the_training(problem, tmp_path, monkeypatch):
    fitted(problem, tmp_path / "state")
    (tmp_path / "state").unlink()
    monkeypatch.setattr(ParameterStack, "step", lambda *_, **__: pytest.fail("training began"))
    with pytest.raises(ValueError, match=r"state-pass-1 is of a fit whose first file, .*state, is gone: remove it too"):
        fitted(problem, tmp_path / "state")


def test_a_finished_fit_is_not_trained_again(problem, unbroken, tmp_path, monkeypatch):
    assert is_same(fitted(problem, tmp_path / "state"), unbroken)
    assert {path.name for path in tmp_path.iterdir()} == {"state", "state-pass-1", "state-refinement"}
    for owner, name in ((ParameterStack, "step"), (refinement, "at_modes"), (EvidenceAscent, "adam_steps")):
        monkeypatch.setattr(owner, name, lambda *_, **__: pytest.fail("trained again"))
    assert is_same(fitted(problem, tmp_path / "state"), unbroken)


def test_a_damaged_refinement_is_refused_by_its_entry(problem, tmp_path):
    fitted(problem, tmp_path / "state", replace(ENGINE, passes=1))
    path = tmp_path / "state-refinement"
    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    whole = json.loads(metadata["plain"])
    wrong = {name: [{**whole["rounds"][0], name: "two"}] for name in whole["rounds"][0]}
    for name, rounds in wrong.items():
        with path.open("wb") as file:
            write_tensors(file, tensors, metadata | {"plain": json.dumps(whole | {"rounds": rounds})})
        with pytest.raises(ValueError, match=rf"the checkpoint {path} is damaged: its entry 'rounds\[0\].{name}'"):
            fitted(problem, tmp_path / "state", replace(ENGINE, passes=1))


def test_a_checkpoint_of_another_fit_is_refused(problem, tmp_path):
    model, (x, y) = problem
    fitted(problem, tmp_path / "state", replace(ENGINE, passes=1))
    others = {
        "curvature": (model, (x, y), replace(ENGINE, passes=1, curvature="symmetric")),
        "prior": (BayesianModel(model.network, RPPPrior(2.0), model.likelihood), (x, y), replace(ENGINE, passes=1)),
        "data": (model, (x, y + 1), replace(ENGINE, passes=1)),
    }
    for what, (other, data, engine) in others.items():
        with pytest.raises(ValueError, match=rf"checkpoint .*state is of another run: its \S*{what}"):
            fitted((other, data), tmp_path / "state", engine)
