"""The findings on a run in sentences, the answer first."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.report.findings import Findings
from bayes_rpp import Trivial

EXACT = 1e-5  # the equivariance error of what rounding alone keeps from 0
_POOR = 0.5  # of the variance of the outputs: then little was learned
_FEW = 30  # held-out rows on which numbers hardly rest
_MOST = 0.5  # of the squared error, that one of many rows makes
_NARROW, _WIDE = 0.8, 0.98  # of the rows that intervals of 90 % hold


def verdict(findings: Findings) -> list[str]:
    """How symmetric the data are, what breaks, how good predictions are, and what is to be doubted."""
    return [*_on_symmetry(findings), *on_evidence(findings), *_on_predictions(findings), *doubts(findings)]


def percent(share: float) -> str:
    """Two digits of a share, in percent."""
    return f"{100 * share:.2g}" if share < 0.995 else f"{100 * share:.3g}"


def declares_no_group(findings: Findings) -> bool:
    """Whether the run was fitted without a symmetry."""
    return isinstance(findings.run.posterior.bayesian_model.network.group, Trivial)


def _on_symmetry(findings: Findings) -> Iterator[str]:
    numbers, error = findings.numbers, findings.numbers["equivariance_error"]
    if declares_no_group(findings):
        yield "No symmetry was declared, so that none is judged."
        return
    group = numbers["group"]
    if error["maximum"] <= EXACT:
        yield (
            f"The network is {group}-equivariant by construction: that says nothing of the data. Fit with --network "
            "rpp to see how far they are."
        )
        return
    middle, low, high = (percent(error[name]) for name in ("median", "minimum", "maximum"))
    several = f" [{low}, {high}]" if numbers["members"] > 1 else ""
    yield f"The data are {group}-equivariant to about {middle} %{several}, as the networks have learned them."
    if findings.kept is not None:
        yield f"The fit keeps{str(findings.kept).removeprefix('It keeps')}"
    elif numbers["kept"]:
        yield f"{numbers['kept'][0].upper()}{numbers['kept'][1:]}"


def on_evidence(findings: Findings) -> list[str]:
    """Whether the evidence prefers exact symmetry, if that was asked for."""
    return [] if findings.evidence is None else list(findings.evidence.verdict)


def _on_predictions(findings: Findings) -> Iterator[str]:
    numbers = findings.numbers
    rows = f"Of {numbers['test_examples']:,} held-out rows"
    if "test_error" in numbers:
        yield f"{rows}, {numbers['test_error']:.1%} are given a wrong label."
    else:
        relative = numbers["test_mse_over_variance"]
        each = " of an output, on average" if findings.run.y.shape[1:].numel() > 1 else ""
        of_variance = "" if relative is None else f", {percent(relative)} % of the variance{each}"
        yield (
            f"{rows}, the mean square error is {numbers['test_mse_of_mean']:.4g}{of_variance}; intervals of 90 % hold "
            f"{numbers['test_coverage_of_90']:.1%}."
        )
    if "log_evidence" in findings.run.posterior.stats:
        yield f"The log evidence is {findings.run.posterior.stats['log_evidence']:.1f}, of the Laplace approximation."


def doubts(findings: Findings) -> Iterator[str]:
    """What speaks against relying on the numbers."""
    numbers, relative = findings.numbers, findings.numbers.get("test_mse_over_variance")
    rows, worst = numbers["test_examples"], numbers.get("test_share_of_worst_row", 0.0)
    if rows >= _FEW and worst > _MOST:
        without = numbers["test_mse_of_mean"] * (1 - worst) * rows / (rows - 1)
        yield (
            f"One of the {rows:,} held-out rows makes {worst:.1%} of the squared error: is it an error? Without it the "
            f"mean square error is {without:.4g}."
        )
    elif relative is not None and relative > _POOR:
        prior = "" if declares_no_group(findings) else ": the symmetry that is seen is more the prior's than the data's"
        yield f"The networks have learned little{prior}."
    if numbers["test_examples"] < _FEW:
        count = "is only one held-out row" if rows == 1 else f"are only {rows} held-out rows"
        yield f"There {count}, so that these numbers rest on few."
    elif not _NARROW <= (held := numbers.get("test_coverage_of_90", 0.9)) <= _WIDE:
        yield f"Intervals are too {'wide' if held > 0.9 else 'narrow'}: do not rely on them."
    if numbers["interrupted"]:
        yield "The fit was interrupted, and this is what was trained until then."
    if numbers["diverged"]:
        yield f"{numbers['diverged']} of the chains or members diverged, and are left out."
