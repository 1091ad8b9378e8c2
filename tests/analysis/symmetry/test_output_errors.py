"""The equivariance error of each output, a piece of its representation."""

import numpy as np
import pytest
import torch

from analysis import equivariance_error
from bayes_rpp import SO, Irrep, O, O2eR3, PseudoScalar, Scalar, T, Vector

REDUCTIONS = ["mean_of_ratios", "ratio_of_norms", "geometric_mean"]
REP_IN, REP_OUT = (2 * Vector)(O(3)), (Scalar + 2 * Vector + T(2) + Scalar)(O(3))
PIECES = {"Scalar 0": [0], "Vector 0": [1, 2, 3], "Vector 1": [4, 5, 6], "T(2)": list(range(7, 16)), "Scalar 1": [16]}
REPS = {"rep_in": REP_IN, "rep_out": REP_OUT}


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def generic(x):
    """A map that keeps no symmetry."""
    return torch.tanh(x @ numbers(6, 17)) + (x @ numbers(6, 17, seed=1)).square()


def of_piece(columns):
    return lambda x: generic(x)[:, columns]


@pytest.mark.parametrize("per_element", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_piece_has_the_error_of_its_coordinates_alone(reduction, per_element):
    x, options = numbers(6, 6, seed=3), {"reduction": reduction, "per_element": per_element, "elements": 4, "seed": 1}
    found = equivariance_error(generic, x, per_output=True, **REPS, **options)
    assert found.dims == (*(["element"] if per_element else []), "output")
    assert found.output.values.tolist() == list(PIECES)
    for (name, columns), rep in zip(PIECES.items(), (Scalar, Vector, Vector, T(2), Scalar), strict=True):
        alone = equivariance_error(of_piece(columns), x, rep_in=REP_IN, rep_out=rep(O(3)), **options)
        np.testing.assert_allclose(found.sel(output=name), alone, rtol=1e-12)
    if per_element:
        assert found.attrs["elements"].shape == (4, 3, 3)


def test_only_the_output_that_breaks_the_symmetry_has_an_error():
    def f(x):
        first, second = x[:, :3], x[:, 3:]
        broken = second * torch.tensor([1.0, 1.0, 2.0]).to(x)
        outer = torch.einsum("bi,bj->bij", first, second).flatten(1)
        inner = (first * second).sum(-1, keepdim=True)
        return torch.cat([inner, first, broken, outer, inner**2], dim=1)

    error = equivariance_error(f, numbers(20, 6), per_output=True, **REPS)
    assert float(error.sel(output="Vector 1")) > 0.05
    assert float(error.drop_sel(output="Vector 1").max()) < 1e-12


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_single_piece_has_the_error_of_the_whole(reduction, fit_small, bodies):
    posterior = fit_small(bodies)
    whole = equivariance_error(posterior, bodies.test.x, reduction=reduction)
    split = equivariance_error(posterior, bodies.test.x, reduction=reduction, per_output=True)
    assert (split.dims, split.output.values.tolist()) == (("chain", "draw", "output"), ["T(2)"])
    np.testing.assert_array_equal(split[..., 0], whole)
    each = equivariance_error(posterior, bodies.test.x, per_element=True, per_output=True, elements=2)
    assert each.dims == ("chain", "draw", "element", "output")


def test_pieces_are_named_as_the_group_sees_them():
    def names(rep, group):
        x = torch.ones(1, rep(group).size)
        return equivariance_error(
            lambda v: v, x, group, rep_in=rep, rep_out=rep, per_output=True
        ).output.values.tolist()

    assert names(PseudoScalar + Scalar, O(3)) == ["PseudoScalar", "Scalar"]
    assert names(PseudoScalar + Scalar, SO(3)) == ["Scalar 0", "Scalar 1"]
    assert names(Vector + Irrep(1), SO(3)) == ["Vector", "Irrep(1)"]
    product = SO(3) * SO(2)
    rep = Vector(SO(3)) * Vector(SO(2)) + Vector(SO(2))
    assert names(rep, product) == ["T(1)(SO(3))*T(1)(SO(2))", "Vector(SO(2))"]


def test_a_subgroup_has_its_own_errors():
    """diag(1, 1, 2) commutes with the rotations about z."""
    x, reps = numbers(9, 6), {"rep_in": REP_IN, "rep_out": (2 * Vector)(O(3))}

    def f(v):
        return torch.cat([v[:, :3], v[:, 3:] * torch.tensor([1.0, 1.0, 2.0]).to(v)], dim=1)

    narrow = equivariance_error(f, x, O2eR3(), per_output=True, **reps)
    wide = equivariance_error(f, x, per_output=True, **reps)
    assert float(narrow.max()) < 1e-12
    assert (wide > 1e-2).values.tolist() == [False, True]
