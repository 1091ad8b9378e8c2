"""The null-space solver against one dense SVD of all constraints, for groups of every kind."""

from functools import reduce

import numpy as np
from scipy.stats import ortho_group

from bayes_rpp import SL, SO, SO13, D, O, S, Sp
from bayes_rpp.bases.null_space import TensorConstraints, fixed_tensors

TURN = np.array([[0.0, -1.0], [1.0, 0.0]])
SHEAR = np.array([[0.0, 1.0], [0.0, 0.0]])
FLIP = np.diag([-1.0, 1.0])
SWAP = np.array([[0.0, 1.0], [1.0, 0.0]])


def unit(i, j, n=3):
    matrix = np.zeros((n, n))
    matrix[i, j] = 1.0
    return matrix


def rotation(angle):
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]])


def of_group(group):
    return list(group.lie_algebra.numpy()), list(group.generators.numpy())


def torus(*frequencies):
    result = np.zeros((2 * len(frequencies), 2 * len(frequencies)))
    for k, frequency in enumerate(frequencies):
        result[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = frequency * TURN
    return result


MATRICES = {
    "SO(3)": of_group(SO(3)),
    "O(3)": of_group(O(3)),
    "SO(4)": of_group(SO(4)),
    "SL(2)": of_group(SL(2)),
    "SL(3)": of_group(SL(3)),
    "Sp(2)": of_group(Sp(2)),
    "SO13": of_group(SO13()),
    "D(5)": of_group(D(5)),
    "S(3)": of_group(S(3)),
    "S(4)": of_group(S(4)),
    "Heisenberg": ([unit(0, 1), unit(1, 2), unit(0, 2)], []),
    "upper triangular": ([unit(0, 0), unit(1, 1), unit(2, 2), unit(0, 1), unit(1, 2), unit(0, 2)], []),
    "SE(2)": ([unit(1, 0) - unit(0, 1), unit(0, 2), unit(1, 2)], []),
    "SE(2) of a triangle": ([unit(0, 2), unit(1, 2)], [np.block([[rotation(2.0943951023931953), np.zeros((2, 1))],
                                                                [np.zeros((1, 2)), np.ones((1, 1))]])]),
    "shear": ([SHEAR], []),
    "spiral": ([np.eye(2) + 2 * TURN], []),
    "weights 1, -2": ([np.diag([1.0, -2.0])], []),
    "irrational torus": ([torus(1.0, np.sqrt(2.0))], []),
    "resonant torus": ([torus(1.0, 3.0)], []),
    "two tori": ([torus(1.0, 0.0), torus(0.0, 1.0)], []),
    "hyperbola and swap": ([np.diag([1.0, -1.0])], [SWAP]),
    "circle and flip": ([TURN], [FLIP]),
    "shear and flip": ([SHEAR], [FLIP]),
    "shear by one": ([], [np.eye(2) + SHEAR]),
    "squeeze": ([], [np.diag([2.0, 0.5])]),
    "squeeze and swap": ([], [np.diag([2.0, 0.5]), SWAP]),
    "turn by one radian": ([], [rotation(1.0)]),
    "unimodular integers": ([], [np.eye(2) + SHEAR, TURN]),
    "a zero algebra": ([np.zeros((2, 2))], [FLIP]),
    "no generators": ([], []),
}  # fmt: skip
CONJUGATED = ["SO(3)", "O(3)", "SL(2)", "D(5)", "S(3)", "SO13", "SE(2)", "circle and flip", "squeeze and swap"]
TYPES = {2: [(1, 0), (2, 0), (1, 1), (3, 1), (2, 2), (4, 4)], 3: [(2, 0), (1, 1), (3, 0), (2, 2), (5, 0), (3, 2)]}
TYPES[4] = [(1, 1), (3, 0), (4, 0), (2, 2)]


def dimension(algebra, generators):
    return len((algebra or generators or [np.eye(2)])[0])


def constraints_of(algebra, generators, p, q):
    axes = [(a, -a.T) for a in algebra], [(g, np.linalg.inv(g).T) for g in generators]
    rows = [tuple((vector,) * p + (dual,) * q for vector, dual in pairs) for pairs in axes]
    return TensorConstraints((dimension(algebra, generators),) * (p + q), *rows)


def dense(constraints):
    """All constraints as one matrix."""
    sizes, rows = constraints.sizes, [np.zeros((1, constraints.size))]
    for element in constraints.algebra:
        rows.append(np.zeros((constraints.size, constraints.size)))
        for axis, matrix in enumerate(element):
            before, after = np.eye(int(np.prod(sizes[:axis]))), np.eye(int(np.prod(sizes[axis + 1 :])))
            rows[-1] += np.kron(np.kron(before, matrix), after)
    rows += [reduce(np.kron, element) - np.eye(constraints.size) for element in constraints.discrete]
    return np.concatenate(rows)


def assert_same_space_as_by_svd(constraints):
    matrix, found = dense(constraints), fixed_tensors(constraints)
    _, singular, right = np.linalg.svd(np.linalg.qr(matrix)[1])
    expected = right[np.count_nonzero(singular > 1e-10 * max(1.0, singular.max())) :].T
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.T @ found, np.eye(found.shape[1]), rtol=0, atol=1e-10)
    assert np.abs(matrix @ found).max(initial=0.0) < 1e-9
    assert constraints.residual(found) < 1e-9
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, rtol=0, atol=1e-8)


def conjugated(name, change):
    inverse = np.linalg.inv(change)
    return tuple([change @ matrix @ inverse for matrix in part] for part in MATRICES[name])


def cases(names):
    found = []
    for name in names:
        d = dimension(*MATRICES[name])
        found += [(name, p, q) for p, q in TYPES[d]]
    return found


def test_the_space_is_that_of_a_dense_svd(subtests):
    for name, p, q in cases(MATRICES):
        with subtests.test(msg=f"{name}: T({p},{q})"):
            assert_same_space_as_by_svd(constraints_of(*MATRICES[name], p, q))


def test_groups_in_rotated_coordinates(subtests):
    for name, p, q in cases(CONJUGATED):
        with subtests.test(msg=f"{name}: T({p},{q})"):
            d = dimension(*MATRICES[name])
            rotation = ortho_group.rvs(d, random_state=p + 10 * q)
            assert_same_space_as_by_svd(constraints_of(*conjugated(name, rotation), p, q))


def test_groups_in_skewed_coordinates(subtests):
    for name, p, q in cases(CONJUGATED):
        with subtests.test(msg=f"{name}: T({p},{q})"):
            d = dimension(*MATRICES[name])
            left, right = ortho_group.rvs(d, size=2, random_state=p + 10 * q)
            change = left @ np.diag(np.linspace(1.0, 2.0, d)) @ right
            assert_same_space_as_by_svd(constraints_of(*conjugated(name, change), p, q))


def test_another_basis_of_the_algebra(subtests):
    for name, p, q in cases(["SO(3)", "SL(3)", "SE(2)", "SO13"]):
        with subtests.test(msg=f"{name}: T({p},{q})"):
            algebra, generators = MATRICES[name]
            mixing = np.random.default_rng(0).normal(size=(len(algebra) + 1, len(algebra)))
            mixed = list(np.tensordot(mixing, np.array(algebra), axes=1))
            assert_same_space_as_by_svd(constraints_of(mixed, generators, p, q))


def test_axes_that_differ_in_a_later_element_only_are_told_apart():
    change = np.array([[1.0, 0.7], [0.0, 1.3]])
    skewed = change @ TURN @ np.linalg.inv(change)
    nothing = np.zeros((2, 2))
    for second in ((TURN, skewed), (skewed, TURN)):
        assert_same_space_as_by_svd(TensorConstraints((2, 2), ((nothing, nothing), second), ()))


def test_axes_of_more_than_256_coordinates():
    algebra = np.zeros((300, 300))
    algebra[0, 1], algebra[1, 0] = -1.0, 1.0
    assert fixed_tensors(TensorConstraints((300,), ((algebra,),), ())).shape == (300, 298)
