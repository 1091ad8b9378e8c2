"""The option that shifts the seeds of statistical tests."""

from tests import seeds


def pytest_addoption(parser):
    parser.addoption("--seed-shift", type=int, default=0, help="how far to move the seeds of statistical tests")


def pytest_configure(config):
    seeds.set_shift(config.getoption("seed_shift"))
