"""The geometric mean of equivariance errors over finite groups, whose identity has no error."""

import math

import pytest
import torch

from analysis import equivariance_error
from bayes_rpp import D, S, Scalar, T, Vector, Z


def literal_mean(f, x, rep, elements):
    """exp of the mean of the logarithms, one element and one point at a time."""
    logs = []
    for g in elements:
        for point in x:
            a, b = rep.rho(g) @ f(point[None])[0], f((rep.rho(g) @ point)[None])[0]
            logs.append(math.log(float((a - b).norm() / (a.norm() + b.norm()))))
    return math.exp(sum(logs) / len(logs))


def test_the_geometric_mean_is_over_elements_that_move_something():
    """The identity has no error, nor has the half turn of D(4), which moves no even tensor."""
    for rep, kept in ((Vector(Z(4)), 3), (Vector(S(4)), 23), (T(2)(D(4)), 6)):
        x = torch.randn(200, rep.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

        def shifting(x):
            return x + torch.arange(1.0, x.shape[1] + 1)

        elements = [g for g in rep.group.elements if not torch.equal(rep.rho(g), torch.eye(rep.size).double())]
        assert len(elements) == kept
        found = float(equivariance_error(shifting, x, rep_in=rep, rep_out=rep, reduction="geometric_mean"))
        expected = literal_mean(shifting, x[:40], rep, elements)
        assert found == pytest.approx(expected, rel=0.1)
    still = (4 * Scalar)(Z(4))
    with pytest.raises(ValueError, match="act as the identity on 4"):
        equivariance_error(lambda x: x, x[:, :4], rep_in=still, rep_out=still, reduction="geometric_mean")
