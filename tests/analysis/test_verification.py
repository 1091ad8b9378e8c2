"""verify_symmetry against functions whose symmetry is exact, broken a little, or mistaken in one known place."""

import math
import random

import pytest
import torch

from analysis import equivariance_error, verify_symmetry
from bayes_rpp import (
    SL,
    SO,
    D,
    Group,
    Lorentz,
    O,
    PseudoScalar,
    S,
    Scalar,
    SO13p,
    T,
    Trivial,
    Vector,
)
from bayes_rpp.datasets import inertia

ROTATIONS, PERMUTATIONS = SO(3), S(5)
BOTH = ROTATIONS * PERMUTATIONS
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


def generic(size_in, size_out, seed):
    """A random function without any symmetry."""
    generator = torch.Generator().manual_seed(seed)
    first, shift, last = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in [(size_in, 64), (64,), (64, size_out)]
    )
    return lambda x: (2 * x @ first / size_in**0.5 + shift).tanh() @ last / 8


def normal(count, size, seed):
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bodies(breaking):
    data = inertia(train=1, symmetry_breaking=breaking)
    return data.function, data.rep_in, data.rep_out, data.group


EXACT = {
    "inertia": bodies(0.0),
    "lorentz": (collide, (3 * Vector)(Lorentz()), (Vector + 2 * Scalar)(Lorentz()), Lorentz()),
    "permutations": (exchange, (2 * Vector)(PERMUTATIONS), (Vector + 2 * Scalar)(PERMUTATIONS), PERMUTATIONS),
    "product": (
        swarm,
        Vector(PERMUTATIONS) + POSITIONS,
        Vector(ROTATIONS) + POSITIONS + Vector(PERMUTATIONS),
        BOTH,
    ),
}


def points(name, size, seed):
    return inertia(train=1, test=128, seed=seed).test.x.double() if "inertia" in name else normal(128, size, seed)


def with_mistake(f, side, kind, coordinates, size):
    """f whose input or output has one sign or two coordinates wrong."""
    signs, order = torch.ones(size, dtype=torch.float64), torch.arange(size)
    if kind == "sign":
        signs[list(coordinates)] = -1.0
    else:
        order[list(coordinates)] = order[list(coordinates)[::-1]]
    return (lambda x: f(x[:, order] * signs)) if side == "input" else (lambda x: f(x)[:, order] * signs)


def found(report):
    return [(suspect.side, suspect.kind, suspect.coordinates) for suspect in report.suspects]


def verdicts(report):
    return [generator.verdict for generator in report.generators]


@pytest.mark.parametrize("name", EXACT)
def test_exact_symmetries_hold(name):
    f, rep_in, rep_out, group = EXACT[name]
    report = verify_symmetry(f, points(name, rep_in.size, 0), rep_in=rep_in, rep_out=rep_out)
    assert len(report.generators) == len(group.lie_algebra) + len(group.generators)
    assert set(verdicts(report)) == {"holds"}
    assert max(generator.error for generator in report.generators) < 1e-14
    assert report.suspects == ()
    assert "Every generator holds." in str(report)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["sign", "swap"])
@pytest.mark.parametrize("side", ["input", "output"])
@pytest.mark.parametrize("name", [*EXACT, "modified inertia"])
def test_a_planted_mistake_is_found(name, side, kind, seed):
    """Anywhere that the group mixes: elsewhere, as in the sign of a scalar, it would make no difference."""
    f, rep_in, rep_out, group = EXACT.get(name) or bodies(0.3)
    size = (rep_in if side == "input" else rep_out).size
    harmless = {"inertia": range(5), "lorentz": range(4, 6), "permutations": range(5, 7), "product": ()}
    is_scalar = "output" if name in ("lorentz", "permutations") else "input"
    scalars = harmless[name.split()[-1]] if side == is_scalar else ()
    mixing = [k for k in range(size) if k not in scalars]
    coordinates = tuple(sorted(random.Random(f"{name} {seed}").sample(mixing, 1 if kind == "sign" else 2)))
    mistaken = with_mistake(f, side, kind, coordinates, size)
    report = verify_symmetry(mistaken, points(name, rep_in.size, seed), group, rep_in=rep_in, rep_out=rep_out)
    assert "wrong" in verdicts(report)
    assert found(report)[0] == (side, kind, coordinates)
    best = report.suspects[0]
    assert best.error_after < (1e-14 if name in EXACT else 0.7 * best.error_before)
    assert best.words in str(report)
    # The function without the mistake, where it was in truth evaluated, has the error promised.
    read = with_mistake(lambda x: x, side, kind, coordinates, size) if side == "input" else (lambda x: x)
    truth = verify_symmetry(f, read(points(name, rep_in.size, seed)), group, rep_in=rep_in, rep_out=rep_out)
    errors = [generator.error for generator in truth.generators]
    assert sum(errors) / len(errors) == pytest.approx(best.error_after, rel=1e-10, abs=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(3))
def test_modified_inertia_is_approximate_where_it_is_broken(seed, dtype):
    """It keeps rotations about z and reflections along the axes."""
    f, rep_in, rep_out, _ = bodies(0.3)
    report = verify_symmetry(f, points("inertia", 20, seed).to(dtype), rep_in=rep_in, rep_out=rep_out)
    assert verdicts(report) == ["holds", "approximate", "approximate", "holds"]
    assert report.suspects == ()
    assert "seems to be approximate" in str(report)


def test_error_is_the_equivariance_error():
    f, rep_in, rep_out, group = bodies(0.3)
    x = points("inertia", 20, 0)
    report = verify_symmetry(f, x, rep_in=rep_in, rep_out=rep_out)
    for k, a in enumerate(group.lie_algebra):
        turns = torch.stack([torch.linalg.matrix_exp(t * a) for t in (0.5, 1.0, 2.0)])
        expected = float(equivariance_error(f, x, rep_in=rep_in, rep_out=rep_out, elements=turns))
        assert report.generators[k].error == pytest.approx(expected, rel=1e-10, abs=1e-15)


def test_output_errors_are_those_of_each_coordinate():
    """A vector whose last coordinate has the wrong sign: a reflection of it goes unnoticed, one exchange does not."""
    group = Group(generators=[torch.diag(torch.tensor([1.0, 1.0, -1.0])), torch.eye(3)[[2, 1, 0]]])
    x = normal(64, 6, 0)
    report = verify_symmetry(
        lambda x: (x[:, :3] * x[:, 3:4].square()) * torch.tensor([1.0, 1.0, -1.0]),
        torch.cat([x[:, :3], x[:, 3:4]], dim=1),
        group,
        rep_in=Vector + Scalar,
        rep_out=Vector,
    )
    reflection, exchanged = report.generators
    assert (reflection.verdict, exchanged.verdict) == ("holds", "wrong")
    assert exchanged.output_errors == pytest.approx((1.0, 0.0, 1.0))
    assert ("output", "sign", (2,)) in found(report)
    assert ("input", "sign", (2,)) in found(report)  # cannot be told from it


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
    sizes_fit = ((rep_in)(O(3)).size, rep_out(O(3)).size) == (20, 9)
    assert math.isnan(report.suspects[0].error_before) != sizes_fit
    assert report.suspects[0].error_after < (1e-14 if breaking == 0 else 0.05)
    assert ("wrong" in verdicts(report)) == sizes_fit  # otherwise the report is on the repaired representation
    assert ("do not fit" in str(report)) != sizes_fit


def test_a_pseudovector_is_told_from_a_vector():
    def cross(x):
        return torch.linalg.cross(x[:, :3], x[:, 3:])

    right = verify_symmetry(cross, normal(128, 6, 0), O(3), rep_in=2 * Vector, rep_out=PseudoScalar * Vector)
    wrong = verify_symmetry(cross, normal(128, 6, 0), O(3), rep_in=2 * Vector, rep_out=Vector)
    assert set(verdicts(right)) == {"holds"}
    assert verdicts(wrong) == ["holds", "holds", "holds", "wrong"]
    assert ("output", "block", (0, 1, 2)) in found(wrong)


def test_a_transposed_table_is_found():
    """Positions given body by body, (5, 3), where the representation says (3, 5)."""
    _, rep_in, rep_out, _ = EXACT["product"]
    transposed = torch.cat([torch.arange(5), 5 + torch.arange(15).reshape(5, 3).T.flatten()])
    report = verify_symmetry(lambda x: swarm(x[:, transposed]), normal(128, 20, 0), rep_in=rep_in, rep_out=rep_out)
    assert found(report) == [("input", "order", tuple(range(5, 20)))]


@pytest.mark.parametrize(
    ("rep_in", "rep_out", "group"),
    [
        (5 * Scalar + 5 * Vector, T(2), O(3)),
        (2 * Vector, Vector, SO(3)),
        (Vector, Scalar, SO(3)),
        (Vector, Vector, SO(2)),
        (2 * Vector, Vector, S(5)),
        (3 * Vector, Vector, SO13p()),
        (Vector(PERMUTATIONS) + POSITIONS, Vector(ROTATIONS), BOTH),
    ],
    ids=str,
)
def test_a_function_without_symmetry_has_no_repair(rep_in, rep_out, group):
    sizes = rep_in(group).size, rep_out(group).size
    for seed in range(8):
        report = verify_symmetry(
            generic(*sizes, seed), normal(128, sizes[0], 100 + seed), group, rep_in=rep_in, rep_out=rep_out
        )
        assert report.suspects == ()
        assert "holds" not in verdicts(report)


def test_a_function_without_symmetry_is_not_made_symmetric_by_ignoring_the_group():
    """As scalars, inputs and outputs would fit any function."""
    report = verify_symmetry(generic(3, 3, 0), normal(128, 3, 0), SO(3), rep_in=Vector, rep_out=3 * Scalar)
    assert set(verdicts(report)) == {"wrong"}
    assert report.suspects == ()


def easy(x):
    p, q = x[:, :3], x[:, 3:]
    return p * (1 + 0.3 * (p * q).sum(1, keepdim=True)) + torch.linalg.cross(p, q)


@pytest.mark.parametrize(("planted", "expected"), [(None, []), (4, [("input", "sign", (4,))])])
def test_data_are_judged_by_a_surrogate(planted, expected):
    x = normal(1500, 6, 0)
    f = easy if planted is None else with_mistake(easy, "input", "sign", (planted,), 6)
    report = verify_symmetry((x.numpy(), f(x).numpy()), group=SO(3), rep_in=2 * Vector, rep_out=Vector, progress=False)
    assert 0 < report.surrogate_error < 0.05
    assert report.floor == 2 * report.surrogate_error
    assert found(report) == expected
    assert verdicts(report) == (["holds"] * 3 if planted is None else ["wrong", "holds", "wrong"])
    assert f"misses held-out data by {report.surrogate_error:.1%}" in str(report)


@pytest.mark.parametrize(
    ("group", "names"),
    [
        (O(2), ["rotation in the plane of axes 0 and 1", "reflection of axis 0"]),
        (S(4), ["axes 0 -> 1 -> 2 -> 3 -> 0", "axes 0 -> 1 -> 0"]),
        (D(4), ["rotation by 90 degrees in the plane of axes 0 and 1", "reflection of axis 0"]),
        (
            SL(2),
            [*(f"shear: axis {i} gains a multiple of axis {1 - i}" for i in (0, 1)), "stretch along axes 0, 1"],
        ),
        (SO(2) * SO(2), [f"rotation in the plane of axes 0 and 1 of SO(2) (factor {k})" for k in (0, 1)]),
        (SO(2) * S(2), ["rotation in the plane of axes 0 and 1 of SO(2)", *["axes 0 -> 1 -> 0 of S(2)"] * 2]),
        (Group(lie_algebra=[[[1.0, 2.0], [3.0, 4.0]]], generators=[[[2.0, 1.0], [1.0, 1.0]]]),
         ["Lie-algebra element 0", "discrete generator 0"]),
    ],
    ids=str,
)  # fmt: skip
def test_generators_are_described(group, names):
    report = verify_symmetry(lambda x: x, normal(4, 1, 0), group, rep_in=Scalar, rep_out=Scalar)
    assert [generator.name for generator in report.generators] == names


def test_a_small_budget_says_what_was_left_out():
    f, rep_in, rep_out, _ = EXACT["inertia"]
    mistaken = with_mistake(f, "output", "sign", (1,), 9)
    full, short = (
        verify_symmetry(mistaken, points("inertia", 20, 0), rep_in=rep_in, rep_out=rep_out, budget=budget)
        for budget in (10**6, 10**4)
    )
    assert (full.untried, short.untried > 50) == (0, True)
    assert f"{short.untried} more repairs were not tried" in str(short)


def test_undefined_values_count_as_the_largest_error():
    """A logarithm of masses, which a wrong vector turns negative."""

    def mass_in_logarithms(x):
        return x[:, :1].log() + x[:, 1:4].square().sum(1, keepdim=True)

    x = torch.cat([normal(64, 1, 0).exp(), normal(64, 3, 1)], dim=1)
    report = verify_symmetry(mass_in_logarithms, x, SO(3), rep_in=Vector + Scalar, rep_out=Scalar)
    assert "wrong" in verdicts(report)
    assert max(generator.error for generator in report.generators) <= 1
    assert ("input", "order", (0, 1, 2, 3)) in found(report)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rep_in": 2 * Vector, "rep_out": Vector, "group": None}, "needs a group"),
        ({"x": None}, "needs x"),
        ({"x": torch.full((9, 6), math.nan)}, "x holds NaN"),
        ({"x": torch.zeros(9)}, r"x must have shape \(batch, size\).*\(9,\)"),
        ({"x": torch.zeros(1, 6)}, r"at least 2, got \(1, 6\)"),
        ({"f": lambda x: x[:, :3] / 0.0}, r"f\(x\) holds NaN"),
        ({"f": lambda x: x[:4, :3]}, r"f\(x\) must have shape"),
        ({"rep_in": 4 * Vector, "x": torch.ones(9, 5)}, r"input has 5 columns, but rep_in = 4\*Vector.*size 12"),
        ({"rep_out": T(2)}, r"output has 3 columns, but rep_out = T\(2\).*size 9"),
        ({"points": 1}, "points must be an integer of at least 2, got 1"),
        ({"budget": 0.5}, "budget must be an integer"),
        ({"group": O(2)}, r"bound to SO\(3\) already"),
        ({"group": Trivial(3), "rep_in": 2 * Vector, "rep_out": Vector}, "no generators"),
        ({"f": (torch.ones(30, 6), torch.ones(30, 3))}, "not both|one pair"),
        ({"f": (torch.ones(30, 6), torch.ones(29, 3)), "x": None}, "x has 30 examples, but y has 29"),
        ({"f": (torch.ones(30, 6), torch.full((30, 3), math.inf)), "x": None}, "y holds NaN"),
        ({"f": (torch.ones(5, 6), torch.ones(5, 3)), "x": None}, "at least 20"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_by_name(change, message):
    arguments = {
        "f": lambda x: x[:, :3], "x": normal(9, 6, 0), "group": SO(3), "rep_in": (2 * Vector)(SO(3)),
        "rep_out": Vector(SO(3)), "progress": False,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        verify_symmetry(**(arguments | change))
