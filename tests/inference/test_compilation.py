"""Compiled gradients: those without compilation up to rounding, and where there is no compiler those themselves."""

import logging
import shutil
from dataclasses import replace

import pytest
import torch

from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, LogDensity, RPPPrior, Scalar, Vector
from inference import HMC, MAP, SGHMC, SGLD, DeepEnsemble
from inference.compilation import GradientGraph

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")


def said(caplog):
    return [record.message for record in caplog.records if record.name == "inference.compilation"]


def problem(learned=False):
    torch.manual_seed(0)
    network = RPPEMLP(Vector + Scalar, Vector, SO(3), channels=8, layers=1).double()
    x = torch.randn(30, 4, dtype=torch.float64)
    return BayesianModel(network, RPPPrior(), Gaussian(0.1, learned=learned)), (x, x[:, :3] * x[:, 3:])


ENGINES = {
    "an ensemble": (DeepEnsemble(members=2, epochs=50, batch_size=15), False),
    "one mode with batches of two sizes": (MAP(epochs=50, batch_size=16), True),
    "HMC": (HMC(chains=2, draws=3, warmup=2, metric="identity", trajectory_length=0.01), True),
    "SGHMC": (SGHMC(1e-5, chains=2, draws=50, warmup=50, batch_size=10), False),
}


@needs_compiler
@pytest.mark.parametrize("name", ENGINES)
def test_compiled_runs_end_where_others_do_with_the_same_bits_each_time(name, caplog):
    engine, learned = ENGINES[name]
    model, data = problem(learned)
    with caplog.at_level(logging.INFO, "inference.compilation"):
        first, again = (replace(engine, compile=True).fit(model, data, seed=0, progress=False) for _ in range(2))
    assert {message.split(",")[0] for message in said(caplog)} == {"compiling the gradient"}
    eager = replace(engine, compile=False).fit(model, data, seed=0, progress=False)
    for parameter, value in first.samples.items():
        assert torch.equal(value, again.samples[parameter])
        torch.testing.assert_close(value, eager.samples[parameter], rtol=1e-6, atol=1e-8)


@needs_compiler
def test_as_many_graphs_are_compiled_as_there_are_fits(caplog):
    """The compiler itself stops at the eighth graph of one function."""
    z = torch.randn(3, 4, requires_grad=True)
    for _ in range(12):
        graph = GradientGraph(lambda leaf: leaf.square().sum(1))
        graph.prepare(True, 1, [z], z)
        _, (slope,) = graph([z], z)
        torch.testing.assert_close(slope, 2 * z.detach())
    assert not said(caplog)


def test_what_cannot_be_compiled_goes_on_without_and_says_so_once(caplog, monkeypatch):
    def log_density(params):
        return -params["z"].square().sum() * (1 + float(params["z"].detach().sum() > 0))

    model = LogDensity(log_density, {"z": torch.ones(3)})
    fits = {}
    for setting in (True, False):
        fits[setting] = MAP(epochs=30, compile=setting).fit(model, None, seed=0, progress=False).samples["z"]
    assert torch.equal(fits[True], fits[False])
    assert [message.split(":")[0] for message in said(caplog)] == ["not compiled, so that steps take longer"]

    def broken(*_, **__):
        raise RuntimeError("no C++ compiler\nin three lines\nor more")

    caplog.clear()
    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    model, data = problem()
    MAP(epochs=3, compile=True).fit(model, data, seed=0, progress=False)
    assert said(caplog) == ["not compiled, so that steps take longer: RuntimeError: no C++ compiler in three lines"]


def test_errors_of_the_model_are_raised_as_they_are():
    def log_density(params):
        if params["z"].sum() != 3:
            raise KeyError("only at ones")
        return -params["z"].square().sum()

    with pytest.raises(KeyError, match="only at ones"):
        MAP(epochs=3, compile=True).fit(LogDensity(log_density, {"z": torch.ones(3)}), None, seed=0, progress=False)


def test_short_runs_are_not_compiled_and_long_ones_are(monkeypatch):
    """Whatever the clock says: the estimate counts operations."""
    asked = []
    monkeypatch.setattr(torch, "compile", lambda function, **_: asked.append(1) or function)
    leaf = torch.randn(10, 50_000, requires_grad=True)
    for calls, expected in ((1, 0), (100, 0), (10**7, 1)):
        graph = GradientGraph(lambda z: z.sin().square().sum(1))
        graph.prepare("auto", calls, [leaf], leaf)
        assert len(asked) == expected
    graph.prepare(False, 10**9, [leaf], leaf)
    assert len(asked) == 1


def test_other_settings_are_refused():
    for engine in (MAP, HMC, lambda **options: SGLD(1e-4, **options)):
        with pytest.raises(ValueError, match="compile must be 'auto', True or False, got 'yes'"):
            engine(compile="yes")
