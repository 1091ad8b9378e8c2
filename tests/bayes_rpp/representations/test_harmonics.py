"""Irreducible representations of rotation groups, against spherical harmonics; and what is refused."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y

from bayes_rpp import (
    SL,
    SO,
    Irrep,
    O,
    PseudoScalar,
    Regular,
    S,
    T,
    Z,
    equivariant_basis,
    equivariant_maps,
    irreps,
)

rotation_groups = pytest.mark.parametrize("group", [SO(3), O(3)], ids=str)


def rotation(axis, angle):
    generator = SO(3).lie_algebra[[2, 1, 0][axis]] * (1, -1, 1)[axis]
    return torch.linalg.matrix_exp(angle * generator)


def euler(alpha, beta, gamma):
    return rotation(2, alpha) @ rotation(1, beta) @ rotation(2, gamma)


def harmonics(degree, x):
    """The real spherical harmonics at points (count, 3), from scipy's complex ones."""
    x = x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True)
    theta, phi = np.arccos(np.clip(x[:, 2], -1, 1)), np.arctan2(x[:, 1], x[:, 0])
    columns = []
    for m in range(-degree, degree + 1):
        value = sph_harm_y(degree, abs(m), theta, phi)
        sign = math.sqrt(2) * (-1) ** m
        columns.append(value.real if m == 0 else sign * value.real if m > 0 else sign * value.imag)
    return torch.from_numpy(np.stack(columns, 1))


def points(count=20):
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def close(actual, expected, tolerance=1e-11):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def character(rep, elements):
    return torch.stack([torch.trace(rep.rho(g)) for g in elements])


POLES = [0.0, 1e-15, 1e-9, 1e-5, math.pi - 1e-9, math.pi - 1e-15, math.pi]


def test_harmonics_at_turned_points_are_turned_harmonics(subtests):
    for group in [SO(3), O(3)]:
        for degree in range(5):
            with subtests.test(msg=f"degree {degree} of {group}"):
                rep, x = Irrep(degree)(group), points()
                for g in group.sample(10, seed=1):
                    close(harmonics(degree, x @ g.mT), harmonics(degree, x) @ rep.rho(g).mT)


def test_the_poles_of_the_euler_angles_are_no_special_places(subtests):
    for degree in range(5):
        for beta in POLES:
            with subtests.test(msg=f"degree {degree}, beta = {beta}"):
                rep, x = Irrep(degree)(O(3)), points()
                for alpha, gamma in itertools.product([0.0, 0.7, math.pi, -2.0], repeat=2):
                    g = euler(alpha, beta, gamma)
                    for element in (g, -g):
                        close(harmonics(degree, x @ element.mT), harmonics(degree, x) @ rep.rho(element).mT, 1e-10)


def test_products_go_to_products_of_orthogonal_matrices(subtests):
    for group in [SO(3), O(3)]:
        for degree in range(5):
            with subtests.test(msg=f"degree {degree} of {group}"):
                rep, g = Irrep(degree)(group), group.sample(20, seed=2)
                rho = [rep.rho(element) for element in g]
                for k in range(10):
                    close(rep.rho(g[k] @ g[k + 10]), rho[k] @ rho[k + 10])
                    close(rho[k] @ rho[k].mT, torch.eye(rep.size).double())
                close(rep.rho(torch.eye(3).double()), torch.eye(rep.size).double())


def test_the_derivative_is_that_of_the_matrices(subtests):
    for group in [SO(2), O(2), SO(3), O(3)]:
        for degree in range(5):
            with subtests.test(msg=f"degree {degree} of {group}"):
                rep, step = Irrep(degree)(group), 1e-4
                for a in group.lie_algebra:
                    ahead, back = (rep.rho(torch.linalg.matrix_exp(sign * step * a)) for sign in (1, -1))
                    close((ahead - back) / (2 * step), rep.drho(a), 1e-6)
                    close(torch.linalg.matrix_exp(0.3 * rep.drho(a)), rep.rho(torch.linalg.matrix_exp(0.3 * a)))


@rotation_groups
def test_degree_one_is_y_z_x(group):
    for g in group.sample(5, seed=0):
        close(Irrep(1)(group).rho(g), g[[1, 2, 0]][:, [1, 2, 0]])


def test_single_precision_elements(subtests):
    for group in [SO(2), O(2), SO(3), O(3)]:
        for degree in range(5):
            with subtests.test(msg=f"degree {degree} of {group}"):
                rep, x = Irrep(degree)(group), torch.randn(7, Irrep(degree)(group).size)
                for g in group.sample(5, seed=3):
                    assert rep.rho(g.float()).dtype == torch.float32
                    close(rep.rho(g.float()).double(), rep.rho(g), 5e-6)
                    close(rep.apply(g.float(), x), x @ rep.rho(g).float().mT, 1e-5)


@pytest.mark.parametrize("degree", range(1, 5))
def test_planar_harmonics_are_powers_of_x_plus_iy(degree):
    rep, z = Irrep(degree)(O(2)), points()[:, :2].contiguous()
    power = torch.view_as_real(torch.view_as_complex(z) ** degree)
    for g in O(2).sample(10, seed=0):
        moved = torch.view_as_real(torch.view_as_complex((z @ g.mT).contiguous()) ** degree)
        close(moved, power @ rep.rho(g).mT, 1e-10)


def test_clebsch_and_gordan(subtests):
    for a, b in list(itertools.combinations_with_replacement(range(4), 2)):
        with subtests.test(msg=f"{a} x {b}"):
            for c in range(a + b + 2):
                maps = equivariant_maps((Irrep(a) * Irrep(b))(SO(3)), Irrep(c)(SO(3)))
                assert maps.rank == int(abs(a - b) <= c <= a + b)


def test_parity_decides_under_reflections():
    plain, odd = [(Irrep(k))(O(3)) for k in range(4)], [(PseudoScalar * Irrep(k))(O(3)) for k in range(4)]
    for first, second in itertools.product(range(4), repeat=2):
        same = int(first == second)
        assert equivariant_maps(plain[first], plain[second]).rank == same
        assert equivariant_maps(odd[first], odd[second]).rank == same
        assert equivariant_maps(plain[first], odd[second]).rank == 0
    # The cross product: two vectors make a pseudovector, and no vector.
    assert equivariant_maps((Irrep(1) * Irrep(1))(O(3)), odd[1]).rank == 1
    assert equivariant_maps((Irrep(1) * Irrep(1))(O(3)), plain[1]).rank == 0


@rotation_groups
def test_a_matrix_is_a_trace_an_axial_vector_and_a_symmetric_rest(group):
    parts = Irrep(0) + PseudoScalar * Irrep(1) + Irrep(2)
    for g in group.sample(10, seed=4):
        close(character(T(2)(group), [g]), character(parts(group), [g]))
    basis = equivariant_maps(T(2)(group), parts(group))
    assert basis.rank == 3
    combined = basis.expand(torch.ones(3).double()).reshape(9, 9)
    assert torch.linalg.matrix_rank(combined) == 9


@pytest.mark.parametrize(("group", "expected"), [(SO(2), 2), (O(2), 1)], ids=str)
def test_planar_degrees_are_irreducible_and_different(group, expected):
    reps = irreps(group, up_to=4)
    assert [rep.size for rep in reps] == [1, 2, 2, 2, 2]
    for first, second in itertools.combinations_with_replacement(range(5), 2):
        rank = equivariant_maps(reps[first], reps[second]).rank
        assert rank == (0 if first != second else 1 if first == 0 else expected)


@pytest.mark.parametrize("value", [-1, 1.5, "2", None, True])
def test_degrees_that_are_no_natural_numbers_are_refused(value):
    with pytest.raises(ValueError, match="non-negative integer"):
        Irrep(value)


def test_what_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"S\(3\) has 3 irreducible.*there is no Irrep\(3\)"):
        _ = Irrep(3)(S(3)).size
    with pytest.raises(ValueError, match=r"not known here.*matrix_rep"):
        _ = Irrep(1)(SL(2)).size
    with pytest.raises(ValueError, match=r"regular representation of SO\(3\)"):
        _ = Regular(SO(3)).size
    with pytest.raises(ValueError, match=r"infinitely many.*up_to"):
        irreps(SO(3))


def test_a_negative_largest_degree_is_refused():
    with pytest.raises(ValueError, match="up_to"):
        irreps(SO(3), up_to=-1)


def test_products_have_irreps_on_their_factors():
    group = SO(3) * S(3)
    rep = Irrep(1)(SO(3))(group) * Irrep(2)(S(3))
    assert rep.size == 6
    assert equivariant_maps(rep, rep).rank == 1
    assert equivariant_basis(rep).rank == 0


@pytest.mark.parametrize("group", [Z(2) * Z(3), SO(3) * Z(3)], ids=str)
def test_irreps_of_a_product_are_refused_in_words_about_products(group):
    with pytest.raises(ValueError, match=r"irreps.*factor"):
        irreps(group)
