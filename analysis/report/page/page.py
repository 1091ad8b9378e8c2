"""The page as a whole."""

from __future__ import annotations

from html import escape

from analysis.report.files import MARK
from analysis.report.findings import Findings
from analysis.report.page.elements import paragraph
from analysis.report.page.sections import (
    error_section,
    evidence_section,
    health_section,
    kept_section,
    prediction_section,
    settings_section,
    share_section,
)
from analysis.report.page.style_sheet import STYLE
from analysis.report.verdict import declares_no_group, verdict


def page_of(findings: Findings, name: str) -> str:
    """The report on a run, whose verdict comes first: HTML that needs no other file and no network."""
    sections = (
        error_section(findings, name),
        kept_section(findings),
        evidence_section(findings),
        prediction_section(findings),
        share_section(findings),
        health_section(findings),
        settings_section(findings),
    )
    body = "\n".join(part for part in sections if part)
    sentences = "\n".join(paragraph(sentence) for sentence in verdict(findings))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="{MARK}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{escape(name)}: {"what was learned" if declares_no_group(findings) else "how symmetric are the data"}?</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{escape(name)}</h1>
<p class="about">{escape(_about(findings))}</p>
</header>
<main>
<div class="verdict">
{sentences}
</div>
{body}
</main>
</body>
</html>
"""


def _about(findings: Findings) -> str:
    network = findings.run.posterior.bayesian_model.network
    return f"{findings.numbers['engine']}, {network.rep_in} to {network.rep_out}, group {findings.numbers['group']}"
