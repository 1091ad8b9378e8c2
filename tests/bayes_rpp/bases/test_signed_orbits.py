"""Invariants of signed permutations by orbits, against the dense null space."""

from functools import reduce

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_rpp import D, Group, PseudoScalar, S, Scalar, T, Vector, equivariant_basis, equivariant_maps
from bayes_rpp.bases.orbit import OrbitBasis
from bayes_rpp.bases.signed_orbits import Orbits, signed_images, signed_orbits
from tests.scenarios.bases import dense_null_space

reproducible = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def signed_permutation(images, signs):
    matrix = np.zeros((len(images), len(images)))
    matrix[images, np.arange(len(images))] = signs
    return matrix


def signed_permutations(n):
    signs = st.lists(st.sampled_from([1.0, 1.0, -1.0]), min_size=n, max_size=n)
    return st.builds(signed_permutation, st.permutations(range(n)), signs)


@st.composite
def actions(draw):
    """Sizes of the axes, and for each generator a matrix on every axis."""
    sizes = draw(st.lists(st.integers(1, 5), max_size=3))
    count = draw(st.integers(0, 3))
    return sizes, [[draw(signed_permutations(n)) for n in sizes] for _ in range(count)]


def orbits_of(sizes, generators):
    return signed_orbits(sizes, [[signed_images(matrix) for matrix in axes] for axes in generators])


def dense_projector(sizes, generators):
    size = int(np.prod(sizes, dtype=int))
    rows = [reduce(np.kron, axes, np.ones((1, 1))) - np.eye(size) for axes in generators]
    _, singular, right = np.linalg.svd(np.concatenate([np.zeros((1, size)), *rows]))
    kept = right[np.count_nonzero(singular > 1e-9) :]
    return kept.T @ kept, len(kept)


@reproducible
@given(actions())
def test_orbits_span_the_dense_null_space(action):
    orbits, (projector, rank) = orbits_of(*action), dense_projector(*action)
    q = orbits.dense()
    assert orbits.rank == rank == q.shape[1]
    np.testing.assert_allclose(q.T @ q, np.eye(rank), rtol=0, atol=1e-13)
    np.testing.assert_allclose(q @ q.T, projector, rtol=0, atol=1e-12)


@reproducible
@given(actions())
def test_orbits_are_numbered_by_first_appearance_and_begin_with_plus(action):
    orbits = orbits_of(*action)
    first = {}
    for label, sign in zip(orbits.labels.tolist(), orbits.signs.tolist(), strict=True):
        if label >= 0:
            first.setdefault(label, sign)
    assert list(first) == list(range(orbits.rank))
    assert set(first.values()) <= {1}
    assert np.isin(orbits.signs, [-1, 1]).all()
    again = orbits.normalized()
    assert np.array_equal(again.labels, orbits.labels)
    assert np.array_equal(again.signs[again.labels >= 0], orbits.signs[orbits.labels >= 0])


@reproducible
@given(actions(), st.randoms(use_true_random=False))
def test_any_numbering_and_any_leading_sign_is_normalized_back(action, random):
    orbits = orbits_of(*action)
    numbers = list(range(orbits.rank))
    random.shuffle(numbers)
    flips = np.array([random.choice([-1, 1]) for _ in numbers] + [1])
    labels = np.array([numbers[label] if label >= 0 else -1 for label in orbits.labels])
    found = Orbits(labels, orbits.signs * flips[orbits.labels]).normalized()
    np.testing.assert_array_equal(found.dense(), orbits.dense())


@reproducible
@given(actions())
def test_the_operator_is_the_dense_matrix_forward_and_backward(action):
    orbits = orbits_of(*action)
    basis, q = OrbitBasis(orbits.labels, orbits.signs), torch.from_numpy(orbits.dense())
    assert (basis.rank, basis.size) == (orbits.rank, len(orbits.labels))
    own = basis.dense()
    torch.testing.assert_close(own @ own.mT, q @ q.mT, rtol=0, atol=1e-13)
    generator = torch.Generator().manual_seed(0)
    beta, vector = (torch.randn(2, 3, n, generator=generator).double() for n in (basis.rank, basis.size))
    torch.testing.assert_close(basis.expand(beta), beta @ own.mT, rtol=0, atol=1e-12)
    torch.testing.assert_close(basis.coordinates(vector), vector @ own, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.func.vmap(basis.project)(vector), vector @ own @ own.mT, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.func.jacrev(basis.expand)(beta[0, 0]), own, rtol=0, atol=0)
    torch.testing.assert_close(torch.func.jacrev(basis.coordinates)(vector[0, 0]), own.mT, rtol=0, atol=0)


@pytest.mark.parametrize("batch", [(), (4,), (2, 3), (0,)])
def test_rank_zero_maps_everything_to_nothing(batch):
    orbits = orbits_of([2, 3], [[-np.eye(2), np.eye(3)]])
    basis = OrbitBasis(orbits.labels, orbits.signs)
    assert (orbits.rank, basis.rank, basis.size) == (0, 0, 6)
    vector = torch.ones(*batch, 6, requires_grad=True)
    assert basis.coordinates(vector).shape == (*batch, 0)
    assert torch.equal(basis.project(vector), torch.zeros(*batch, 6))
    assert torch.equal(basis.expand(torch.zeros(*batch, 0)), torch.zeros(*batch, 6))
    assert torch.equal(torch.autograd.grad(basis.project(vector).sum(), vector)[0], torch.zeros(*batch, 6))
    assert torch.func.vmap(basis.coordinates)(torch.ones(5, 6)).shape == (5, 0)


def test_no_coordinates_at_all():
    basis = OrbitBasis(np.zeros(0, dtype=np.int64))
    assert (basis.rank, basis.size) == (0, 0)
    assert basis.project(torch.zeros(3, 0)).shape == (3, 0)


@pytest.mark.parametrize(
    "matrix",
    [
        np.array([[0.6, -0.8], [0.8, 0.6]]),
        np.array([[1.0, 1.0], [0.0, 1.0]]),
        np.array([[2.0, 0.0], [0.0, 0.5]]),
        np.array([[1.0, 1e-6], [0.0, 1.0]]),
    ],
    ids=["rotation", "shear", "squeeze", "nearly"],
)
def test_other_matrices_are_not_taken_for_signed_permutations(matrix):
    assert signed_images(matrix) is None


@reproducible
@given(st.integers(1, 6).flatmap(signed_permutations))
def test_signed_permutations_are_read_column_by_column(matrix):
    images, signs = signed_images(matrix)
    np.testing.assert_array_equal(signed_permutation(images, signs), matrix)


HYPEROCTAHEDRAL = Group(generators=[np.diag([-1.0, 1, 1]).tolist(), np.eye(3)[[1, 2, 0]].tolist()], name="B3")
SIGNED = [
    (D(4), Vector + T(2), Vector + PseudoScalar + Scalar),
    (D(2), T(2), T(2) + PseudoScalar),
    (S(4), PseudoScalar * Vector + Scalar, T(2) + PseudoScalar),
    (HYPEROCTAHEDRAL, 2 * T(2), T(2) + Vector + Scalar),
    (HYPEROCTAHEDRAL, Vector, Scalar),
]


@pytest.mark.parametrize(("group", "rep_in", "rep_out"), SIGNED, ids=str)
def test_groups_of_signed_permutations_have_orbits_for_a_basis(group, rep_in, rep_out):
    rep_in, rep_out = rep_in(group), rep_out(group)
    basis, expected = equivariant_maps(rep_in, rep_out), dense_null_space(rep_in, rep_out)
    assert isinstance(basis, OrbitBasis)
    assert basis.rank == expected.shape[1]
    torch.testing.assert_close(basis.dense() @ basis.dense().mT, expected @ expected.mT, rtol=0, atol=1e-12)


def test_rotations_by_other_angles_have_none():
    assert not isinstance(equivariant_basis(T(2)(D(5))), OrbitBasis)
