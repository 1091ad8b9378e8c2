"""The numbers of a report as a table of text."""

from __future__ import annotations

from typing import Any

from analysis.comparison.aligned import aligned

_OF_NO_GROUP = "Trivial("


def table_of(reports: dict[str, dict[str, Any]]) -> str:
    """A line for each labelled run; errors and shares only where a group was declared."""
    reports = {label + " (interrupted)" * report["interrupted"]: report for label, report in reports.items()}
    of_labels = any("test_error" in report for report in reports.values())
    with_group = any(not report["group"].startswith(_OF_NO_GROUP) for report in reports.values())
    head = ["", *(("error", "log score") if of_labels else ("test MSE", "of var(y)", "90 % hold"))]
    head += ["equivariance error: min, median, max", "dense share of the weights, by layer"] if with_group else []
    rows = [head]
    for label, report in reports.items():
        if of_labels:
            row = [label, f"{report['test_error']:.2%}", f"{report['test_log_score']:.4g}"]
        else:
            relative = report["test_mse_over_variance"]
            row = [label, f"{report['test_mse_of_mean']:.4g}", "-" if relative is None else f"{relative:.2%}"]
            row += [f"{report['test_coverage_of_90']:.1%}"]
        rows.append(row + (_of_group(report) if with_group else []))
    return "\n".join(aligned(rows))


def _of_group(report: dict[str, Any]) -> list[str]:
    error, shares = report["equivariance_error"], report["equivariant_share"]
    errors = "  ".join(f"{error[name]:.4f}" for name in ("minimum", "median", "maximum"))
    return [errors, f"{1 - max(shares.values()):.1e} to {1 - min(shares.values()):.1e}" if shares else "no pathways"]
