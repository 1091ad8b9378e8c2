"""The joint optimum of weights and variances, against the maximum of the exact evidence and what training leaves."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, RPPPrior, Scalar, Vector
from inference import EmpiricalBayes, Laplace, Posterior, variance_refinement

NAMES = ("equivariant_variance", "dense_variance", "noise_variance")
HASTY = EmpiricalBayes(epochs=30, batch_size=None, burn_in=20, every=5, steps=2, curvature="kronecker", estimate=False)
REFINED = replace(HASTY, refinements=30)
LONGER = replace(HASTY, members=2, epochs=150, burn_in=100, lr=0.02, curvature="full")


@pytest.fixture(scope="module")
def trained_and_refined():
    """A small network on sums and lengths of two vectors, which are equivariant, with noise."""
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(60, 6, generator=generator), torch.randn(60, 4, generator=generator)
    total = x[:, :3] + x[:, 3:]
    data = x, torch.cat([total, total.norm(dim=1, keepdim=True)], dim=1) + 0.3 * noise
    net = RPPEMLP(2 * Vector, Vector + Scalar, SO(3), channels=2 * Vector + 2 * Scalar, layers=1)
    model = BayesianModel(net, RPPPrior(), Gaussian(0.1))
    return [replace(LONGER, refinements=refinements).fit(model, data, seed=0, progress=False) for refinements in (0, 5)]


@pytest.mark.parametrize("curvature", ["kronecker", "layer", "full"])
def test_a_linear_model_is_brought_to_the_maximum_of_the_exact_evidence(
    curvature, broken, linear_model, exact_evidence, best_logs
):
    """From a training that was broken off far from it."""
    hasty, refined = (
        replace(engine, curvature=curvature).fit(linear_model(), broken, seed=0, progress=False)
        for engine in (HASTY, REFINED)
    )
    best = exact_evidence(broken, *np.exp(best_logs))
    far, near = ([fit.stats["variances"][name] for name in NAMES] for fit in (hasty, refined))
    assert np.allclose(np.log(near), best_logs, atol=0.1)
    assert refined.stats["log_evidence"] == pytest.approx(exact_evidence(broken, *near), abs=0.05)
    assert best - exact_evidence(broken, *near) < 0.1
    assert best - exact_evidence(broken, *far) > 10


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
        there = Laplace("full", draws=1).fit(found.model, found.data, seed=0, progress=False, start=start)
        apart = there.approximation.mean - there.target.latest(start, 1)[0]
        assert float(apart @ there.precision.total[0] @ apart) < 0.1**2  # in posterior standard deviations


def test_a_symmetry_of_the_data_is_found_in_weights_that_training_has_left(trained_and_refined):
    """The weights of a network's dense pathway stay about as wide as they started, and hold its variance up."""
    trained, refined = trained_and_refined
    widths = [fit.samples["network.0.linear.dense"].square().mean() for fit in trained_and_refined]
    assert widths[1] < 0.5 * widths[0]
    assert refined.stats["variances"]["dense_variance"] < 0.5 * trained.stats["variances"]["dense_variance"]
    assert refined.stats["log_evidence"] > trained.stats["log_evidence"] + 10


def failing(monkeypatch, *fails):
    """Searches for a mode that fail, by their numbers, as an error or an interrupt."""
    find_mode, calls = variance_refinement.find_mode, []

    def search(*arguments, **options):
        calls.append(1)
        for number, error in fails:
            if len(calls) == number:
                raise error
        return find_mode(*arguments, **options)

    monkeypatch.setattr(variance_refinement, "find_mode", search)


def test_a_member_without_a_mode_is_left_out(monkeypatch, caplog, linear_model, broken):
    failing(monkeypatch, (4, RuntimeError("the log joint is nan")))  # the second of two members, in the second round
    engine = replace(REFINED, members=2, refinements=2, snapshots=1)
    found = engine.fit(linear_model(), broken, seed=0, progress=False)
    assert "member 1 has no mode with an evidence and is left out: the log joint is nan" in caplog.text
    assert {len(value) for value in found.samples.values()} == {1}
    assert {len(value) for value in found.history[0].samples.values()} == {1}
    assert len(found.stats["log_evidences"]) == 1


def test_without_any_mode_there_is_what_was_trained(monkeypatch, caplog, linear_model, broken):
    failing(monkeypatch, (1, RuntimeError("no")))
    found, trained = (engine.fit(linear_model(), broken, seed=0, progress=False) for engine in (REFINED, HASTY))
    assert "the variances are not refined any more" in caplog.text
    assert found.stats["variances"] == trained.stats["variances"]
    assert all(torch.equal(found.samples[name], value) for name, value in trained.samples.items())


def test_of_an_interrupted_refinement_the_best_round_is_kept(monkeypatch, caplog, linear_model, broken):
    once = replace(REFINED, refinements=1).fit(linear_model(), broken, seed=0, progress=False)
    failing(monkeypatch, (2, KeyboardInterrupt()))
    found = REFINED.fit(linear_model(), broken, seed=0, progress=False)
    assert "interrupted after 1 refinements" in caplog.text
    assert found.stats["variances"] == once.stats["variances"]
    assert all(torch.equal(found.samples[name], value) for name, value in once.samples.items())
