"""Engines, priors and likelihoods of ``bayes-rpp fit``, each to predictions of new rows."""

import numpy as np
import pandas as pd
import pytest

from analysis.cli import main as cli
from analysis.report.run import Run
from bayes_rpp import Gaussian, LaplaceNoise, Poisson, StudentT

TINY = ["--channels", "8", "--layers", "1", "--epochs", "40", "--lr", "0.02", "--noise-variance", "0.04"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A line with noise of standard deviation 0.2, and counts of rate e^a."""
    generator = np.random.default_rng(1)
    a = generator.normal(size=200)
    columns = {"a": a, "y": 3 + 2 * a + 0.2 * generator.normal(size=200), "count": generator.poisson(np.exp(a))}
    path = tmp_path_factory.mktemp("engines") / "data.csv"
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def fitted(table, folder, *options):
    assert cli.main(["fit", str(table), "--x", "a", *options, "--out", str(folder)]) == 0
    assert cli.main(["predict", str(folder), str(table), "--out", str(folder / "p.csv")]) == 0
    return Run.load(folder), pd.read_csv(folder / "p.csv")


@pytest.mark.parametrize(
    ("options", "engine", "shape"),
    [
        (["--engine", "map"], "MAP", (1, 1)),
        (["--engine", "laplace", "--draws", "20"], "Laplace", (1, 20)),
        (["--engine", "hmc", "--members", "2", "--draws", "5", "--warmup", "5"], "HMC", (2, 5)),
        (["--engine", "empirical-bayes", "--members", "2"], "EmpiricalBayes", (2, 1)),
        (["--prior", "learned", "--members", "2"], "DeepEnsemble", (2, 1)),
    ],
    ids=lambda value: "-".join(value[1:2]) if isinstance(value, list) else None,
)
def test_every_engine_leads_to_predictions(table, tmp_path, options, engine, shape):
    run, found = fitted(table, tmp_path / "run", "--y", "y", *TINY, *options)
    posterior = run.posterior
    assert (posterior.stats["engine"], (posterior.chains, posterior.draws)) == (engine, shape)
    assert posterior.bayesian_model.likelihood == Gaussian(0.04)
    assert ("variances" in posterior.stats) == ("learned" in options or engine == "EmpiricalBayes")
    if "variances" in posterior.stats:
        prior = posterior.bayesian_model.prior
        assert prior.dense_variance == pytest.approx(posterior.stats["variances"]["dense_variance"])
    y = pd.read_csv(table).y
    assert ((found.y - y) ** 2).mean() < 0.1  # of the line; y itself varies by 4
    assert ((found.y_lower <= y) & (y <= found.y_upper)).mean() > 0.8


@pytest.mark.parametrize(
    ("name", "column", "kind"),
    [("laplace-noise", "y", LaplaceNoise), ("student-t", "y", StudentT), ("poisson", "count", Poisson)],
)
def test_every_likelihood_leads_to_predictions(table, tmp_path, name, column, kind):
    options = ["--y", column, "--likelihood", name, "--members", "2", *TINY[:-2]]
    run, found = fitted(table, tmp_path / "run", *options)
    assert isinstance(run.posterior.bayesian_model.likelihood, kind)
    frame = pd.read_csv(table)
    true = np.exp(frame.a) if name == "poisson" else 3 + 2 * frame.a
    assert np.abs(found[column] - true).median() < 0.4
    assert cli.main(["report", str(tmp_path / "run")]) == 0


def test_a_noise_is_for_gaussian_noise(table, tmp_path, capsys):
    options = ["fit", str(table), "--x", "a", "--y", "count", "--likelihood", "poisson", "--noise-variance", "1"]
    assert cli.main([*options, "--out", str(tmp_path / "run")]) == 2
    assert "--noise-variance is for --likelihood gaussian" in capsys.readouterr().err
