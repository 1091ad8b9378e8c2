"""The joint optimum of weights and variances, against the maximum of the exact evidence and what training leaves."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pyro.distributions import HalfCauchy

from bayes_rpp import RPPEMLP, SO, BayesianModel, Categorical, Gaussian, RPPLinear, RPPPrior, Scalar, Vector
from inference import EmpiricalBayes, Laplace, Posterior
from inference.empirical_bayes import modes
from inference.empirical_bayes.learning import VarianceLearning
from inference.laplace import find_mode as mode_search
from tests.seeds import shifted

NAMES = ("equivariant_variance", "dense_variance", "noise_variance")
HASTY = EmpiricalBayes(epochs=30, batch_size=None, curvature="kronecker")
REFINED = replace(HASTY, refinements=30)
LONGER = replace(HASTY, members=2, epochs=150, lr=0.02, curvature="full")


@pytest.fixture(scope="module")
def trained_and_refined():
    """A small network on sums and lengths of two vectors, which are equivariant, with noise."""
    generator = torch.Generator().manual_seed(shifted())
    x, noise = torch.randn(60, 6, generator=generator), torch.randn(60, 4, generator=generator)
    total = x[:, :3] + x[:, 3:]
    data = x, torch.cat([total, total.norm(dim=1, keepdim=True)], dim=1) + 0.3 * noise
    net = RPPEMLP(2 * Vector, Vector + Scalar, SO(3), channels=2 * Vector + 2 * Scalar, layers=1, bilinear="full")
    model = BayesianModel(net, RPPPrior(), Gaussian(0.1))
    return [
        replace(LONGER, refinements=refinements).fit(model, data, seed=shifted(), progress=False)
        for refinements in (0, 5)
    ]


@pytest.mark.statistical
@pytest.mark.parametrize("curvature", ["kronecker", "layer", "full"])
def test_a_linear_model_is_brought_to_the_maximum_of_the_exact_evidence(
    curvature, broken, linear_model, exact_evidence, best_logs
):
    """From a training that was broken off far from it."""
    hasty, refined = (
        replace(engine, curvature=curvature).fit(linear_model(), broken, seed=shifted(), progress=False)
        for engine in (HASTY, REFINED)
    )
    best = exact_evidence(broken, *np.exp(best_logs))
    far, near = ([fit.stats["variances"][name] for name in NAMES] for fit in (hasty, refined))
    assert np.allclose(np.log(near), best_logs, atol=0.1)
    assert refined.stats["log_evidence"] == pytest.approx(exact_evidence(broken, *near), abs=0.05)
    assert best - exact_evidence(broken, *near) < 0.1
    assert best - exact_evidence(broken, *far) > 10


@pytest.mark.statistical
def test_the_members_are_at_their_modes_and_the_best_round_is_kept(trained_and_refined):
    found = trained_and_refined[1]
    rounds = found.stats["refinements"]
    assert found.stats["log_evidence"] == max(each["log_evidence"] for each in rounds)
    assert found.stats["variances"] in [each["variances"] for each in rounds]
    assert found.stats["log_evidence"] == pytest.approx(np.mean(found.stats["log_evidences"]))
    assert len(found.stats["log_evidences"]) == 2
    for member in range(2):
        samples = {name: value[[member]] for name, value in found.samples.items()}
        start = Posterior(found.model, samples, data=found.data)
        there = Laplace("full", draws=1).fit(found.model, found.data, seed=shifted(), progress=False, start=start)
        apart = there.approximation.mean - there.density.latest(start, 1)[0]
        assert float(apart @ there.precision.total[0] @ apart) < 0.1**2  # in posterior standard deviations


@pytest.mark.statistical
def test_a_symmetry_of_the_data_is_found_in_weights_that_training_has_left(trained_and_refined):
    """The weights of a network's dense pathway stay about as wide as they started, and hold its variance up."""
    trained, refined = trained_and_refined
    widths = [fit.samples["network.0.linear.dense"].square().mean() for fit in trained_and_refined]
    assert widths[1] < 0.5 * widths[0]
    assert refined.stats["variances"]["dense_variance"] < 0.5 * trained.stats["variances"]["dense_variance"]
    at_the_modes = refined.stats["refinements"][0]["log_evidence"]  # under the variances that training left
    assert refined.stats["log_evidence"] > at_the_modes + 5


@pytest.mark.statistical
@pytest.mark.parametrize("curvature", ["symmetric", "diagonal"])
@pytest.mark.parametrize("kind", ["residual", "collapsed", "layer by layer", "labels", "hyperprior"])
def test_every_kind_of_model_gains(kind, curvature, linear_model, broken):
    model, (x, y) = linear_model(), broken
    if kind == "collapsed":
        layer = RPPLinear(model.network.rep_in, model.network.rep_out, bias=False, parametrization="collapsed").double()
        model = BayesianModel(layer, model.prior, model.likelihood)
    elif kind == "labels":
        model, y = linear_model(None, Categorical()), y.argmax(1)
    elif kind == "hyperprior":
        model = linear_model(RPPPrior(0.3, HalfCauchy(0.1), scaling="none"))
    engine = replace(REFINED, curvature=curvature, per_layer=kind == "layer by layer")
    found = engine.fit(model, (x, y), seed=shifted(), progress=False)
    rounds = [each["log_evidence"] for each in found.stats["refinements"]]
    assert len(rounds) < 30  # it settled
    assert found.stats["log_evidence"] > rounds[0] + 1
    assert found.stats["log_evidence"] == pytest.approx(max(rounds), abs=0.1)  # a hyperprior has its say
    assert set(found.samples) == set(dict(model.network.named_parameters()))


@pytest.mark.statistical
def test_a_noise_at_its_floor_keeps_nothing_else_from_settling(linear_model, broken, exact_evidence):
    """Below it the data would have it: they have a noise of 0.1."""
    model = linear_model(None, Gaussian(0.5, learned=True, floor=0.3))
    found = REFINED.fit(model, broken, seed=shifted(), progress=False)
    assert len(found.stats["refinements"]) < 12
    equivariant, dense, noise = (found.stats["variances"][name] for name in NAMES)
    assert noise == pytest.approx(1.01 * 0.3)
    for factors in ((1.3, 1), (1 / 1.3, 1), (1, 1.3), (1, 1 / 1.3)):
        other = exact_evidence(broken, equivariant * factors[0], dense * factors[1], noise)
        assert other < exact_evidence(broken, equivariant, dense, noise)


def failing(monkeypatch, error, *numbers):
    """Some searches for a mode end in an error or an interrupt."""
    find_mode, calls = modes.find_mode, []

    def search(*arguments, **options):
        calls.append(1)
        if len(calls) in numbers:
            raise error
        return find_mode(*arguments, **options)

    monkeypatch.setattr(modes, "find_mode", search)


def test_a_member_without_a_mode_is_left_out(monkeypatch, caplog, linear_model, broken):
    failing(monkeypatch, RuntimeError("the log joint is nan"), 2, 4, 6)  # the second of two, in all three rounds
    engine = replace(REFINED, members=2, refinements=2, snapshots=1)
    found = engine.fit(linear_model(), broken, seed=shifted(), progress=False)
    assert "member 1 of those trained has no mode with an evidence: the log joint is nan" in caplog.text
    assert "1 of 2 members have no mode: left out" in caplog.text
    assert {len(value) for value in found.samples.values()} == {1}
    assert {len(value) for value in found.history[0].samples.values()} == {1}
    assert len(found.stats["log_evidences"]) == 1


def test_a_member_that_fails_once_is_tried_again(monkeypatch, linear_model, broken):
    failing(monkeypatch, RuntimeError("no"), 4)
    found = replace(REFINED, members=2, refinements=4).fit(linear_model(), broken, seed=shifted(), progress=False)
    assert {len(value) for value in found.samples.values()} == {2}
    assert len(found.stats["refinements"]) == 5


@pytest.mark.parametrize(
    ("error", "message"), [(RuntimeError("no"), "not refined"), (KeyboardInterrupt(), "in refinem")]
)
def test_without_any_mode_there_is_what_was_trained(error, message, monkeypatch, caplog, linear_model, broken):
    failing(monkeypatch, error, 1)
    found, trained = (engine.fit(linear_model(), broken, seed=shifted(), progress=False) for engine in (REFINED, HASTY))
    assert message in caplog.text
    assert found.stats["variances"] == trained.stats["variances"]
    assert found.stats["refinements"] == trained.stats["refinements"] == []
    assert all(torch.equal(found.samples[name], value) for name, value in trained.samples.items())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("would not fit into memory")])
def test_of_a_refinement_that_ends_early_the_best_round_is_kept(error, monkeypatch, caplog, linear_model, broken):
    once = replace(REFINED, refinements=1).fit(linear_model(), broken, seed=shifted(), progress=False)
    failing(monkeypatch, error, 3)
    found = REFINED.fit(linear_model(), broken, seed=shifted(), progress=False)
    assert "what was best before is kept" in caplog.text
    assert found.interrupted == isinstance(error, KeyboardInterrupt)
    assert found.stats["variances"] == once.stats["variances"]
    assert all(torch.equal(found.samples[name], value) for name, value in once.samples.items())


def test_an_interrupted_training_is_not_refined(monkeypatch, linear_model, broken):
    def interrupted(self, epoch):
        raise KeyboardInterrupt

    monkeypatch.setattr(VarianceLearning, "_update", interrupted)
    found = REFINED.fit(linear_model(), broken, seed=shifted(), progress=False)
    assert found.stats["refinements"] == []


def test_members_far_from_their_modes_are_told_of(monkeypatch, caplog, linear_model, broken):
    monkeypatch.setitem(mode_search._BUDGET, "diagonal", (1, 1))
    replace(REFINED, refinements=1).fit(linear_model(), broken, seed=shifted(), progress=False)
    assert "posterior standard deviations from its mode: its evidence is too small" in caplog.text
