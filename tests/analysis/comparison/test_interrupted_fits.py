"""What is computed from half a training must not pass for the result of a whole one."""

import pytest
import torch

from analysis import compare
from analysis.evidence import PSISLOO, ConditionalEvidence, LaplaceEvidence
from analysis.verification.surrogate import fit_surrogate
from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, RPPPrior, Vector
from inference import MAP, EmpiricalBayes
from inference.training.parameter_stack import ParameterStack


@pytest.fixture
def cut_short(monkeypatch):
    """Ctrl-C in the fourth step of the first training from now on."""
    steps, step = [], ParameterStack.step

    def interrupted(self, batch, lr):
        steps.append(None)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return step(self, batch, lr)

    monkeypatch.setattr(ParameterStack, "step", interrupted)


@pytest.fixture
def problem():
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = BayesianModel(RPPEMLP(Vector, Vector, SO(3), layers=0).double(), RPPPrior(), Gaussian(0.25))
    return model, (x, 2 * x)


@pytest.mark.parametrize(
    "method",
    [
        PSISLOO(MAP(epochs=9)),
        ConditionalEvidence(MAP(epochs=9)),
        ConditionalEvidence(LaplaceEvidence(mode=MAP(epochs=9))),
        LaplaceEvidence(mode=MAP(epochs=9)),
    ],
    ids=["leave-one-out", "conditional", "conditional Laplace", "Laplace"],
)
def test_evidences_are_not_of_an_interrupted_fit(cut_short, problem, method):
    with pytest.raises(KeyboardInterrupt):
        method.estimate(*problem, seed=0, progress=False)


def test_a_verification_is_not_of_an_interrupted_fit(cut_short, problem):
    with pytest.raises(KeyboardInterrupt):
        fit_surrogate(*problem[1], seed=0, progress=False)


def test_a_comparison_says_which_fit_was_interrupted(cut_short, problem):
    model, data = problem
    engine = EmpiricalBayes(epochs=9, batch_size=None)
    found = compare({"first": model, "second": model}, data, engine=engine, progress=False)
    [warning] = [text for text in found.warnings if "interrupted" in text]
    assert warning.startswith("first: the fit was interrupted")
