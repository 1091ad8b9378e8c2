"""Comparisons of linear models, whose evidence is known, and what they must say and refuse."""

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy.special import logsumexp, softmax
from scipy.stats import multivariate_normal, norm

from analysis import compare, plot_comparison
from analysis.evidence import PSISLOO, ConditionalEvidence, ExactEvidence, LaplaceEvidence, exact_loo
from analysis.evidence.linear_network import linear_gaussian
from analysis.integrated_evidence import integrated_evidence
from analysis.symmetry_candidates import symmetry_candidates
from bayes_rpp import (
    EMLP,
    MLP,
    RPPEMLP,
    SO,
    BayesianModel,
    Gaussian,
    LogDensity,
    RPPPrior,
    Scalar,
    SO2eR3,
    T,
    Trivial,
    Vector,
)
from inference import MAP, EmpiricalBayes, Laplace, Posterior, mode_search

IN, OUT = 2 * Vector + Scalar, Vector
GROUPS = [SO(3), SO2eR3(), Trivial(3)]
NAMES = [str(group) for group in GROUPS]
KNOWN = RPPPrior(equivariant_variance=1.0, dense_variance=0.3, scaling="none")
STILL = MAP(epochs=1)  # the exact evidence needs no mode
QUICK = Laplace(draws=2000, mode=STILL)  # its search for the mode is exact in one step
LEARNING = EmpiricalBayes(
    epochs=400,
    batch_size=None,
    lr=0.1,
    burn_in=10,
    every=30,
    steps=8,
    evidence_lr=0.3,
    curvature="full",
    estimate=False,
)


def candidates(prior=KNOWN, likelihood=None, groups=GROUPS):
    models = symmetry_candidates(IN, OUT, groups, likelihood or Gaussian(0.25), layers=0, prior=prior)
    return {name: BayesianModel(m.network.double(), m.prior, m.likelihood) for name, m in models.items()}


def drawn_from(model, count, seed):
    """Inputs, and outputs by weights from the model's own prior."""
    x = torch.randn(count, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return x, model.pyro_model(x).detach()


def exactly(models, data, **options):
    return compare(models, data, engine=STILL, method=ExactEvidence(), progress=False, device="cpu", **options)


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


@pytest.fixture(scope="module")
def symmetric():
    """Data that are SO(3)-equivariant but for the noise."""
    return drawn_from(candidates()["SO(3)"], 40, seed=1)


@pytest.mark.parametrize("truth", NAMES)
def test_bayes_factors_and_probabilities_are_those_of_the_closed_form(truth):
    models = candidates()
    data = drawn_from(models[truth], 6, seed=4)
    found = exactly(models, data).dataset
    logs = np.array([dense_log_evidence(model, *data) for model in models.values()])
    np.testing.assert_allclose(found.log_evidence, logs, rtol=1e-9)
    np.testing.assert_allclose(found.log_bayes_factor, logs - logs.max(), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found.probability, softmax(logs), rtol=1e-7)
    assert found.model.values.tolist() == NAMES
    assert found.log_evidence_error.values.tolist() == [0.0] * 3


def test_probabilities_are_calibrated_and_often_right():
    """Over data of models that were drawn with equal odds, the true one has its probability: E[1 - p] = 0."""
    models = candidates()
    hits, probabilities = [], []
    for seed in range(24):
        truth = NAMES[seed % 3]
        found = exactly(models, drawn_from(models[truth], 4, seed)).dataset
        probabilities.append(found.probability.values)
        hits.append(found.model.values == truth)
    p, hit = np.array(probabilities), np.array(hits, dtype=float)
    z = (hit - p).sum(0) / np.sqrt((p * (1 - p)).sum(0))
    assert np.abs(z).max() < NormalDist().inv_cdf(1 - 1e-3 / 6)
    assert (p * (1 - p)).sum() > 1  # there is something to be calibrated
    assert (p.argmax(1) == hit.argmax(1)).mean() > 0.6  # a third by chance: a probability of 0.004


@pytest.mark.parametrize("truth", NAMES)
def test_enough_data_pick_the_group_that_made_them(truth):
    models = candidates()
    for seed in range(3):
        found = exactly(models, drawn_from(models[truth], 60, seed)).dataset
        assert found.probability.sel(model=truth) > 0.95


def integrated(model, chosen, data):
    """log of the integral of the exact evidence over the logarithms of variances with hyperpriors, on a grid."""
    fitted = BayesianModel(
        model.network,
        model.prior.with_variances({k: v for k, v in chosen.items() if k != "noise_variance"}),
        Gaussian(0.25),
    )
    line, _ = linear_gaussian(fitted, data)
    laws, priors = model.prior.laws(model.network), {**model.hyperpriors, **model.likelihood.priors(3)}
    width = {name: 1.0 if name == "noise_variance" else 8.0 for name in chosen}
    grids = [math.log(v) + width[name] * np.linspace(-1, 1, 25) for name, v in chosen.items()]
    values = []
    for logs in np.stack(np.meshgrid(*grids, indexing="ij"), -1).reshape(-1, len(grids)):
        at = {name: torch.tensor(log).double().exp() for name, log in zip(chosen, logs, strict=True)}
        known = replace(line, noise=torch.ones_like(line.noise) * at.get("noise_variance", 0.25))
        density = sum(float(priors[name].log_prob(v)) + float(v.log()) for name, v in at.items())
        values.append(float(known.log_evidence({name: law.at(at) for name, law in laws.items()})) + density)
    return logsumexp(values) + sum(math.log(grid[1] - grid[0]) for grid in grids)


@pytest.mark.parametrize(
    ("truth", "likelihood"), [("SO2eR3", Gaussian(0.3, learned=True)), ("Trivial(3)", Gaussian(0.25))]
)
def test_the_evidence_is_integrated_over_the_variances_that_were_chosen(truth, likelihood):
    """Over a variance and the noise, and over two variances, that the data determine."""
    data = drawn_from(candidates()[truth], 40, seed=1)
    model = candidates(RPPPrior(dist.LogNormal(0.0, 2.0), dist.LogNormal(-1.0, 2.0)), likelihood)[truth]
    found = compare({truth: model}, data, engine=LEARNING, progress=False)
    posterior = found.posteriors[truth]
    chosen = posterior.stats["variances"]
    value = float(found.dataset.log_evidence[0])
    assert len(chosen) == 2
    assert found.warnings == ()
    assert value == pytest.approx(integrated(model, chosen, data), abs=0.25)
    assert value < posterior.stats["log_evidence"] - 1


def test_a_variance_without_hyperprior_costs_nothing_and_is_warned_of(symmetric):
    """An exact symmetry: with a dense variance that may vanish the residual model is as good, with a prior it loses."""
    both = [SO(3), Trivial(3)]
    free, proper = (
        compare(candidates(prior, groups=both), symmetric, engine=LEARNING, progress=False)
        for prior in (RPPPrior(1.0, 1e-5), None)
    )
    assert free.dataset.log_bayes_factor.sel(model="Trivial(3)") > -0.5
    assert proper.dataset.log_bayes_factor.sel(model="Trivial(3)") < -1
    assert any(
        w.startswith("Trivial(3): equivariant_variance, dense_variance has no hyperprior") for w in free.warnings
    )
    assert not any("hyperprior" in w for w in proper.warnings)
    assert free.dataset.attrs["evidence"] == "Laplace, full, at the best variances"


def test_of_several_members_the_one_with_the_largest_evidence_counts(symmetric, monkeypatch):
    """Of a network, whose members end in different optima; in whatever order they come."""
    monkeypatch.setitem(mode_search._BUDGET, "diagonal", (1, 20))  # what is found depends on the start, mode or not
    network = RPPEMLP(IN(SO(3)), OUT(SO(3)), SO(3), channels=4 * Vector + 4 * Scalar, layers=1).double()
    model = BayesianModel(network, RPPPrior(), Gaussian(0.25))
    engine = EmpiricalBayes(members=3, epochs=30, burn_in=20, steps=1, lr=0.03)
    found = engine.fit(model, symmetric, seed=0, progress=False)
    each = found.stats["log_evidences"]
    values = []
    for order in ([0, 1, 2], [2, 0, 1], [each.index(max(each))]):
        samples = {name: value[order] for name, value in found.samples.items()}
        stats = found.stats | {"log_evidences": [each[member] for member in order]}
        posterior = Posterior(found.model, samples, stats, data=found.data)
        values.append(integrated_evidence(model, posterior, engine, "cpu").value)
    assert values == pytest.approx([values[0]] * 3, abs=1e-9)
    worst = each.index(min(each))
    samples = {name: value[worst : worst + 1] for name, value in found.samples.items()}
    alone = Posterior(found.model, samples, found.stats | {"log_evidences": [0.0]}, data=found.data)
    assert integrated_evidence(model, alone, engine, "cpu").value != pytest.approx(values[0], abs=1e-3)


def test_learning_that_stops_early_is_reported(symmetric):
    hasty = replace(LEARNING, epochs=12, steps=1, evidence_lr=0.01)
    models = candidates(None, Gaussian(30.0, learned=True), [SO(3)])  # a hundred times the noise that there is
    found = compare(models, symmetric, engine=hasty, progress=False)
    assert any("below the maximum of the evidence" in warning for warning in found.warnings)


def test_scores_give_no_probabilities(symmetric):
    found = compare(candidates(), symmetric, engine=STILL, method=PSISLOO(QUICK), progress=False)
    table = found.dataset
    for name in ("log_evidence", "log_bayes_factor", "probability"):
        assert table[name].isnull().all()
    assert found.warnings[-1] == "PSIS-LOO gives no evidence of the data, and so no probabilities of models."
    assert "probability" not in str(found).splitlines()[0]
    for name, model in candidates().items():
        if not any(warning.startswith(f"{name}: The Pareto k") for warning in found.warnings):
            exact = float(exact_loo(model, symmetric).sum())
            assert float(table.elpd_loo.sel(model=name)) == pytest.approx(exact, abs=0.2)
    conditional = compare(
        candidates(), symmetric, engine=STILL, method=ConditionalEvidence(ExactEvidence(), orderings=2), progress=False
    ).dataset
    assert conditional.log_conditional_evidence.notnull().all()
    assert conditional.probability.isnull().all()


def test_draws_give_leave_one_out_beside_the_evidence(symmetric):
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


def test_the_equivariance_error_is_against_one_group_or_each_network_own(symmetric):
    own, common = (exactly(candidates(), symmetric, group=group).dataset.equivariance_error for group in (None, SO(3)))
    assert (own.values[:2] < 1e-12).all()
    assert common.values[0] < 1e-12
    assert common.values[1] > 1e-3


def test_evidences_that_are_close_decide_nothing(symmetric):
    twins = {name: candidates()["SO(3)"] for name in ("one", "two")}
    found = exactly(twins, symmetric)
    np.testing.assert_allclose(found.dataset.probability, 0.5)
    assert not found.warnings  # exact: they are equal, and known to be
    laplace = compare(twins, symmetric, engine=STILL, method=LaplaceEvidence(mode=STILL), progress=False)
    assert "differ by" in laplace.warnings[-1]
    assert "without a standard error" in laplace.warnings[-1]


def test_the_table_shows_what_there_is(symmetric):
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


def test_what_cannot_be_compared_is_refused(symmetric):
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


@pytest.fixture
def _no_display():
    mpl.use("Agg")
    yield
    plt.close("all")


@pytest.mark.usefixtures("_no_display")
def test_the_picture_has_a_panel_for_each_thing_and_a_dot_for_each_model(symmetric, tmp_path):
    found = exactly(candidates(), symmetric, test=symmetric, group=SO(3))
    axes = plot_comparison(found)
    assert [ax.get_title(loc="left") for ax in axes] == ["evidence", "test data", "symmetry"]
    for ax, name in zip(axes, ("log_bayes_factor", "test_log_score", "equivariance_error"), strict=True):
        dots = ax.containers[-1].lines[0]
        np.testing.assert_allclose(dots.get_xdata(), found.dataset[name])
    np.testing.assert_allclose([bar.get_width() for bar in axes[0].patches], found.dataset.log_bayes_factor)
    assert [text.get_text() for text in axes[0].get_yticklabels()] == NAMES
    axes[0].figure.savefig(tmp_path / "comparison.png")
    assert 0.005 < (plt.imread(tmp_path / "comparison.png")[..., :3] < 0.99).any(-1).mean() < 0.5
    with pytest.raises(ValueError, match="axes must hold 3 axes, for evidence, test data, symmetry, got 1"):
        plot_comparison(found, axes[:1])


@pytest.mark.usefixtures("_no_display")
def test_large_differences_are_on_a_logarithmic_scale(symmetric):
    far, near = (exactly(candidates(), symmetric) for _ in range(2))
    for found, scale in ((far, "symlog"), (near, "linear")):
        values = [0.0, -500.0, -2.0] if scale == "symlog" else [0.0, -20.0, -2.0]
        dataset = found.dataset.assign(log_evidence=("model", values))
        [ax, *_] = plot_comparison(replace(found, dataset=dataset))
        assert ax.get_xscale() == scale
        assert ax.get_xlim()[0] < min(values)
