"""What ``bayes-rpp report`` does."""

from __future__ import annotations

import logging
from argparse import Namespace
from pathlib import Path
from typing import Any

from analysis.cli.fitting.log_levels import log_levels
from analysis.cli.outcome import Outcome
from analysis.cli.run_folder import part_to_report
from analysis.report.files import PAGE, PICTURE, REPORT, remove_report
from analysis.report.run import POSTERIOR, Run
from analysis.report.write_report import write_report
from inference.atomic_write import check_writable
from inference.posterior.files import tensors_file


def report(options: Namespace) -> Outcome:
    """Report on a saved run."""
    folder = part_to_report(options.folder)
    reported = None
    while reported is None or tensors_file(folder / POSTERIOR) != reported:
        if reported is not None:
            remove_report(folder)  # on a run that a fit has replaced meanwhile
        reported = tensors_file(folder / POSTERIOR)
        run = Run.load(folder)
        check_writable(folder)
        with log_levels({"analysis.comparison.compare": logging.ERROR}):  # its warnings are in the report
            found = write_report({options.folder.resolve().name: run}, folder, with_evidence=options.evidence)
    return outcome_of(*found, folder, {})


def outcome_of(table: str, reports: dict[str, Any], folder: Path, reference: dict[str, float]) -> Outcome:
    """The table, what the truth is where it is known, and the files."""
    true = [
        f"{label}: the equivariance error of the true function is {value:.4f}" for label, value in reference.items()
    ]
    files = {"page": PAGE, "picture": PICTURE, "numbers": REPORT}
    written = "   ".join(f"{kind}: {folder / name}" for kind, name in files.items() if (folder / name).exists())
    return Outcome("\n".join([table, *true, written]), reports)
