"""Comparisons of linear models, whose evidence is known, and what they must say and refuse."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from scipy.stats import multivariate_normal, norm

from analysis import compare
from analysis.comparison.symmetry_candidates import symmetry_candidates
from analysis.evidence import PSISLOO, ConditionalEvidence, ExactEvidence, LaplaceEvidence
from bayes_rpp import EMLP, MLP, RPPEMLP, SO, BayesianModel, Gaussian, LogDensity, RPPPrior, SO2eR3, T, Trivial, Vector
from inference import MAP, Laplace, Posterior
from tests.error_rate import z_limit
from tests.seeds import shifted

GROUPS = [SO(3), SO2eR3(), Trivial(3)]
NAMES = [str(group) for group in GROUPS]
KNOWN = RPPPrior(equivariant_variance=1.0, dense_variance=0.3, scaling="none")
STILL = MAP(epochs=1)  # the exact evidence needs no mode
QUICK = Laplace(draws=2000, mode=STILL)  # its search for the mode is exact in one step


def dense_log_evidence(model, x, y):
    """From the covariance of vec(W) and b of a single layer."""
    layer, prior = model.network.network[0], model.prior
    identity = torch.eye(3, dtype=torch.float64)
    phi = torch.cat([torch.cat([torch.kron(identity, row[None]), identity], dim=1) for row in x])
    q = torch.block_diag(layer.basis.dense(), layer.bias_basis.dense())
    dense = prior.dense_variance if isinstance(model.network, RPPEMLP) else 0.0
    sigma = prior.equivariant_variance * q @ q.mT + dense * torch.eye(len(q), dtype=torch.float64)
    covariance = phi @ sigma @ phi.mT + model.likelihood.noise_variance * torch.eye(y.numel(), dtype=torch.float64)
    return multivariate_normal(cov=covariance.numpy()).logpdf(y.flatten().numpy())


@pytest.mark.parametrize("truth", NAMES)
def test_bayes_factors_and_probabilities_are_those_of_the_closed_form(truth, candidates, drawn_from, exactly):
    models = candidates()
    data = drawn_from(models[truth], 6, seed=4)
    found = exactly(models, data).dataset
    logs = np.array([dense_log_evidence(model, *data) for model in models.values()])
    np.testing.assert_allclose(found.log_evidence, logs, rtol=1e-9)
    np.testing.assert_allclose(found.log_bayes_factor, logs - logs.max(), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found.probability, softmax(logs), rtol=1e-7)
    assert found.model.values.tolist() == NAMES
    assert found.log_evidence_error.values.tolist() == [0.0] * 3


@pytest.mark.statistical
def test_probabilities_are_calibrated_and_often_right(candidates, drawn_from):
    """Over data of models that were drawn with equal odds, the true one has its probability: E[1 - p] = 0."""
    models = candidates()
    hits, probabilities = [], []
    for seed in range(60):
        truth = NAMES[seed % 3]
        data = drawn_from(models[truth], 1, shifted(seed))
        logs = [ExactEvidence().estimate(model, data, seed=0, device="cpu").value for model in models.values()]
        probabilities.append(softmax(logs))
        hits.append([name == truth for name in NAMES])
    p, hit = np.array(probabilities), np.array(hits, dtype=float)
    favourite = np.arange(len(p)), p.argmax(1)
    p, hit = np.column_stack([p, p[favourite]]), np.column_stack([hit, hit[favourite]])
    z = (hit - p).sum(0) / np.sqrt((p * (1 - p)).sum(0))
    assert np.abs(z).max() < z_limit(4)
    assert (p * (1 - p)).sum() > 20  # there is something to be calibrated
    assert p[:, 3].mean() > 0.5  # and the favourite is more than a guess among three


@pytest.mark.statistical
@pytest.mark.parametrize("truth", NAMES)
def test_enough_data_pick_the_group_that_made_them(truth, candidates, drawn_from, exactly):
    models = candidates()
    for seed in range(3):
        found = exactly(models, drawn_from(models[truth], 60, shifted(seed))).dataset
        assert found.probability.sel(model=truth) > 0.95


def test_scores_give_no_probabilities(symmetric, candidates):
    found = compare(candidates(), symmetric, engine=STILL, method=PSISLOO(QUICK), progress=False)
    table = found.dataset
    for name in ("log_evidence", "log_bayes_factor", "probability"):
        assert table[name].isnull().all()
    assert found.warnings[-1] == "PSIS-LOO gives no evidence of the data, and so no probabilities of models."
    assert "probability" not in str(found).splitlines()[0]
    for name, model in candidates().items():
        alone = PSISLOO(QUICK).estimate(model, symmetric, seed=0, progress=False)
        assert float(table.elpd_loo.sel(model=name)) == pytest.approx(alone.value, rel=1e-9)
    conditional = compare(
        candidates(), symmetric, engine=STILL, method=ConditionalEvidence(ExactEvidence(), orderings=2), progress=False
    ).dataset
    assert conditional.log_conditional_evidence.notnull().all()
    assert conditional.probability.isnull().all()


def test_draws_give_leave_one_out_beside_the_evidence(symmetric, candidates, exactly):
    found = compare(candidates(), symmetric, engine=QUICK, method=ExactEvidence(), progress=False)
    assert found.dataset.elpd_loo.notnull().all()
    assert found.dataset.probability.sum() == pytest.approx(1)
    assert exactly(candidates(), symmetric).dataset.elpd_loo.isnull().all()  # a mode is no draws


@dataclass
class Given:
    """An engine that returns given weights."""

    samples: dict

    def fit(self, model, data, *, seed, device="auto", progress=True):
        return Posterior(model, self.samples, {"engine": "Given"}, data=data)


def test_the_test_score_is_the_density_of_the_mixture():
    model = BayesianModel(EMLP(Vector, Vector, SO(3), layers=0).double(), KNOWN, Gaussian(0.25))
    beta = torch.tensor([[[0.5 * 3**0.5]], [[2 * 3**0.5]]], dtype=torch.float64)  # W = 0.5 and 2
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = x + 0.1
    found = compare(
        {"two": model}, (x, y), engine=Given({"network.0.beta": beta}), method=ExactEvidence(), test=(x[:5], y[:5])
    ).dataset
    each = [norm(w * x[:5].numpy(), 0.5).logpdf(y[:5].numpy()).sum(1) for w in (0.5, 2.0)]
    scores = logsumexp(each, axis=0) - math.log(2)
    assert float(found.test_log_score[0]) == pytest.approx(scores.mean(), rel=1e-9)
    assert float(found.test_log_score_error[0]) == pytest.approx(scores.std(ddof=1) / 5**0.5, rel=1e-9)
    assert float(found.test_mse[0]) == pytest.approx(float((1.25 * x[:5] - y[:5]).square().mean()), rel=1e-9)
    assert float(found.equivariance_error[0]) < 1e-12
    assert float(found.parameters[0]) == 1


def test_the_equivariance_error_is_against_one_group_or_each_network_own(symmetric, candidates, exactly):
    own, common = (exactly(candidates(), symmetric, group=group).dataset.equivariance_error for group in (None, SO(3)))
    assert (own.values[:2] < 1e-12).all()
    assert common.values[0] < 1e-12
    assert common.values[1] > 1e-3


def test_evidences_that_are_close_decide_nothing(symmetric, candidates, exactly):
    twins = {name: candidates()["SO(3)"] for name in ("one", "two")}
    found = exactly(twins, symmetric)
    np.testing.assert_allclose(found.dataset.probability, 0.5)
    assert not found.warnings  # exact: they are equal, and known to be
    laplace = compare(twins, symmetric, engine=STILL, method=LaplaceEvidence(mode=STILL), progress=False)
    assert "differ by" in laplace.warnings[-1]
    assert "without a standard error" in laplace.warnings[-1]


def test_the_table_shows_what_there_is(symmetric, candidates, exactly):
    found = exactly(candidates(), symmetric, test=symmetric)
    head, *rows = str(found).splitlines()
    assert head.split()[:3] == ["model", "log", "evidence"]
    assert "probability" in head
    assert "LOO" not in head
    assert [row.split()[0] for row in rows] == NAMES
    assert len({len(row) for row in (head, *rows)}) == 1


def test_candidates_are_equivariant_or_near_it():
    models = symmetry_candidates(2 * Vector, T(2), GROUPS, Gaussian(0.1), channels=12, layers=1)
    assert [type(model.network) for model in models.values()] == [EMLP, EMLP, RPPEMLP]
    assert [str(model.network.group) for model in models.values()] == ["SO(3)", "SO2eR3", "SO(3)"]
    assert list(models["Trivial(3)"].hyperpriors) == ["equivariant_variance", "dense_variance"]
    bound = symmetry_candidates((2 * Vector)(SO(3)), T(2)(SO(3)), GROUPS, Gaussian(0.1), channels=12, layers=1)
    assert str(bound["SO2eR3"].network.rep_in.group) == "SO2eR3"
    for groups, message in (([], "begin with"), ([Trivial(3)], "begin with"), ([SO(3), SO(3)], "different")):
        with pytest.raises(ValueError, match=message):
            symmetry_candidates(Vector, Vector, groups, Gaussian(0.1))


def test_what_cannot_be_compared_is_refused(symmetric, candidates):
    model = candidates()["SO(3)"]
    other = BayesianModel(MLP(3 * Vector, Vector, SO(3), layers=0).double(), KNOWN, Gaussian(0.25))
    density = LogDensity(lambda p: -p["z"].square().sum(), {"z": torch.zeros(2)})
    with pytest.raises(ValueError, match="models must be a mapping"):
        compare({}, symmetric)
    with pytest.raises(ValueError, match="models must be a mapping"):
        compare([model], symmetric)
    with pytest.raises(TypeError, match=r"models\['density'\] must be a BayesianModel, got LogDensity"):
        compare({"density": density}, symmetric)
    with pytest.raises(ValueError, match=r"models\['other'\] and data do not fit: x has shape \(40, 7\)"):
        compare({"one": model, "other": other}, symmetric)
    with pytest.raises(ValueError, match=r"models\['one'\] and test do not fit"):
        compare({"one": model}, symmetric, test=(symmetric[0][:, :3], symmetric[1]))
    with pytest.raises(TypeError, match="engine must have a method fit"):
        compare({"one": model}, symmetric, engine="MAP")
    with pytest.raises(TypeError, match="method must be an evidence method"):
        compare({"one": model}, symmetric, method="exact")
