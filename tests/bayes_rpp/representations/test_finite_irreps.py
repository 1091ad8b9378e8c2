"""Irreducible representations of finite groups, against character theory."""

import itertools
import subprocess
import sys

import pytest
import torch

from bayes_rpp import Cube, D, Group, Regular, S, T, Vector, Z, equivariant_maps, irreps
from tests.scenarios.groups import A4, FINITE_GROUPS, Q8


def close(actual, expected, tolerance=1e-11):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def character(rep, elements):
    return torch.stack([torch.trace(rep.rho(g)) for g in elements])


def test_schur_and_the_sum_of_squares(subtests):
    for group in FINITE_GROUPS:
        with subtests.test(msg=str(group)):
            reps = irreps(group)
            ends = [equivariant_maps(rep, rep).rank for rep in reps]
            assert set(ends) <= {1, 2, 4}
            assert sum(rep.size**2 // end for rep, end in zip(reps, ends, strict=True)) == group.order
            for first, second in itertools.combinations(reps, 2):
                assert equivariant_maps(first, second).rank == 0
            assert [rep.size for rep in reps] == sorted(rep.size for rep in reps)
            elements = group.elements
            close(character(reps[0], elements), torch.ones(len(elements)).double())


EXPECTED = {
    str(Z(6)): ([1, 1, 2, 2], [1, 1, 2, 2]),
    str(D(3)): ([1, 1, 2], [1, 1, 1]),
    str(D(4)): ([1, 1, 1, 1, 2], [1, 1, 1, 1, 1]),
    str(S(4)): ([1, 1, 2, 3, 3], [1, 1, 1, 1, 1]),
    str(S(5)): ([1, 1, 4, 4, 5, 5, 6], [1] * 7),
    str(Cube()): ([1, 1, 2, 3, 3], [1] * 5),
    str(Q8): ([1, 1, 1, 1, 4], [1, 1, 1, 1, 4]),
    str(A4): ([1, 2, 3], [1, 2, 1]),
}


def test_dimensions_and_types_are_those_of_the_books(subtests):
    for group in [g for g in FINITE_GROUPS if str(g) in EXPECTED]:
        with subtests.test(msg=str(group)):
            reps = irreps(group)
            ranks = [equivariant_maps(rep, rep).rank for rep in reps]
            assert ([rep.size for rep in reps], ranks) == EXPECTED[str(group)]


def test_finite_irreps_are_orthogonal_homomorphisms(subtests):
    for group in FINITE_GROUPS:
        with subtests.test(msg=str(group)):
            generator = torch.Generator().manual_seed(0)
            for rep in irreps(group):
                for _ in range(10):
                    g, h = group.elements[torch.randint(group.order, (2,), generator=generator)]
                    close(rep.rho(g @ h), rep.rho(g) @ rep.rho(h))
                    close(rep.rho(g) @ rep.rho(g).mT, torch.eye(rep.size).double())


def test_regular_maps_are_the_group_algebra(subtests):
    for group in FINITE_GROUPS:
        with subtests.test(msg=str(group)):
            regular = Regular(group)
            assert regular.size == group.order
            assert equivariant_maps(regular, regular).rank == group.order
            for g in group.sample(5, seed=0):
                rho = regular.rho(g)
                assert torch.equal(rho @ rho.mT, torch.eye(group.order).double())
                fixed = group.order if torch.allclose(g, torch.eye(group.d).double()) else 0
                assert float(torch.trace(rho)) == fixed


def test_the_regular_representation_translates_functions_from_the_left(subtests):
    """(rho(g) f)(h) = f(g^-1 h): the indicator of h moves to that of gh."""
    for group in FINITE_GROUPS:
        with subtests.test(msg=str(group)):
            for g in group.sample(3, seed=1):
                rho = Regular(group).rho(g)
                for place in range(0, group.order, max(1, group.order // 7)):
                    target = int(rho[:, place].argmax())
                    close(group.elements[target], g @ group.elements[place], 1e-9)


def test_multiplicities_are_inner_products_of_characters(subtests):
    for group in FINITE_GROUPS:
        with subtests.test(msg=str(group)):
            reps = irreps(group)
            for whole in (Regular(group), Vector(group), T(2)(group)):
                total = character(whole, group.elements)
                size = 0
                for rep in reps:
                    inner = float((total * character(rep, group.elements)).mean())
                    rank, end = equivariant_maps(rep, whole).rank, equivariant_maps(rep, rep).rank
                    assert rank == pytest.approx(inner, abs=1e-9)
                    assert rank % end == 0
                    size += rank // end * rep.size
                assert size == whole.size


def test_another_process_finds_the_same_matrices():
    """Saved coordinates are in these bases."""
    code = (
        "import torch\nfrom bayes_rpp import *\n"
        "for g in (S(4), D(5), Cube()):\n"
        "    for rep in irreps(g):\n"
        "        for h in g.generators: print(*[f'{x:.9f}' for x in (rep.rho(h) + 0.0).flatten().tolist()])\n"
    )
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    numbers = torch.tensor([float(x) for x in elsewhere.split()], dtype=torch.float64)
    here = [rep.rho(h).flatten() for g in (S(4), D(5), Cube()) for rep in irreps(g) for h in g.generators]
    close(torch.cat(here), numbers, 2e-9)


@pytest.mark.parametrize("group", [S(4), D(6), Q8, A4], ids=str)
def test_the_order_of_the_generators_changes_nothing_essential(group):
    turned = Group(generators=group.generators.flip(0))
    tables = [sorted(tuple(character(r, group.elements).round(decimals=6).tolist()) for r in irreps(g))
              for g in (group, turned)]  # fmt: skip
    torch.testing.assert_close(torch.tensor(tables[0]), torch.tensor(tables[1]))
