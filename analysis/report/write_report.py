"""Write the report on runs into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch

from analysis.plots.equivariance_density import plot_equivariance_density
from analysis.report.files import check_report_replaceable, remove_report, write_numbers, write_picture
from analysis.report.numbers import numbers_of
from analysis.report.run import Run
from analysis.report.table import table_of


def write_report(
    runs: dict[str, Run], folder: Path, reference: dict[str, float] | None = None
) -> tuple[str, dict[str, Any]]:
    """Write ``report.json`` and ``equivariance.png`` for labelled runs, and return the
    table as text, and the numbers. Raises
    FileExistsError, before anything is computed, if files of these names are there that no report has written.
    """
    check_report_replaceable(folder)
    reports = {label: numbers_of(run) for label, run in runs.items()}
    exact = [label for label, report in reports.items() if report["equivariance_error"]["minimum"] <= 1e-7]
    pictured = {label: run.centred()[0] for label, run in runs.items() if label not in exact}
    remove_report(folder)
    write_numbers(reports, folder)
    if pictured:
        same_width = len({run.x.shape[1] for run in runs.values()}) == 1
        points = torch.cat([run.x for run in runs.values()]) if same_width else None
        axes = plot_equivariance_density(pictured, points, reference)
        figure = axes.get_figure(root=True)
        assert figure is not None
        write_picture(figure, folder)
        plt.close(figure)
    kept = [f"{label}: {report['kept']}" for label, report in reports.items() if report["kept"]]
    return "\n".join([table_of(reports), *kept]), reports
