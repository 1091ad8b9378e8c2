"""Subspaces of matrices: angles, means, closure under brackets, and the names of known algebras in any coordinates."""

import math

import pytest
import torch

from analysis.discovery.subalgebra import Subalgebra, structure_constants
from analysis.discovery.subalgebra_names import recognise
from analysis.discovery.subspaces import mean_subspace, principal_angles
from bayes_rpp import SL, SO, SO13p, Sp

ONE = torch.eye(4, dtype=torch.float64)


def all_matrices(d):
    return 2**0.5 * torch.eye(d * d, dtype=torch.float64).unflatten(1, (d, d))


def spanned(matrices, noise=0.0, seed=0):
    """The span of matrices among all, turned a little at random."""
    directions = all_matrices(matrices[0].shape[-1])
    coordinates = torch.stack([torch.einsum("kij,ij->k", directions, a) / 2 for a in matrices], 1)
    basis = torch.linalg.qr(coordinates).Q
    generator = torch.Generator().manual_seed(seed)
    moved = basis + noise * torch.randn(basis.shape, generator=generator, dtype=torch.float64)
    return Subalgebra(directions, torch.linalg.qr(moved).Q)


def change_of_coordinates(d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.eye(d, dtype=torch.float64) + 0.3 * torch.randn(d, d, generator=generator, dtype=torch.float64)


def test_principal_angles_are_those_between_planes_that_were_turned():
    for angles in ([0.3, 1.2], [1e-9, 0.5], [0.0, math.pi / 2]):
        first = torch.eye(5, dtype=torch.float64)[:, :2]
        second = torch.zeros(5, 2, dtype=torch.float64)
        for column, angle in enumerate(angles):
            second[column, column], second[2 + column, column] = math.cos(angle), math.sin(angle)
        turn = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
        mixed = second @ torch.linalg.qr(torch.randn(2, 2, dtype=torch.float64)).Q
        expected = torch.tensor(sorted(angles, reverse=True), dtype=torch.float64)
        torch.testing.assert_close(principal_angles(turn @ first, turn @ mixed), expected, rtol=1e-6, atol=1e-14)
    line = torch.eye(5, dtype=torch.float64)[:, :1]
    assert principal_angles(line, first).tolist() == [0.0]


def test_the_mean_of_subspaces_knows_no_signs():
    line = torch.tensor([[3.0], [4.0], [0.0]], dtype=torch.float64) / 5
    away = torch.tensor([[-0.08], [0.06], [0.0]], dtype=torch.float64)
    draws = torch.stack([line + away, -(line - away), line, -line])
    draws = draws / draws.norm(dim=1, keepdim=True)
    assert principal_angles(mean_subspace(draws), line)[0] < 1e-12
    assert mean_subspace(draws[:, :, :0]).shape == (3, 0)


def test_structure_constants_give_the_brackets():
    algebra = 2**0.5 * SO(4).orthonormal_algebra
    constants = structure_constants(algebra)
    for i, j in ((0, 1), (0, 5), (3, 2)):
        bracket = algebra[i] @ algebra[j] - algebra[j] @ algebra[i]
        torch.testing.assert_close(torch.einsum("l,lab->ab", constants[i, j], algebra), bracket)


@pytest.mark.parametrize("group", [SO(3), SO(4), SO13p(), Sp(2), SL(3)])
def test_the_nearest_subalgebra_of_one_that_was_disturbed(group):
    d = group.d
    change = change_of_coordinates(d)
    matrices = change @ group.lie_algebra @ torch.linalg.inv(change)
    exact = spanned(matrices)
    assert exact.bracket_defect < 1e-12
    assert principal_angles(exact.closed().basis, exact.basis)[0] < 1e-12
    for seed in range(3):
        disturbed = spanned(matrices, 0.01, seed)
        closed = disturbed.closed()
        assert closed.bracket_defect < 1e-9
        before, after = (principal_angles(each, exact.basis).norm() for each in (disturbed.basis, closed.basis))
        assert after < before or group == SL(3)  # which has no neighbours: every change of one direction is a turn
    generator = torch.Generator().manual_seed(0)
    random = torch.linalg.qr(torch.randn(*exact.basis.shape, generator=generator, dtype=torch.float64)).Q
    assert Subalgebra(exact.directions, random).bracket_defect > 0.1


ROTATION = torch.zeros(3, 3, dtype=torch.float64)
ROTATION[0, 1], ROTATION[1, 0] = -1.0, 1.0
KNOWN = {
    "rotations": list(SO(3).lie_algebra),
    "rotations, and scalings of all axes": [*SO(4).lie_algebra, ONE],
    "rotations about (0.00, 0.00, 1.00)": [ROTATION],
    "rotations about (0.00, 0.00, 1.00), and scalings of all axes": [ROTATION, ONE[:3, :3]],
    "rotations of the space of axes 1, 2, 3": [torch.block_diag(ONE[:1, :1] * 0, a) for a in SO(3).lie_algebra],
    "scalings of all axes": [ONE],
    "stretches of the space of axis 2": [ONE.diagonal().diag() * torch.tensor([0, 0, 1, 0])],
    "so(1, 3), of the form diag(1.00, -1.00, -1.00, -1.00)": list(SO13p().lie_algebra),
    "so(1, 1), of the form diag(1.00, -1.00) of the space of axes 0, 1": [SO13p().lie_algebra[0]],
    "sp(2), of a symplectic form": list(Sp(2).lie_algebra),
    "matrices of trace 0": list(SL(3).lie_algebra),
    "all matrices": list(all_matrices(3)),
}


def test_known_algebras_are_recognised_near_by_and_in_other_coordinates():
    for words, matrices in KNOWN.items():
        d = matrices[0].shape[-1]
        found = recognise(spanned(matrices))
        assert (found.words, found.angle < 1e-12) == (words, True)
        near = recognise(spanned(matrices, 0.003))
        assert near.words.split(",")[0].split(" about")[0] == words.split(",")[0].split(" about")[0]
        assert near.angle < 0.05
        change = change_of_coordinates(d, seed=1)
        other = spanned([change @ a @ torch.linalg.inv(change) for a in matrices])
        elsewhere = recognise(other)
        assert elsewhere.words[:5] == words[:5]
        assert principal_angles(elsewhere.algebra.basis, other.basis).norm() < 1e-9
    assert (
        recognise(Subalgebra(all_matrices(3), torch.zeros(9, 0, dtype=torch.float64))).words
        == "nothing but the identity"
    )


def test_what_has_no_name_gets_none():
    generator = torch.Generator().manual_seed(0)
    for d, r in ((3, 3), (4, 6), (4, 2)):
        random = torch.linalg.qr(torch.randn(d * d, r, generator=generator, dtype=torch.float64)).Q
        assert recognise(Subalgebra(all_matrices(d), random)) is None
    spiral = torch.block_diag(ROTATION, ONE[:1, :1])
    assert recognise(spanned([spiral])) is None
