"""The numbers of a report as a table of text."""

from __future__ import annotations

from typing import Any


def table_of(reports: dict[str, dict[str, Any]]) -> str:
    """A line for each labelled run."""
    reports = {label + " (interrupted)" * report["interrupted"]: report for label, report in reports.items()}
    width = max(map(len, reports))
    of_labels = any("test_error" in report for report in reports.values())
    first, second = ("error", "log score") if of_labels else ("test MSE", "of var(y)")
    lines = [
        f"{'':{width}}  {first:>9}  {second:>9}  {'equivariance error: min, median, max':38}"
        "dense share of the weights, by layer"
    ]
    for label, report in reports.items():
        error, shares = report["equivariance_error"], report["equivariant_share"]
        share = f"{1 - max(shares.values()):.1e} to {1 - min(shares.values()):.1e}" if shares else "no pathways"
        if of_labels:
            scores = f"{report['test_error']:9.2%}  {report['test_log_score']:9.4g}"
        else:
            relative = report["test_mse_over_variance"]
            of_variance = "-" if relative is None else f"{relative:.2%}"
            scores = f"{report['test_mse_of_mean']:9.4g}  {of_variance:>9}"
        lines.append(
            f"{label:{width}}  {scores}  "
            f"{error['minimum']:10.4f} {error['median']:10.4f} {error['maximum']:10.4f}{'':8}{share}"
        )
    return "\n".join(lines)
