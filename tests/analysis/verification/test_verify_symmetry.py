"""verify_symmetry: its errors, its verdicts, what it does not mistake for a repair, and what it says."""

import math

import pytest
import torch

from analysis import equivariance_error, verify_symmetry
from analysis.verification.surrogate import fit_surrogate
from bayes_rpp import SO, Group, O, S, Scalar, SO13p, T, Trivial, Vector
from bayes_rpp.datasets import inertia
from tests.seeds import shifted

BOTH = SO(3) * S(5)


def normal(count, size, seed):
    return torch.randn(count, size, generator=torch.Generator().manual_seed(shifted(seed)), dtype=torch.float64)


def generic(size_in, size_out, seed):
    """A random function without any symmetry.

    In two variables it is a rough one: a smooth one is nearly linear, and one in a hundred linear maps of the plane is
    a rotation or a reflection but for a sixth of it, so that to name the reflection is right.
    """
    generator = torch.Generator().manual_seed(shifted(seed))
    first, shift, last = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in [(size_in, 64), (64,), (64, size_out)]
    )
    scale = 8 if size_in == 2 else 2
    return lambda x: (scale * x @ first / size_in**0.5 + shift).tanh() @ last / 8


def found(report):
    return [(suspect.side, suspect.kind, suspect.coordinates) for suspect in report.suspects]


def verdicts(report):
    return [generator.verdict for generator in report.generators]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(3))
def test_modified_inertia_is_approximate_where_it_is_broken(seed, dtype):
    """It keeps rotations about z and reflections along the axes."""
    data = inertia(train=1, test=64, symmetry_breaking=0.3, seed=seed)
    report = verify_symmetry(data.function, data.test.x.to(dtype), rep_in=data.rep_in, rep_out=data.rep_out)
    assert verdicts(report) == ["holds", "approximate", "approximate", "holds"]
    assert report.suspects == ()
    assert "seems to be approximate" in str(report)


@pytest.mark.parametrize("group", [O(3), SO13p()], ids=str)
def test_errors_are_equivariance_errors_at_elements_of_each_generator(group):
    f, x, rep_in, rep_out = generic(2 * group.d, group.d, 0), normal(64, 2 * group.d, 0), 2 * Vector, Vector
    report = verify_symmetry(f, x, group, rep_in=rep_in, rep_out=rep_out, budget=2)
    elements = [
        torch.stack([torch.linalg.matrix_exp(t * a) for t in ((0.5, 1.0, 2.0) if (a == -a.T).all() else (0.5, -0.5))])
        for a in group.lie_algebra
    ] + [g[None] for g in group.generators]
    for generator, own in zip(report.generators, elements, strict=True):
        expected = float(equivariance_error(f, x, group, rep_in=rep_in, rep_out=rep_out, elements=own))
        assert generator.error == pytest.approx(expected, rel=1e-10)


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


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("rep_in", "rep_out", "group"),
    [
        (5 * Scalar + 5 * Vector, T(2), O(3)),
        (2 * Vector, Vector, SO(3)),
        (Vector, Scalar, SO(3)),
        (Vector, Vector, SO(2)),
        (2 * Vector, Vector, S(5)),
        (3 * Vector, Vector, SO13p()),
        (Vector(S(5)) + Vector(SO(3)) * Vector(S(5)), Vector(SO(3)), BOTH),
    ],
    ids=str,
)
def test_a_function_without_symmetry_has_no_repair(rep_in, rep_out, group):
    sizes = rep_in(group).size, rep_out(group).size
    for seed in range(8 if sizes[0] < 20 else 4):  # each tries some hundred repairs, where sizes are large
        report = verify_symmetry(
            generic(*sizes, seed), normal(64, sizes[0], 100 + seed), group, rep_in=rep_in, rep_out=rep_out
        )
        assert report.suspects == ()
        assert "holds" not in verdicts(report)


def test_a_function_without_symmetry_is_not_made_symmetric_by_ignoring_the_group():
    """As scalars, inputs and outputs would fit any function."""
    report = verify_symmetry(generic(3, 3, 0), normal(128, 3, 0), SO(3), rep_in=Vector, rep_out=3 * Scalar)
    assert set(verdicts(report)) == {"wrong"}
    assert report.suspects == ()


def easy(x):
    p, q = x[:, :3], x[:, 3:6]
    return p * (1 + 0.3 * (p * q).sum(1, keepdim=True)) + torch.linalg.cross(p, q)


@pytest.fixture(scope="module")
def measured():
    """Data with two vectors and a column that never varies, and a network fitted to them."""
    x = torch.cat([normal(1500, 6, 0), torch.ones(1500, 1)], dim=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("analysis.verification.surrogate._STEPS", 600)
        return x, easy(x), fit_surrogate(x, easy(x), seed=shifted(), progress=False)


@pytest.mark.statistical
def test_a_surrogate_is_measured_on_data_that_it_has_not_seen(measured):
    x, y, (held_out, surrogate, error) = measured
    assert held_out.shape == (300, 7)
    rows = torch.cdist(held_out, x.float()).argmin(1)
    assert rows.unique().numel() == 300
    torch.testing.assert_close(held_out, x[rows].float())
    fitted, truth = surrogate(held_out), y[rows].float()
    expected = (fitted - truth).norm(dim=1) / (fitted.norm(dim=1) + truth.norm(dim=1))
    assert error == pytest.approx(float(expected.mean()), rel=1e-5)
    assert 0 < error < 0.05


@pytest.mark.statistical
@pytest.mark.parametrize("planted", [None, 4])
def test_data_are_judged_by_a_surrogate(measured, monkeypatch, planted):
    """The network of data with a wrong sign is that of the right data with this sign turned, up to its random start."""
    x, y, (held_out, surrogate, error) = measured
    signs = torch.ones(7)
    if planted is not None:
        signs[planted] = -1
    fit = (held_out * signs, lambda x: surrogate(x * signs), error)
    monkeypatch.setattr("analysis.verification.verify_symmetry.fit_surrogate", lambda x, y, seed, progress: fit)
    report = verify_symmetry((x.numpy(), y.numpy()), group=SO(3), rep_in=2 * Vector + Scalar, rep_out=Vector)
    assert report.floor == 2 * error
    assert found(report) == ([] if planted is None else [("input", "sign", (planted,))])
    assert verdicts(report) == (["holds"] * 3 if planted is None else ["wrong", "holds", "wrong"])
    assert f"its error on the others is {error:.2g}" in str(report)
    assert "as far as the network can tell" not in str(report)


@pytest.mark.statistical
def test_too_few_data_are_said_to_be_too_few(monkeypatch):
    """From data to a report that says what it cannot see."""
    monkeypatch.setattr("analysis.verification.surrogate._STEPS", 100)
    x = normal(30, 6, 0)
    report = verify_symmetry((x, easy(x)), group=SO(3), rep_in=2 * Vector, rep_out=Vector, progress=False)
    assert report.floor == 2 * report.surrogate_error > max(generator.chance for generator in report.generators) / 2
    assert "holds as far as the network can tell" in str(report)
    assert "The fit is too poor to tell." in str(report)


def test_a_small_budget_says_what_was_left_out():
    f, x = generic(20, 9, 0), normal(32, 20, 0)
    full, short = (
        verify_symmetry(f, x, O(3), rep_in=5 * Scalar + 5 * Vector, rep_out=T(2), budget=budget)
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
