"""The equivariance error of each output, a piece of its representation, and of each column of it."""

import itertools

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


def signed_permutations(n):
    """All signed permutation matrices, (2^n n!, n, n): a finite group whose vectors are irreducible."""
    signs = torch.cartesian_prod(*[torch.tensor([1.0, -1.0], dtype=torch.float64)] * n)
    orders = torch.stack([torch.eye(n, dtype=torch.float64)[list(order)] for order in itertools.permutations(range(n))])
    return (signs[:, None, :, None] * orders).flatten(0, 1)


@pytest.mark.parametrize("per_element", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_column_has_its_residual_over_the_norms_of_its_piece(reduction, per_element):
    x, g, dims = numbers(6, 6, seed=3), O(3).sample(4, seed=1), ["element"] if per_element else []
    options = {"reduction": reduction, "elements": g, "per_element": per_element, **REPS}
    found = equivariance_error(generic, x, per_column=True, **options)
    pieces = equivariance_error(generic, x, per_output=True, **options)
    assert found.dims == (*dims, "column")
    a = torch.stack([REP_OUT.apply(one, generic(x)) for one in g])
    b = torch.stack([generic(REP_IN.apply(one, x)) for one in g])
    over = (1,) if per_element else (0, 1)
    for name, columns in PIECES.items():
        left, right = a[..., columns].norm(dim=-1, keepdim=True), b[..., columns].norm(dim=-1, keepdim=True)
        residual = (a - b)[..., columns].abs()
        if reduction == "ratio_of_norms":
            sums = [part.square().sum(over).sqrt() for part in (residual, left, right)]
            expected = sums[0] / (sums[1] + sums[2])
        else:
            ratio = residual / (left + right)
            expected = ratio.mean(over) if reduction == "mean_of_ratios" else ratio.log().mean(over).exp()
        errors, whole = found[..., columns], pieces.sel(output=name)
        assert set(errors.output.values) == {name}
        np.testing.assert_allclose(errors, expected, rtol=1e-10)
        root = (errors**2).sum("column") ** 0.5
        if reduction == "ratio_of_norms":
            np.testing.assert_allclose(root, whole, rtol=1e-12)
        assert (root <= whole * (1 + 1e-12)).all()
        if reduction == "mean_of_ratios":
            assert (whole <= errors.sum("column") * (1 + 1e-12)).all()


def test_a_column_is_named_by_its_index_in_the_piece_or_as_it_is_given(fit_small, bodies):
    posterior, x = fit_small(bodies), bodies.test.x
    tensor = equivariance_error(posterior, x, per_column=True)
    assert (tensor.dims, tensor.column.values[5]) == (("chain", "draw", "column"), "T(2)[1, 2]")
    mine = [f"I_{i}{j}" for i in "xyz" for j in "xyz"]
    named = equivariance_error(posterior, x, per_column=mine)
    assert named.column.values.tolist() == mine
    np.testing.assert_array_equal(named, tensor)
    pieces = equivariance_error(generic, numbers(1, 6), per_column=True, **REPS).column.values.tolist()
    assert pieces[:5] == ["Scalar 0", "Vector 0[0]", "Vector 0[1]", "Vector 0[2]", "Vector 1[0]"]
    for options, message in (
        ({"per_column": True, "per_output": True}, "per_output or per_column, not both"),
        ({"per_column": mine[1:]}, r"each of the 9 columns of rep_out = T\(2\) once, got 8 names"),
        ({"per_column": mine[:8] * 2}, "got 16 names, 8 of them different"),
        ({"per_column": "I"}, "got 1 names"),
    ):
        with pytest.raises(ValueError, match=message):
            equivariance_error(posterior, x, **options)


def test_only_the_column_that_breaks_an_invariance_has_an_error():
    def f(x):
        invariants = torch.stack([x[:, :3].norm(dim=-1), (x[:, :3] * x[:, 3:]).sum(-1), x[:, 3:].norm(dim=-1)], dim=1)
        return invariants + x[:, :1] * torch.tensor([0.0, 1.0, 0.0]).to(x)

    reps = {"rep_in": REP_IN, "rep_out": (3 * Scalar)(O(3))}
    error = equivariance_error(f, numbers(20, 6), per_column=["length", "product", "other length"], **reps)
    assert float(error.sel(column="product")) > 0.05
    assert float(error.drop_sel(column="product").max()) < 1e-12


@pytest.mark.parametrize("n", [2, 3])
def test_what_breaks_in_one_column_of_a_vector_is_mostly_seen_there(n):
    """A constant in one column has (1 + 1/n) / 2 of the squares there, and 1/(2n) of them in each other column."""
    rep, broken = Vector(O(n)), torch.zeros(n, dtype=torch.float64)
    broken[1] = 0.3
    error = equivariance_error(
        lambda x: x + broken, numbers(5, n), None, "ratio_of_norms",
        rep_in=rep, rep_out=rep, elements=signed_permutations(n), per_column=True,
    )  # fmt: skip
    shares = [1 / (2 * n)] * n
    shares[1] = (1 + 1 / n) / 2
    np.testing.assert_allclose(error**2 / (error**2).sum(), shares, rtol=1e-12)
