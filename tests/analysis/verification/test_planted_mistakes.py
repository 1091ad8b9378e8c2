"""verify_symmetry against functions whose symmetry is exact, or broken a little, with a mistake in one known place."""

import math
import random

import pytest
import torch

from analysis import verify_symmetry
from bayes_rpp import SO, Lorentz, O, PseudoScalar, S, Scalar, T, Vector
from bayes_rpp.datasets import inertia

ROTATIONS, PERMUTATIONS = SO(3), S(5)
POSITIONS = Vector(ROTATIONS) * Vector(PERMUTATIONS)


def minkowski(a, b):
    return (a[:, :1] * b[:, :1]) - (a[:, 1:] * b[:, 1:]).sum(1, keepdim=True)


def collide(x):
    """Three four-vectors to one, and two invariants."""
    p, q, r = x.split(4, dim=1)
    vector = p * minkowski(q, r) + 0.5 * q * minkowski(p, p) + r * minkowski(p, q).tanh()
    return torch.cat([vector, minkowski(p, r), minkowski(q, q).tanh()], dim=1)


def exchange(x):
    """Two lists of five to one, and two invariants."""
    u, v = x.split(5, dim=1)
    listed = u * v.mean(1, keepdim=True) + v.tanh() * u.square().mean(1, keepdim=True) + u.sin()
    return torch.cat([listed, (u * v).sum(1, keepdim=True), (-(u + 0.5).square()).exp().sum(1, keepdim=True)], dim=1)


def swarm(x):
    """Five masses and positions, (3, 5), to a moment, forces, and energies."""
    mass, position = x[:, :5], x[:, 5:].unflatten(1, (3, 5))
    centre, other = (position * mass[:, None]).sum(2), (position * mass.exp()[:, None]).sum(2)
    squares = position.square().sum(1)
    force = position * (mass * squares.tanh())[:, None]
    return torch.cat([torch.linalg.cross(centre, other), force.flatten(1), squares * mass], dim=1)


def bodies(breaking):
    data = inertia(train=1, symmetry_breaking=breaking)
    return data.function, data.rep_in, data.rep_out


EXACT = {
    "inertia": bodies(0.0),
    "lorentz": (collide, (3 * Vector)(Lorentz()), (Vector + 2 * Scalar)(Lorentz())),
    "permutations": (exchange, (2 * Vector)(PERMUTATIONS), (Vector + 2 * Scalar)(PERMUTATIONS)),
    "product": (swarm, Vector(PERMUTATIONS) + POSITIONS, Vector(ROTATIONS) + POSITIONS + Vector(PERMUTATIONS)),
}
# The columns that the group mixes with others: elsewhere, as in the sign of a scalar, a mistake makes no difference.
MIXED = {
    "inertia": {"input": range(5, 20), "output": range(9)},
    "modified inertia": {"input": range(5, 20), "output": range(9)},
    "lorentz": {"input": range(12), "output": range(4)},
    "permutations": {"input": range(10), "output": range(5)},
    "product": {"input": range(20), "output": range(23)},
}


def normal(count, size, seed):
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def points(name, size, seed):
    return inertia(train=1, test=64, seed=seed).test.x.double() if "inertia" in name else normal(64, size, seed)


def with_mistake(kind, coordinates, size):
    """A map of columns that has one sign, or two columns, wrong; twice it does nothing."""
    signs, order = torch.ones(size, dtype=torch.float64), torch.arange(size)
    if kind == "sign":
        signs[list(coordinates)] = -1.0
    else:
        order[list(coordinates)] = order[list(coordinates)[::-1]]
    return lambda x: x[:, order] * signs


def found(report):
    return [(suspect.side, suspect.kind, suspect.coordinates) for suspect in report.suspects]


def verdicts(report):
    return [generator.verdict for generator in report.generators]


@pytest.mark.parametrize("name", EXACT)
def test_exact_symmetries_hold(name):
    f, rep_in, rep_out = EXACT[name]
    report = verify_symmetry(f, points(name, rep_in.size, 0), rep_in=rep_in, rep_out=rep_out)
    assert len(report.generators) == len(rep_in.group.lie_algebra) + len(rep_in.group.generators)
    assert set(verdicts(report)) == {"holds"}
    assert max(generator.error for generator in report.generators) < 1e-14
    assert report.suspects == ()
    assert "Every generator holds." in str(report)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["sign", "swap"])
@pytest.mark.parametrize("side", ["input", "output"])
@pytest.mark.parametrize("name", MIXED)
def test_a_planted_mistake_is_found(name, side, kind, seed):
    f, rep_in, rep_out = EXACT.get(name) or bodies(0.3)
    x = points(name, rep_in.size, seed)
    coordinates = tuple(sorted(random.Random(f"{name} {seed}").sample(MIXED[name][side], 1 if kind == "sign" else 2)))
    mistake = with_mistake(kind, coordinates, (rep_in if side == "input" else rep_out).size)
    mistaken = (lambda x: f(mistake(x))) if side == "input" else (lambda x: mistake(f(x)))
    report = verify_symmetry(mistaken, x, rep_in=rep_in, rep_out=rep_out)
    assert "wrong" in verdicts(report)
    assert found(report)[0] == (side, kind, coordinates)
    best = report.suspects[0]
    assert best.error_after < (1e-14 if name in EXACT else 0.7 * best.error_before)
    assert best.words in str(report)
    # The function without the mistake, where it was in truth evaluated, has the error promised.
    there = mistake(x) if side == "input" else x
    truth = verify_symmetry(f, there, rep_in=rep_in, rep_out=rep_out, budget=2)
    errors = [generator.error for generator in truth.generators]
    assert sum(errors) / len(errors) == pytest.approx(best.error_after, rel=1e-10, abs=1e-14)


@pytest.mark.parametrize("breaking", [0.0, 0.3])
@pytest.mark.parametrize(
    ("rep_in", "rep_out", "suspect"),
    [
        (5 * Scalar + 6 * Vector, T(2), ("input", "block", (20, 21, 22))),
        (7 * Scalar + 5 * Vector, T(2), ("input", "block", (5, 6))),
        (6 * Scalar + 6 * Vector, T(2), ("input", "block", (5, 21, 22, 23))),
        (5 * Scalar + 4 * Vector, T(2), ("input", "block", (5, 6, 7))),
        (5 * Scalar + 5 * Vector, T(2) + Scalar, ("output", "block", (9,))),
        (5 * Scalar + 5 * Vector, Vector + T(2), ("output", "block", (0, 1, 2))),
        (5 * Scalar + 4 * Vector + 3 * Scalar, T(2), ("input", "block", (17, 18, 19))),
        (Scalar + Vector + Scalar + 5 * Vector, T(2), ("input", "block", (1, 2, 3))),
        (5 * Scalar + 5 * Vector, 9 * Scalar, ("output", "block", tuple(range(9)))),
        (5 * Scalar + 5 * Vector, 3 * Vector, ("output", "block", tuple(range(9)))),
        (5 * Vector + 5 * Scalar, T(2), ("input", "order", tuple(range(20)))),
        (5 * (Scalar + Vector), T(2), None),
    ],
    ids=str,
)
def test_a_wrong_block_is_found(breaking, rep_in, rep_out, suspect):
    report = verify_symmetry(bodies(breaking)[0], points("inertia", 20, 0), O(3), rep_in=rep_in, rep_out=rep_out)
    if suspect is None:  # several blocks away from the truth: no single repair may be named
        assert "wrong" in verdicts(report)
        assert report.suspects == ()
        return
    assert found(report)[0] == suspect
    sizes_fit = (rep_in(O(3)).size, rep_out(O(3)).size) == (20, 9)
    assert math.isnan(report.suspects[0].error_before) != sizes_fit
    assert report.suspects[0].error_after < (1e-14 if breaking == 0 else 0.05)
    assert ("wrong" in verdicts(report)) == sizes_fit  # otherwise the report is on the repaired representation
    assert ("do not fit" in str(report)) != sizes_fit


def test_sizes_that_do_not_fit_on_both_sides_are_each_named_once():
    f, *_ = bodies(0.0)
    report = verify_symmetry(f, points("inertia", 20, 0), O(3), rep_in=5 * Scalar + 6 * Vector, rep_out=T(2) + Vector)
    assert found(report)[:2] == [("input", "block", (20, 21, 22)), ("output", "block", (9, 10, 11))]
    assert (report.rep_in, report.rep_out) == ((5 * Scalar + 5 * Vector)(O(3)), T(2)(O(3)))
    assert len({suspect.words for suspect in report.suspects}) == len(report.suspects)
    assert set(verdicts(report)) == {"holds"}


def test_a_pseudovector_is_told_from_a_vector():
    def cross(x):
        return torch.linalg.cross(x[:, :3], x[:, 3:])

    right = verify_symmetry(cross, normal(64, 6, 0), O(3), rep_in=2 * Vector, rep_out=PseudoScalar * Vector)
    wrong = verify_symmetry(cross, normal(64, 6, 0), O(3), rep_in=2 * Vector, rep_out=Vector)
    assert set(verdicts(right)) == {"holds"}
    assert verdicts(wrong) == ["holds", "holds", "holds", "wrong"]
    assert ("output", "block", (0, 1, 2)) in found(wrong)


def test_a_transposed_table_is_found():
    """Positions given body by body, (5, 3), where the representation says (3, 5)."""
    _, rep_in, rep_out = EXACT["product"]
    transposed = torch.cat([torch.arange(5), 5 + torch.arange(15).reshape(5, 3).T.flatten()])
    report = verify_symmetry(lambda x: swarm(x[:, transposed]), normal(64, 20, 0), rep_in=rep_in, rep_out=rep_out)
    assert found(report) == [("input", "order", tuple(range(5, 20)))]
