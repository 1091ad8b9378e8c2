"""Equations: fenced blocks marked ``math`` become MathML, which browsers show without any script."""

from __future__ import annotations

from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig


def equations(source: str, *_: Any, **__: Any) -> str:
    """The lines of a block, separated by blank lines, one below the other."""
    shown = (convert(" ".join(part.split()), display="block") for part in source.split("\n\n"))
    return f'<div class="equation">{"".join(shown)}</div>'


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Tell superfences."""
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {}).setdefault("custom_fences", [])
    fences.append({"name": "math", "class": "equation", "format": equations})
    return config
