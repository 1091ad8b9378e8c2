"""The page of a report: whole, offline, readable by machines that read aloud, and true in words."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib as mpl
import pytest

from analysis.report.findings import findings_of
from analysis.report.page.page import page_of
from analysis.report.run import Run
from analysis.report.verdict import verdict
from bayes_rpp import EMLP, MLP, BayesianModel, Categorical, D, Gaussian, RPPPrior, Trivial, Vector
from inference import HMC, MAP, DeepEnsemble, Laplace
from tests.scenarios.numbers import numbers

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Outline(HTMLParser):
    """Fails where tags are not nested, and gathers what tests look at."""

    def __init__(self, page):
        super().__init__()
        self.open, self.ids, self.pictures, self.text, self.addresses = [], [], [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.pictures += [attrs.get("aria-label")] if tag == "svg" else []
        self.addresses += [attrs[name] for name in ("href", "src", "xlink:href") if name in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(autouse=True)
def _no_display():
    mpl.use("Agg")


def check_page(page):
    outline = Outline(page)
    assert len(outline.ids) == len(set(outline.ids))
    assert all(address.startswith(("#", "data:")) for address in outline.addresses)  # nothing is fetched
    assert all(f'id="{address[1:]}"' in page for address in outline.addresses if address.startswith("#"))
    assert set(re.findall(r"url\(#([^)]*)\)", page)) <= set(outline.ids)
    assert all(label and len(label) > 20 for label in outline.pictures)
    assert len(page.encode()) < 2_000_000
    assert "#000000" not in page  # which nobody could read in the dark
    return outline


def test_an_ensemble_has_a_page_with_every_section(bodies, fit_small):
    posterior = fit_small(bodies)
    posterior.stats["made_by"] = {"command": "bayes-rpp fit a<b.csv --group 'O(3)'", "versions": {"torch": "2"}}
    posterior.stats["table"] = {"x": [], "y": [f"I<{k}>" for k in range(9)], "classes": []}
    findings = findings_of(Run(posterior, *bodies.test))
    outline = check_page(page_of(findings, "a & b"))
    text = " ".join(outline.text)
    for words in ("How symmetric are the data?", "What is kept?", "How good are the predictions?", "How was it made?"):
        assert words in text
    assert "bayes-rpp fit a<b.csv --group 'O(3)'" in text
    assert "I<8>" in text
    assert "a & b" in text
    assert len(outline.pictures) >= 3
    for level in (50, 80, 90, 95):
        assert f"{findings.numbers['test_coverage'][str(level)]:.1%}" in text


@pytest.mark.parametrize("network", [EMLP, MLP])
def test_networks_without_a_density_have_a_page(bodies, fit_small, network):
    check_page(page_of(findings_of(Run(fit_small(bodies, network, epochs=1), *bodies.test)), "run"))


def test_every_engine_has_a_page(bodies):
    net = MLP(Vector(D(4)), Vector(D(4)), D(4), channels=4, layers=1)
    x, y = numbers(40, 2).float(), numbers(40, 2, seed=1).float()
    model = BayesianModel(net, RPPPrior(), Gaussian(1.0))
    mode = MAP(epochs=5).fit(model, (x, y), seed=0)
    for engine, words in {
        Laplace("diagonal", draws=30): "30 independent draws of a Gaussian about one mode",
        HMC(chains=2, draws=8, warmup=5): "Convergence of the chains",
    }.items():
        findings = findings_of(Run(engine.fit(model, (x, y), seed=0, start=mode), x, y))
        outline = check_page(page_of(findings, "run"))
        assert words in " ".join(outline.text)
        assert str(findings.kept).startswith("It keeps ")
        assert "of the 8 elements of D(4)" in str(findings.kept)
    outline = check_page(page_of(findings_of(Run(mode, x, y)), "run"))
    assert "One network, a mode" in " ".join(outline.text)


def test_labels_have_a_page():
    group = Trivial(2)
    model = BayesianModel(
        MLP(Vector(group), 3 * Vector(group) ** 0, group, channels=4, layers=1), RPPPrior(), Categorical()
    )
    x = numbers(30, 2).float()
    y = (x[:, 0] > 0).long()
    findings = findings_of(Run(DeepEnsemble(members=2, epochs=2).fit(model, (x, y), seed=0), x, y))
    text = " ".join(check_page(page_of(findings, "labels")).text)
    assert "are given a wrong label" in text
    assert "No symmetry was declared" in text


def test_the_verdict_says_what_the_numbers_do(bodies, fit_small):
    findings = findings_of(Run(fit_small(bodies, members=2, epochs=1), *bodies.test))

    def said(**numbers):
        return " ".join(verdict(replace(findings, numbers=findings.numbers | numbers)))

    error = {"minimum": 0.1512, "median": 0.173, "maximum": 0.1944}
    good = {"equivariance_error": error, "test_mse_over_variance": 0.09, "test_examples": 200}
    words = said(**good, test_coverage_of_90=0.912, test_mse_of_mean=0.8817)
    assert words.startswith("The data are O(3)-equivariant to about 17 % [15, 19], as the networks have learned them.")
    assert "Of 200 held-out rows, the mean square error is 0.8817, 9 % of the variance" in words
    assert "intervals of 90 % hold 91.2%" in words
    assert "learned little" not in words
    assert "Intervals are too" not in words
    assert "Intervals are too narrow: do not rely on them." in said(**good, test_coverage_of_90=0.7)
    assert "Intervals are too wide: do not rely on them." in said(**good, test_coverage_of_90=1.0)
    assert "The networks have learned little" in said(**good | {"test_mse_over_variance": 0.8})
    assert "There are only 8 held-out rows" in said(**good | {"test_examples": 8})
    assert "There is only one held-out row" in said(**good | {"test_examples": 1})
    outlying = said(**good | {"test_mse_over_variance": 1.04}, test_mse_of_mean=100.0, test_share_of_worst_row=0.9)
    assert "One of the 200 held-out rows makes 90.0% of the squared error" in outlying
    assert "Without it the mean square error is 10.05." in outlying  # 100 * 0.1 * 200 / 199
    assert "learned little" not in outlying
    assert "The fit was interrupted" in said(**good, interrupted=True)
    assert "equivariant by construction: that says nothing of the data" in said(
        equivariance_error=dict.fromkeys(error, 1e-8)
    )
