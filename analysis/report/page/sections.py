"""The sections of the page on one run."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from analysis.convergence_diagnostics.convergence import convergence
from analysis.convergence_diagnostics.intervals import interval
from analysis.discovery.kept_algebra import KeptAlgebra
from analysis.plots.equivariance_density import plot_equivariance_density
from analysis.plots.kept_symmetry import plot_kept_axis, plot_kept_symmetry
from analysis.plots.symmetry_breaking import plot_symmetry_breaking
from analysis.report.findings import Findings
from analysis.report.page.elements import paragraph, picture, section, table
from analysis.report.verdict import EXACT, declares_no_group, percent
from analysis.symmetry.equivariance import equivariance_error
from bayes_rpp import Rep

_POINTS = 200  # at which errors are split by generator, column and layer
_MOST_COLUMNS = 30  # that a picture and a table show one by one
_LABELS = {"seconds": "seconds of the last training or sampling"}
_SHOWN = 9  # of several numbers
_LEAST_CHAIN = 4  # draws of a chain whose convergence is judged


def error_section(findings: Findings, name: str) -> str:
    """How far the run is from its group: its density, and where it breaks."""
    if declares_no_group(findings) or findings.numbers["equivariance_error"]["maximum"] <= EXACT:
        return ""
    error, group = findings.numbers["equivariance_error"], findings.numbers["group"]
    x = findings.run.x
    words = (
        "The equivariance error compares transforming the input with transforming the output: 0 for a function that "
        "commutes with the group, at most 1; of outputs about their invariant mean."
    )
    middle, low, high = (f"{error[key]:.4f}" for key in ("median", "minimum", "maximum"))
    parts = [paragraph(words)]
    if findings.numbers["members"] > 1:
        ax = plot_equivariance_density({name: findings.centred}, x)
        seen = f"Density of the equivariance error under {group}: median {middle}, from {low} to {high}."
        parts += [picture(ax, "density", seen, f"The posterior of the error under {group}.")]
    columns = _columns(findings)
    axes = plot_symmetry_breaking(findings.centred, x[:_POINTS], per_column=columns or False)
    caption = "Where it breaks: medians and ranges over the draws, of each generator, output and layer."
    parts += [picture(axes[0], "breaking", f"{caption} The columns' numbers are in the table below.", caption)]
    found = equivariance_error(findings.centred, x[:_POINTS], **_split(columns))
    return section("How symmetric are the data?", *parts, _error_table(found, group))


def kept_section(findings: Findings) -> str:
    """The part of the group that is kept."""
    kept = findings.kept
    if kept is None:
        return ""
    parts = [paragraph(str(kept))]
    if isinstance(kept, KeptAlgebra):
        of = f"{kept.dimension} of {len(kept.along)} directions of {kept.group} are kept."
        caption = "Local errors along the directions of the group's Lie algebra, and how surely they differ from 0."
        parts += [picture(plot_kept_symmetry(kept), "kept", f"{caption} {of}", caption)]
        if _has_an_axis(kept):
            caption = "The axis that is kept, with those of the draws."
            alternative = f"A sphere with the axis that is kept: {kept.known.words if kept.known else ''}."
            parts += [picture(plot_kept_axis(kept), "axis", alternative, caption)]
    return section("What is kept?", *parts)


def evidence_section(findings: Findings) -> str:
    """Whether the training data support the group exactly, or how to ask."""
    if declares_no_group(findings):
        return ""
    title = "Does the evidence support the group exactly?"
    if findings.evidence is None:
        return section(title, paragraph("Not compared here; `bayes-rpp report` of this run with --evidence does."))
    caption = (
        f"The log evidence of the training data for {findings.numbers['group']} exactly (EMLP), and for a network that "
        "only prefers it (RPP): small ones, of one hidden layer, so that the evidence is that of the group and not "
        "of this run. Prior variances and noise are integrated over; scores are those of the modes."
    )
    (_, *names), *rows = zip(*findings.evidence.comparison.rows(), strict=True)  # a column for each model
    sentences = map(paragraph, findings.evidence.verdict)
    return section(title, *sentences, table(("", *names), [row for row in rows if row[0] != "seconds"], caption))


def prediction_section(findings: Findings) -> str:
    """How good predictions of the held-out rows are, and their intervals."""
    numbers = findings.numbers
    rows = [("held-out rows", f"{numbers['test_examples']:,}")]
    if "test_error" in numbers:
        rows += [("wrong labels", f"{numbers['test_error']:.2%}")]
    else:
        relative = numbers["test_mse_over_variance"]
        rows += [("mean square error of the mean", f"{numbers['test_mse_of_mean']:.4g}")]
        rows += [("as a share of the variance", "-" if relative is None else f"{relative:.2%}")]
    rows += [("log score, nats a row", f"{numbers['test_log_score']:.4g}")]
    parts = [table(("", "value"), rows, "Predictions of rows that the fit has not seen.")]
    if "test_coverage" in numbers:
        held = [(f"{level} %", f"{share:.1%}") for level, share in numbers["test_coverage"].items()]
        parts += [table(("interval", "holds"), held, "Calibration: how many observations each interval holds.")]
    return section("How good are the predictions?", *parts)


def share_section(findings: Findings) -> str:
    """How much of each layer's weight the group cannot express."""
    shares = findings.numbers["equivariant_share"]
    if not shares or declares_no_group(findings):
        return ""
    rows = [(layer, f"{1 - share:.2e}") for layer, share in shares.items()]
    caption = "The dense share of each layer's squared weight, which no equivariant matrix can express."
    return section("What do the pathways share?", table(("layer", "dense share"), rows, caption))


def health_section(findings: Findings) -> str:
    """Whether the draws can be relied on, and what the evidence chose."""
    posterior, stats = findings.run.posterior, findings.run.posterior.stats
    engine = stats.get("engine", "an engine")
    parts = []
    if posterior.draws >= _LEAST_CHAIN and engine != "Laplace":
        found = convergence(posterior, findings.run.x[:5])
        head = ("function", "R-hat", "bulk ESS", "tail ESS")
        judged = [str(name) for name in found.table.function.values[found.table.r_hat.notnull().values]]
        rows = [_convergence_row(found.table.sel(function=name), name) for name in judged]
        parts += [paragraph(found.verdict), table(head, rows, "Convergence of the chains, by what they are used for.")]
    elif engine == "Laplace":
        parts += [
            paragraph(f"{posterior.draws:,} independent draws of a Gaussian about one mode ({stats['curvature']}).")
        ]
    elif posterior.chains > 1:
        words = "Their spread is a proxy of the posterior, and usually too small where data are few."
        parts += [paragraph(f"{posterior.chains} networks of {engine}, each a mode of its own. {words}")]
    else:
        parts += [paragraph("One network, a mode: it has no epistemic uncertainty.")]
    if "variances" in stats:
        rows = [(name.replace("_", " "), _numbers_in_words(value)) for name, value in stats["variances"].items()]
        parts += [table(("", "value"), rows, "Variances that the evidence of the training data chose.")]
    return section("Can it be relied on?", *parts)


def settings_section(findings: Findings) -> str:
    """What it takes to repeat the run."""
    posterior, stats = findings.run.posterior, findings.run.posterior.stats
    made = stats.get("made_by", {})
    command = f"<p>The command that repeats it:</p><pre>{_escaped(made['command'])}</pre>" if "command" in made else ""
    rows = [(name, str(value)) for name, value in made.get("versions", {}).items()]
    rows += _noise_rows(findings)
    rows += [
        (_LABELS.get(name, name.replace("_", " ")), _numbers_in_words(value))
        for name, value in stats.items()
        if isinstance(value, int | float | str) and not isinstance(value, bool)
    ]
    model = f"<pre>{_escaped(str(posterior.bayesian_model))}</pre>"
    return section("How was it made?", command, model, table(("", "value"), rows, "Versions, settings and results."))


def _noise_rows(findings: Findings) -> list[tuple[str, str]]:
    """The standard deviations of Gaussian noise, in units of the outputs: of predictions, and of the training."""
    deviation, trained = findings.run.noise_deviation(), findings.run.posterior.stats.get("training_noise_variance")
    rows = [] if deviation is None else [("standard deviation of the noise", _numbers_in_words(deviation.tolist()))]
    if trained is not None:
        rows += [("the same, in the training", _numbers_in_words(np.sqrt(trained).tolist()))]
    return rows


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _columns(findings: Findings) -> list[str]:
    """The names of the output columns, unless they are too many to show."""
    names: dict[str, Any] = findings.run.posterior.stats.get("table") or {}
    rep_out = findings.run.posterior.bayesian_model.network.rep_out
    assert isinstance(rep_out, Rep)
    size = rep_out.size
    own: list[str] = names.get("classes") or names.get("y") or [f"output {k}" for k in range(size)]
    return own if len(own) == size <= _MOST_COLUMNS else []


def _split(columns: list[str]) -> dict[str, Any]:
    return {"per_column": columns} if columns else {"per_output": True}


def _error_table(errors: xr.DataArray, group: str) -> str:
    part = str(errors.dims[-1])
    found = interval(errors)
    rows = [
        (str(name), *(f"{percent(float(found.sel({part: name, 'stat': s})))} %" for s in ("lower", "median", "upper")))
        for name in found[part].values
    ]
    parts = " A column's error is its part of that of its piece: at each row their squares add up." * (part == "column")
    caption = f"The equivariance error under {group}, by {part}.{parts}"
    return table((part, "least", "median", "most"), rows, caption)


def _has_an_axis(kept: KeptAlgebra) -> bool:
    along = kept.along[:1]
    return kept.dimension == 1 and along.shape[-1] == 3 and bool((along + along.mT).abs().max() < 1e-6)


def _convergence_row(row: xr.Dataset, name: str) -> tuple[str, ...]:
    return (name, *(f"{float(row[key]):.4g}" for key in ("r_hat", "ess_bulk", "ess_tail")))


def _numbers_in_words(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        values = np.ravel(value).tolist()
        others = f" and {len(values) - _SHOWN} others" if len(values) > _SHOWN else ""
        return ", ".join(_numbers_in_words(each) for each in values[:_SHOWN]) + others
    return str(value)
