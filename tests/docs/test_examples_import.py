"""Every script of the examples can be imported: none names what is no longer there."""

import importlib
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    "script", sorted(path.stem for path in EXAMPLES.rglob("*.py") if path.parent.name != "recording")
)
def test_scripts_can_be_imported(script, monkeypatch):
    for folder in (EXAMPLES, EXAMPLES / "paper", EXAMPLES / "dynamics", EXAMPLES / "discovery", EXAMPLES / "command"):
        monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, script, raising=False)
    importlib.import_module(script)
