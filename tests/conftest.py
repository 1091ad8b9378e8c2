"""The option that shifts the seeds of statistical tests, what tests of Ctrl-C need, and scripts as modules."""

import importlib
import signal
import sys
from pathlib import Path

import pytest

from tests import seeds


def pytest_addoption(parser):
    parser.addoption("--seed-shift", type=int, default=0, help="how far to move the seeds of statistical tests")


def pytest_configure(config):
    seeds.set_shift(config.getoption("seed_shift"))


@pytest.fixture
def interrupts_are_heard():
    """A shell that starts the tests in the background has them ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def script(monkeypatch):
    """Imports a script of the examples or the benchmarks; afterwards scripts are forgotten."""
    root = Path(__file__).parents[1]
    examples = root / "examples"
    folders = [examples, examples / "paper", examples / "dynamics", root / "tests" / "benchmarks"]
    for folder in folders:
        monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(tuple(map(str, folders))):
            del sys.modules[name]
