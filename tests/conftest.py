"""The option that shifts the seeds of statistical tests, and what tests of Ctrl-C need."""

import signal

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
