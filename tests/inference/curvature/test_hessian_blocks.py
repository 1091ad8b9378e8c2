"""The prior's part of a precision against inverted dense covariances, whatever the bases are."""

import io
import sys

import pytest
import torch

from bayes_rpp import (
    RPPEMLP,
    SO,
    BayesianModel,
    Gaussian,
    LogDensity,
    O,
    O2eR3,
    PathwayNormal,
    RPPPrior,
    Scalar,
    Vector,
)
from bayes_rpp.bases.dense import DenseBasis
from inference import MAP, Laplace
from inference.curvature import hessian_blocks as precision
from inference.curvature.block_structure import Structure
from inference.curvature.gauss_newton import hessian_at_fixed_outputs
from inference.curvature.hessian_blocks import exact_precision, parameter_precision
from inference.density.unconstrained import UnconstrainedDensity
from inference.laplace import find_mode as mode_search


def random_basis(rank, seed):
    generator = torch.Generator().manual_seed(seed)
    return DenseBasis(torch.linalg.qr(torch.randn(21, rank, generator=generator, dtype=torch.float64)).Q)


PATHWAYS = {
    "none": [],
    "one": [random_basis(4, 0)],
    "orthogonal": [DenseBasis(part) for part in random_basis(7, 1).dense().split([3, 4], dim=1)],
    "oblique": [random_basis(3, 2), random_basis(4, 3)],
}


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("bases", PATHWAYS.values(), ids=list(PATHWAYS))
def test_precision_of_pathways_is_the_inverse_covariance(make_linear_problem, bases, diagonal):
    model, data = make_linear_problem("collapsed")
    density = UnconstrainedDensity(model, data, temperature=2.0)
    variances = torch.tensor([0.3, 1.7, 0.6], dtype=torch.float64)[: 1 + len(bases)].requires_grad_()

    def found(variances):
        law = PathwayNormal((3, 7), variances[0], bases, list(variances[1:]), validate_args=False)
        return parameter_precision(density, "network.0.weight", law, density.initial([0])[0], diagonal)

    covariance = variances[0].detach() * torch.eye(21, dtype=torch.float64)
    for basis, variance in zip(bases, variances[1:].detach(), strict=True):
        covariance = covariance + variance * basis.dense() @ basis.dense().mT
    exact = torch.linalg.inv(covariance) / 2
    torch.testing.assert_close(found(variances).detach(), exact.diagonal() if diagonal else exact)
    assert torch.autograd.gradcheck(found, variances)


@pytest.mark.parametrize("group", [SO(3), [O(3), O2eR3()]])
def test_precision_of_a_model_is_the_hessian_of_its_density(group):
    """Of the noise too, whose prior is no Gaussian in the free coordinate."""
    net = RPPEMLP(Vector + Scalar, Vector, group, channels=6, layers=1, parametrization="collapsed").double()
    model = BayesianModel(net, RPPPrior(1.0, 0.1), Gaussian(0.1, learned=True, per_output=True))
    density = UnconstrainedDensity(model, (torch.ones(2, 4).double(), torch.zeros(2, 3).double()), temperature=1.5)
    z = density.initial([0])[0]
    for name, law in model.prior_distributions.items():
        matrix = parameter_precision(density, name, law, z, diagonal=False)
        of_density = parameter_precision(density, name, _Opaque(law), z, diagonal=False)
        torch.testing.assert_close(matrix, of_density, rtol=1e-9, atol=1e-9 * float(matrix.abs().max()))
        if name != "noise_variance":
            torch.testing.assert_close(matrix, hessian_at_fixed_outputs(density, name, z), rtol=1e-9, atol=1e-9)


class _Opaque:
    """A distribution of which nothing is known but its density."""

    def __init__(self, law):
        self.log_prob = law.log_prob


def test_exact_hessian_comes_in_pieces(monkeypatch):
    monkeypatch.setattr(precision, "_ROWS_AT_ONCE", 2)
    log_density = LogDensity(
        lambda p: -(p["a"].pow(4).sum() + p["a"].sum().square() * p["b"].exp().sum()),
        {"a": torch.ones(3).double(), "b": torch.ones(2).double()},
    )
    density = UnconstrainedDensity(log_density, None)
    z = torch.arange(5, dtype=torch.float64) / 3
    dense = torch.func.hessian(density.potential)(z)
    for curvature in ("full", "layer", "diagonal"):
        structure = Structure.of(density, curvature)
        for place, block in zip(structure.spans, exact_precision(density, z, structure, False), strict=True):
            part = dense[place, place]
            torch.testing.assert_close(block, part.diagonal() if curvature == "diagonal" else part)


@pytest.mark.parametrize(("progress", "shown"), [(True, True), (False, False)])
def test_bars_show_in_a_terminal(make_linear_problem, monkeypatch, progress, shown):
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(precision, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(mode_search, "QUIET_SECONDS", 0.0)
    model, data = make_linear_problem()
    Laplace(mode=MAP(epochs=2), draws=2).fit(model, data, seed=0, progress=progress)
    assert ("Gauss-Newton matrix: 100%" in stream.getvalue()) is shown
    assert ("mode: 1step" in stream.getvalue()) is shown
