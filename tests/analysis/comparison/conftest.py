"""Linear models of several groups, and data that they make, which the tests of comparisons share."""

import pytest
import torch

from analysis import compare
from analysis.comparison.symmetry_candidates import symmetry_candidates
from analysis.evidence import ExactEvidence
from bayes_rpp import SO, BayesianModel, Gaussian, RPPPrior, Scalar, SO2eR3, Trivial, Vector
from inference import MAP
from tests.seeds import shifted

IN, OUT = 2 * Vector + Scalar, Vector
GROUPS = [SO(3), SO2eR3(), Trivial(3)]
KNOWN = RPPPrior(equivariant_variance=1.0, dense_variance=0.3, scaling="none")


@pytest.fixture(scope="session")
def candidates():
    """A model for each group, by its name."""

    def make(prior=KNOWN, likelihood=None, groups=GROUPS, reps=(IN, OUT)):
        models = symmetry_candidates(*reps, groups, likelihood or Gaussian(0.25), layers=0, prior=prior)
        return {name: BayesianModel(m.network.double(), m.prior, m.likelihood) for name, m in models.items()}

    return make


@pytest.fixture(scope="session")
def drawn_from():
    """Inputs, and outputs by weights from the model's own prior."""

    def draw(model, count, seed):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(count, model.network.rep_in.size, generator=generator, dtype=torch.float64)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return x, model.pyro_model(x).detach()

    return draw


@pytest.fixture(scope="session")
def exactly():
    """A comparison by the exact evidence, which needs no mode."""

    def run(models, data, **options):
        return compare(
            models, data, engine=MAP(epochs=1), method=ExactEvidence(), progress=False, device="cpu", **options
        )

    return run


@pytest.fixture(scope="session")
def symmetric(candidates, drawn_from):
    """Data that are SO(3)-equivariant but for the noise."""
    return drawn_from(candidates()["SO(3)"], 40, seed=shifted(1))
