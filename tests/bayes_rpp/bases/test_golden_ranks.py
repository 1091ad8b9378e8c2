"""Ranks of equivariant bases: a table from an independent library and solver, and counts in closed form."""

import math

import pytest
import torch

from bayes_rpp import equivariant_maps, parse_group, parse_rep

# Where two independent float64 counts (null space, orbits) and the EMLP library agreed; for Rubik's cube the orbits.
GOLDEN = """
Cube | 34*Scalar + 5*T(1) | 34*Scalar + 5*T(1) | 1571
D(2) | T(1) | T(1) | 2
D(2) | T(2) | T(2) | 8
D(3) | T(1) | T(1) | 1
D(3) | T(1) | T(2) | 1
D(4) | 16*Scalar + 8*T(1) + 4*T(2) + 2*T(3) | 16*Scalar + 8*T(1) + 4*T(2) + 2*T(3) | 704
D(4) | T(2) | T(2) | 4
D(5) | T(1) | T(1) | 1
D(6) | T(1) | T(1) | 1
DkeR3(3) | 102*Scalar + 34*T(1) + 11*T(2) + 3*T(3) | 150*Scalar + 34*T(1) + 11*T(2) + 3*T(3) | 47598
DkeR3(3) | T(1) | T(1) | 2
DkeR3(3) | T(1) | T(2) | 5
DkeR3(3) | T(2) | T(2) | 14
Lorentz | 4*T(1) | Scalar | 0
O(2) | 5*Scalar + 5*T(1) | T(2) | 5
O(2) | T(1) | T(1) | 1
O(2) | T(2) | T(2) | 3
O(3) | 102*Scalar + 34*T(1) + 11*T(2) + 3*T(3) | T(2) | 135
O(3) | 25*Scalar + 7*T(1) + 2*T(2) | 25*Scalar + 7*T(1) + 2*T(2) | 786
O(3) | 4*T(1) | Scalar | 0
O(3) | T(2) | T(2) | 3
O(3) | T(3) | T(3) | 15
O(3) * Z(4) | Vector(O(3)) * Vector(Z(4)) | T(2)(O(3)) * Vector(Z(4)) | 0
O13 | 24*Scalar + 3*T(1) + 3*T(0,1) + T(1,1) | 24*Scalar + 3*T(1) + 3*T(0,1) + T(1,1) | 663
O13 | T(1) | T(0,1) | 1
O13 | T(1) | T(2) | 0
O13 | T(1,1) | T(1,1) | 3
O13 | T(2) | Scalar | 1
O2eR3 | 102*Scalar + 34*T(1) + 11*T(2) + 3*T(3) | 150*Scalar + 34*T(1) + 11*T(2) + 3*T(3) | 43345
O2eR3 | 4*T(1) | Scalar | 4
O2eR3 | T(1) | T(1) | 2
RubiksCube | T(1) | Scalar | 2
RubiksCube | T(2) | Scalar | 9
S(3) | T(2) | T(2) | 14
S(5) | 134*Scalar + 25*T(1) + 5*T(2) | 134*Scalar + 25*T(1) + 5*T(2) | 30211
S(5) | 2*Scalar + 3*T(1) + T(2) | T(1) + T(2) | 47
S(5) | 34*Scalar + 6*T(1) | 34*Scalar + 6*T(1) | 1636
S(5) | 53*Scalar + 10*T(1) + T(2) | 53*Scalar + 10*T(1) + T(2) | 4396
S(6) | T(1) | T(1) | 2
SL(2) | 64*Scalar + 16*T(1) + 16*T(0,1) + 4*T(0,2) + 8*T(1,1) + 4*T(2) + T(3) + \
    3*T(2,1) + 3*T(1,2) + T(0,3) + T(3,1) + 3*T(2,2) + T(2,3) + T(3,2) \
    | 126*Scalar + 16*T(1) + 16*T(0,1) + 4*T(0,2) + 8*T(1,1) + 4*T(2) + T(3) + \
    3*T(2,1) + 3*T(1,2) + T(0,3) + T(3,1) + T(4) + 2*T(2,2) + 2*T(3,2) | 17624
SL(2) | T(1) | T(0,1) | 1
SL(2) | T(1) | T(1) | 1
SL(2) | T(1,1) | T(1,1) | 2
SL(3) | 102*Scalar + 17*T(1) + 17*T(0,1) + 2*T(2) + 2*T(0,2) + 7*T(1,1) + T(1,2) + 2*T(2,1) \
    | 150*Scalar + 17*T(1) + 17*T(0,1) + 4*T(2) + 2*T(0,2) + 5*T(1,1) + T(1,2) + 2*T(2,1) | 17978
SL(3) | 2*T(1) + 2*T(0,1) | Scalar + T(1,1) | 0
SL(3) | 25*Scalar + 4*T(1) + 3*T(0,1) + 2*T(1,1) | 25*Scalar + 4*T(1) + 3*T(0,1) + 2*T(1,1) | 758
SL(3) | 38*Scalar + 6*T(1) + 6*T(0,1) + 3*T(1,1) + T(2,1) | 54*Scalar + 6*T(1) + 6*T(0,1) + 3*T(1,1) + T(3) | 2477
SL(3) | T(1) | T(0,1) | 0
SL(3) | T(1) | T(1) | 1
SL(3) | T(1,1) | T(1,1) | 2
SL(3) | T(3) | T(0,3) | 5
SO(2) | 5*Scalar + 5*T(1) | T(2) | 10
SO(2) | T(1) | T(1) | 2
SO(2) | T(1) | T(2) | 0
SO(3) | 102*Scalar + 34*T(1) + 11*T(2) + 3*T(3) | 150*Scalar + 34*T(1) + 11*T(2) + 3*T(3) | 22238
SO(3) | T(1) | T(1) | 1
SO(3) | T(1) | T(2) | 1
SO(3) | T(2) | T(2) | 3
SO(3) | T(3) | T(3) | 15
SO(3) * S(5) | T(2)(SO(3)) * Vector(S(5)) | Vector(SO(3)) * T(2)(S(5)) | 5
SO(3) * S(5) | Vector(S(5)) + Vector(SO(3)) * Vector(S(5)) | T(2)(SO(3)) | 2
SO(3) * S(5) | Vector(SO(3)) * Vector(S(5)) | Vector(SO(3)) * Vector(S(5)) | 2
SO(4) | T(1) | T(1) | 1
SO(4) | T(3) | T(3) | 25
SO(4) | T(4) | Scalar | 4
SO13 | T(1) | T(0,1) | 1
SO13 | T(1) | T(1) | 1
SO13 | T(1,1) | T(1,1) | 4
SO13 | T(2) | Scalar | 1
SO13p | T(1) | T(1) | 1
SO13p | T(1,1) | T(1,1) | 4
SO13p | T(2) | Scalar | 1
SO13p | T(2) | T(2) | 4
SO2eR3 | 38*Scalar + 12*T(1) + 3*T(2) + T(3) | 38*Scalar + 12*T(1) + 3*T(2) + T(3) | 5582
SO2eR3 | 38*Scalar + 12*T(1) + 3*T(2) + T(3) | 54*Scalar + 12*T(1) + 3*T(2) + T(3) | 6638
SO2eR3 | 4*T(1) | 54*Scalar + 12*T(1) + 3*T(2) + T(3) | 520
SO2eR3 | T(1) | T(1) | 3
SO2eR3 | T(3) | T(3) | 141
Sp(2) | 24*Scalar + 3*T(1) + 3*T(0,1) + T(1,1) | 24*Scalar + 3*T(1) + 3*T(0,1) + T(1,1) | 663
Sp(2) | T(1) | T(0,1) | 1
Sp(2) | T(1) | T(1) | 1
Trivial(3) | 2*Scalar + T(1) | T(2) | 45
Trivial(5) | T(1) | Scalar | 5
Z(2) | T(1) | T(1) | 2
Z(3) | T(1) | T(1) | 3
Z(3) | T(1) | T(2) | 9
Z(4) | T(1) | T(1) | 4
Z(5) | T(1) | T(1) | 5
Z(5) | T(2) | T(2) | 125
Z(6) | T(1) | T(1) | 6
Z(8) | T(1) | T(1) | 8
"""


def compact_symplectic(m, power):
    """Invariants in a power of the vectors of USp(2m), by Weyl's integral over its torus: Sp(m) has the same."""
    angles = torch.cartesian_prod(*[torch.arange(24).double() * (2 * math.pi / 24)] * m).reshape(-1, m)
    cosines, pairs = angles.cos(), torch.combinations(torch.arange(m))
    density = (cosines[:, pairs[:, 0]] - cosines[:, pairs[:, 1]]).square().prod(1) * angles.sin().square().prod(1)
    return float(((2 * cosines.sum(1)) ** power * density).mean() / density.mean())


def lorentz(power):
    """SO(4) is SU(2) x SU(2) up to a sign, and its vectors are the products of both two-dimensional representations."""
    return compact_symplectic(1, power) ** 2


def dihedral_about_z(k, power):
    """The mean of the trace's power: k rotations, and k reflections of trace 1."""
    rotations = sum((1 + 2 * math.cos(2 * math.pi * j / k)) ** power for j in range(k))
    return (rotations + k) / (2 * k)


def faces_of_a_cube(power, sign):
    """Burnside: count, fixed faces and parity of the five classes of rotations."""
    classes = [(1, 6, 1), (6, 2, -1), (3, 2, 1), (8, 0, 1), (6, 0, -1)]
    return sum(count * fixed**power * parity**sign for count, fixed, parity in classes) / 24


def stickers_of_rubiks_cube_in_triples():
    """Stickers of distinct corners or edges are free; those on one piece keep their turn against each other."""
    corners = 3**3 // 3 + 3 * (3**2 // 3) + 1
    edges = 2**3 // 2 + 3 * (2**2 // 2) + 1
    return corners + edges + 3 * (3 + 1) + 3 * (2 + 1)


def permuted(n, power):
    """Set partitions of the axes into at most n parts."""
    parts = [[1] + [0] * power]
    for _ in range(power):
        parts.append([0] + [k * parts[-1][k] + parts[-1][k - 1] for k in range(1, power + 1)])
    return sum(parts[-1][: n + 1])


COUNTED = [
    *[("Sp(1)", f"T({p})", f"T({q})", compact_symplectic(1, p + q)) for p, q in [(1, 1), (2, 2), (3, 3), (1, 2)]],
    *[("Sp(2)", f"T({p})", f"T(0,{q})", compact_symplectic(2, p + q)) for p, q in [(1, 1), (2, 2), (3, 3), (2, 1)]],
    *[("SO13p", f"T({p})", f"T({q},1)", lorentz(p + q + 1)) for p, q in [(1, 0), (2, 1), (3, 2)]],
    ("O13", "T(3)", "T(3)", math.prod(range(1, 6, 2))),
    ("O13", "PseudoScalar", "T(4)", 1),
    ("O13", "PseudoScalar*T(2)", "PseudoScalar*T(0,2)", 3),
    ("SO13", "PseudoScalar", "T(3,1)", lorentz(4)),
    *[(f"DkeR3({k})", "T(2)", f"T({q})", dihedral_about_z(k, 2 + q)) for k in (2, 3, 4, 5) for q in (1, 2)],
    *[("Cube", "T(1)", f"T({q})", faces_of_a_cube(1 + q, 0)) for q in (0, 1, 2, 3)],
    *[("Cube", "PseudoScalar*T(1)", f"T({q})", faces_of_a_cube(1 + q, 1)) for q in (0, 1, 2)],
    ("RubiksCube", "T(1)", "T(2)", stickers_of_rubiks_cube_in_triples()),
    ("RubiksCube", "PseudoScalar", "T(2)", 0),
    (
        "SO(3) * S(3) * SL(2)",
        "T(2)(SO(3)) * T(2)(S(3)) * Vector(SL(2))",
        "T(2)(SO(3)) * Vector(S(3)) * Vector(SL(2))",
        3 * permuted(3, 3),
    ),
    ("Sp(1) * Cube * Z(3)", "T(3)(Sp(1)) * Vector(Cube)", "T(1)(Sp(1)) * Vector(Cube) * T(2)(Z(3))", 2 * 3 * 3),
    ("O(2) * S(3)", "T(3)(O(2)) * T(3)(S(3))", "Vector(O(2)) * Vector(S(3))", 3 * permuted(3, 4)),
    ("O(2) * S(3)", "PseudoScalar(O(2)) * T(1)(S(3))", "T(2)(O(2)) * T(1)(S(3))", 1 * permuted(3, 2)),
    ("O(2) * S(3)", "PseudoScalar(S(3)) * T(1)(S(3))", "T(2)(S(3))", 4),
    ("O(2) * S(3)", "PseudoScalar(O(2)) * PseudoScalar(S(3))", "Scalar", 0),
    ("SL(2) * Z(3)", "T(2)(SL(2)) * Vector(Z(3))", "T(1,1)(SL(2)) * T(2)(Z(3))", 2 * 9),
    ("SL(2) * Z(3)", "T(0,1)(SL(2)) + T(2)(Z(3))", "Scalar + T(1)(SL(2)) * Vector(Z(3))", 3 + 1),
    ("SL(3)", "T(2)", "T(0,1)", 1),
    ("SL(3)", "T(2,1)", "T(1)", 2),
]


def golden_rows():
    rows = [[part.strip() for part in line.split("|")] for line in GOLDEN.strip().split("\n")]
    return [(group, rep_in, rep_out, int(rank)) for group, rep_in, rep_out, rank in rows]


def found_rank(group, rep_in, rep_out):
    group = parse_group(group)
    return equivariant_maps(parse_rep(rep_in)(group), parse_rep(rep_out)(group)).rank


def test_the_table_is_whole():
    assert len(golden_rows()) == len(set(golden_rows())) == 91


def test_ranks_are_those_of_the_table(subtests):
    for group, rep_in, rep_out, rank in golden_rows():
        with subtests.test(msg=f"{group}: {rep_in} -> {rep_out}"):
            assert found_rank(group, rep_in, rep_out) == rank


def test_ranks_are_those_of_independent_counts(subtests):
    for group, rep_in, rep_out, count in COUNTED:
        with subtests.test(msg=f"{group}: {rep_in} -> {rep_out}"):
            assert found_rank(group, rep_in, rep_out) == pytest.approx(count, abs=1e-9)
