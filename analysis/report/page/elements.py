"""Parts of an HTML page."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from html import escape
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text, which browsers find and scale
    "font.family": "sans-serif",
    "savefig.transparent": True,
}


def paragraph(text: str) -> str:
    """A paragraph."""
    return f"<p>{escape(text)}</p>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """A table whose first column names the rows; wide ones scroll."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def picture(axes: Axes, name: str, alternative: str, caption: str) -> str:
    """The figure of these axes as SVG in the page, which is closed. ``name`` is its own in the page. Black lines and
    letters take the page's colour, so that they can be read in the dark too.
    """
    figure, file = axes.get_figure(root=True), io.StringIO()
    assert figure is not None
    with mpl.rc_context(_SETTINGS | {"svg.hashsalt": name}):  # type: ignore[arg-type]
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = svg.replace("#000000", "currentColor").replace("sans-serif", "inherit")
    svg = re.sub(r'(<text [^>]*style=")(?![^"]*fill:)', r"\1fill: currentColor; ", svg)
    label = escape(alternative, quote=True)
    svg = re.sub(r"<svg ", f'<svg role="img" aria-label="{label}" ', svg, count=1)
    scrolling = (
        f'<div class="drawing" tabindex="0" role="region" aria-label="{escape(caption, quote=True)}">{svg}</div>'
    )
    return f"<figure>{scrolling}<figcaption>{escape(caption)}</figcaption></figure>"


def section(title: str, *parts: str) -> str:
    """A section with its heading; empty if nothing is in it."""
    inside = "\n".join(part for part in parts if part)
    return f"<section><h2>{escape(title)}</h2>\n{inside}\n</section>" if inside else ""
