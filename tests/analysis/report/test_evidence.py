"""Evidence on the page of a run: of small networks, beside which the run is seen."""

import pytest
import xarray as xr

from analysis.comparison.compare import Comparison
from analysis.comparison.compare_groups import GroupComparison
from analysis.report import evidence
from analysis.report.run import Run
from bayes_rpp import MLP, BayesianModel, NormalizedNetwork, RPPPrior, StudentT, Trivial
from inference import MAP


@pytest.fixture
def small(monkeypatch):
    """Small networks of this mean square error in units of the outputs' scale."""

    def of(mse):
        dataset = xr.Dataset({"test_mse": ("model", [mse, 2 * mse])}, {"model": ["O(3)", "none"]})
        found = GroupComparison(Comparison(dataset, {}), ("The evidence.",))
        monkeypatch.setattr(evidence, "compare_groups", lambda *_, **__: found)

    return of


def test_a_run_is_seen_beside_the_small_networks(bodies, fit_small, small):
    run = Run(fit_small(bodies), *bodies.test)
    scale = NormalizedNetwork.fit(run.posterior.bayesian_model.network, *run.posterior.data).outputs.scale
    own = float(((run.posterior.predict(run.x).mean - run.y) / scale).square().mean())
    for mse, words in ((3 * own, "This run predicts far better"), (own / 3, "predicts far better than this run")):
        small(mse)
        first, second = evidence.evidence_of(run).verdict
        assert first == "The evidence."
        assert words in second
        assert f"a mean square error of {own:.2g}" in second
    small(1.5 * own)
    assert evidence.evidence_of(run).verdict == ("The evidence.",)


def test_runs_without_an_evidence_are_refused(bodies, fit_small):
    data, group = bodies.train, Trivial(3)
    plain = MLP(bodies.rep_in, bodies.rep_out, bodies.group, channels=4, layers=0)
    without = MLP("20*Scalar", "9*Scalar", group, channels=4, layers=0)
    robust = BayesianModel(plain, RPPPrior(), StudentT(4.0, 1.0))
    for model, words in (
        (BayesianModel(without, RPPPrior(), robust.likelihood), "this run was fitted without"),
        (robust, "this one has StudentT"),
    ):
        run = Run(MAP(epochs=1).fit(model, data, seed=0, progress=False), *bodies.test)
        with pytest.raises(ValueError, match=words):
            evidence.check_has_evidence(run)
    run = Run(fit_small(bodies, epochs=1), *bodies.test)
    evidence.check_has_evidence(run)
    run.posterior.data = None
    with pytest.raises(ValueError, match="saved without them"):
        evidence.check_has_evidence(run)
