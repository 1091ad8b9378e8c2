"""Options and the order of the tests, what tests of Ctrl-C need, and scripts as modules."""

import importlib
import signal
import sys
from pathlib import Path

import pytest
import torch

from tests import seeds

# The longest first: half a minute or more each.
LONG = {
    name: place
    for place, name in enumerate(
        (
            "test_examples.py",
            "inference/sampling/test_posteriordb.py",
            "inference/sampling/nuts/test_nuts.py",
            "test_paper_scripts.py",
            "inference/test_compilation.py",
            "inference/variational/test_pyro_guide.py",
            "inference/test_threads.py",
            "inference/sampling/test_hyperpriors.py",
            "inference/empirical_bayes/test_refinement.py",
            "inference/sampling/test_calibration.py",
            "bayes_rpp/test_frozen_and_shared.py",
            "analysis/evidence/test_hierarchical.py",
            "bayes_rpp/test_pyro_model.py",
            "bayes_rpp/networks/test_hamiltonian.py",
            "test_example_scripts.py",
            "inference/sampling/hmc/test_regression.py",
        )
    )
}


LONG_TESTS = Path(__file__).with_name("long_tests.txt")  # what takes more than two or three seconds on a core


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="run the tests of tests/long_tests.txt too")
    parser.addoption("--seed-shift", type=int, default=0, help="how far to move the seeds of statistical tests")


def pytest_configure(config):
    if config.args_source != pytest.Config.ArgsSource.TESTPATHS:
        config.option.long = True  # who names a test, or a folder, gets all of it
    seeds.set_shift(config.getoption("seed_shift"))


def pytest_collection_modifyitems(config, items):
    """The long tests are left out unless they are asked for. The files whose tests take longest come first, so that
    none is begun when other processors run out of tests.
    """
    tests = Path(__file__).parent
    if not config.option.long:
        long = set(LONG_TESTS.read_text().splitlines())
        left_out = [item for item in items if {item.nodeid, item.nodeid.split("[")[0]} & long]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    items.sort(key=lambda item: LONG.get(item.path.relative_to(tests).as_posix(), len(LONG)))


@pytest.fixture(autouse=True)
def validation_stays_as_it_is():
    """No test, nor what it calls, may leave the validation of distributions off."""
    before = torch.distributions.Distribution._validate_args
    yield
    after = torch.distributions.Distribution._validate_args
    torch.distributions.Distribution.set_default_validate_args(before)
    assert after == before


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
    folders = [
        examples,
        *(examples / name for name in ("paper", "dynamics", "discovery", "command")),
        root / "tests" / "benchmarks",
    ]
    for folder in folders:
        monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(tuple(map(str, folders))):
            del sys.modules[name]
