"""Write the report on runs into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch

from analysis.plots.equivariance_density import plot_equivariance_density
from analysis.report.evidence import check_has_evidence
from analysis.report.files import check_report_replaceable, remove_report, write_numbers, write_page, write_picture
from analysis.report.findings import Findings, findings_of
from analysis.report.page.page import page_of
from analysis.report.run import Run
from analysis.report.table import table_of
from analysis.report.verdict import declares_no_group, doubts, on_evidence

_NO_PICTURE = 1e-7  # of a smaller equivariance error


def write_report(
    runs: dict[str, Run], folder: Path, reference: dict[str, float] | None = None, *, with_evidence: bool = False
) -> tuple[str, dict[str, Any]]:
    """Write ``report.json``, ``equivariance.png`` and, on a single run, the page ``report.html``; return the table as
    text, and the numbers. Raises, before anything is computed, FileExistsError if files of these names are there that
    no report has written, and ValueError if the evidence is asked for and a run has nothing to compare.
    """
    check_report_replaceable(folder)
    for run in runs.values() if with_evidence else ():
        check_has_evidence(run)
    found = {label: findings_of(run, with_evidence=with_evidence) for label, run in runs.items()}
    reports = {label: each.numbers for label, each in found.items()}
    pages = [page_of(each, label) for label, each in found.items()] if len(found) == 1 else []
    pictured = {label: each for label, each in found.items() if not _why_no_picture(each)}
    remove_report(folder)
    write_numbers(reports, folder)
    for page in pages:
        write_page(page, folder)
    if pictured:
        same_width = len({run.x.shape[1] for run in runs.values()}) == 1
        points = torch.cat([run.x for run in runs.values()]) if same_width else None
        axes = plot_equivariance_density({label: each.centred for label, each in pictured.items()}, points, reference)
        figure = axes.get_figure(root=True)
        assert figure is not None
        write_picture(figure, folder)
        plt.close(figure)
    kept = [f"{label}: {report['kept']}" for label, report in reports.items() if report["kept"]]
    preferred = [f"{label}: {words}" for label, each in found.items() for words in on_evidence(each)]
    without = [f"{label}: {_why_no_picture(each)}" for label, each in found.items() if label not in pictured]
    doubted = [f"{label}: {doubt}" for label, each in found.items() for doubt in doubts(each)]
    return "\n".join([table_of(reports), *kept, *preferred, *without, *doubted]), reports


def _why_no_picture(findings: Findings) -> str:
    """Why there is no density of the equivariance error; empty if there is one."""
    why, group = "", findings.numbers["group"]
    if declares_no_group(findings):
        why = "no group was declared"
    elif findings.numbers["equivariance_error"]["minimum"] <= _NO_PICTURE:
        why = f"the network is {group}-equivariant exactly"
    return why and f"there is no picture of the equivariance error, since {why}."
