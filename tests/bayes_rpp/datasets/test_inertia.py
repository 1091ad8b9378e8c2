"""The inertia data: the formula, and which symmetries it keeps."""

import itertools

import pytest
import torch

from bayes_rpp import O, Scalar, T, Vector
from bayes_rpp.datasets import inertia
from tests.error_rate import z_limit
from tests.seeds import shifted

AXIS_REFLECTIONS = [torch.diag(torch.tensor(d, dtype=torch.float64)) for d in itertools.product([1.0, -1.0], repeat=3)]


def rotation(axis, angle):
    i, j = [k for k in range(3) if k != axis]
    g, a = torch.eye(3).double(), torch.tensor(angle).double()
    g[i, i], g[i, j], g[j, i], g[j, j] = a.cos(), -a.sin(), a.sin(), a.cos()
    return g


def points(count=50):
    return inertia(train=count, seed=5).train.x.double()


def errors(data, g, x):
    """||rho(g) f(x) - f(rho(g) x)|| / (sum of the norms), with the action written out."""
    moved = torch.cat([x[:, :5], (x[:, 5:].reshape(-1, 5, 3) @ g.mT).reshape(-1, 15)], 1)
    left = (g @ data.function(x).reshape(-1, 3, 3) @ g.mT).reshape(-1, 9)
    right = data.function(moved)
    return (left - right).norm(dim=1) / (left.norm(dim=1) + right.norm(dim=1))


def literal(row, c, breaker):
    tensor = [[0.0] * 3 for _ in range(3)]
    for body in range(5):
        mass, r = float(row[body]), [float(v) for v in row[5 + 3 * body : 8 + 3 * body]]
        for i, j in itertools.product(range(3), repeat=2):
            tensor[i][j] += mass * (sum(v * v for v in r) * (i == j) - r[i] * r[j])
    product = [[sum(tensor[i][k] * breaker[k][j] for k in range(3)) for j in range(3)] for i in range(3)]
    return [tensor[i][j] + c * product[i][j] for i in range(3) for j in range(3)]


@pytest.mark.parametrize("c", [0.0, 0.3, -1.5])
def test_outputs_are_the_formula_over_a_loop_of_masses(c):
    data, x = inertia(train=20, symmetry_breaking=c), points(20)
    along_z = [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    expected = torch.tensor([literal(row, c, along_z) for row in x], dtype=torch.float64)
    torch.testing.assert_close(data.function(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["axis", "generic"])
def test_targets_are_the_function_of_the_inputs(kind):
    data = inertia(train=7, test=3, symmetry_breaking=0.3, kind=kind)
    for split, count in ((data.train, 7), (data.test, 3)):
        assert (split.x.shape, split.y.shape) == ((count, 20), (count, 9))
        assert split.x.dtype == split.y.dtype == torch.float32
        torch.testing.assert_close(split.y.double(), data.function(split.x.double()), rtol=1e-4, atol=1e-4)


def test_representations_are_five_masses_and_positions_to_a_tensor():
    data = inertia(train=1, test=0)
    assert (data.rep_in, data.rep_out, data.group) == ((5 * Scalar + 5 * Vector)(O(3)), T(2)(O(3)), O(3))
    assert data.test.x.shape == (0, 20)


@pytest.mark.parametrize("kind", ["axis", "generic"])
def test_without_breaking_the_function_is_equivariant(kind):
    data, x = inertia(train=1, kind=kind), points()
    for g in O(3).sample(20, seed=0):
        assert errors(data, g, x).max() < 1e-14
        torch.testing.assert_close(
            data.rep_out.apply(g, data.function(x)), data.function(data.rep_in.apply(g, x)), rtol=1e-12, atol=1e-12
        )


def test_modified_inertia_keeps_axis_reflections_and_turns_about_z():
    data, x = inertia(train=1, symmetry_breaking=0.3), points()
    for g in [*AXIS_REFLECTIONS, *(rotation(2, a) for a in (0.3, 1.0, 2.5)), AXIS_REFLECTIONS[4] @ rotation(2, 0.7)]:
        assert errors(data, g, x).max() < 1e-14


@pytest.mark.parametrize("axis", [0, 1])
def test_modified_inertia_is_broken_by_turns_that_move_z(axis):
    data = inertia(train=1, symmetry_breaking=0.3)
    assert errors(data, rotation(axis, 1.0), points()).min() > 1e-2


def test_the_generic_matrix_leaves_only_minus_one():
    data, x = inertia(train=1, symmetry_breaking=0.3, kind="generic"), points()
    one = torch.eye(3).double()
    assert errors(data, -one, x).max() < 1e-14
    broken = [g for g in AXIS_REFLECTIONS if (g.abs() - g).abs().sum() not in (0.0, 6.0)]
    assert len(broken) == 6
    for g in [*broken, *(rotation(axis, a) for axis in range(3) for a in (0.5, 2.0))]:
        assert errors(data, g, x).mean() > 1e-2


@pytest.mark.statistical
def test_the_mean_error_of_modified_inertia_under_haar_elements():
    data, x = inertia(train=1, symmetry_breaking=0.3), points(1000)
    mean = torch.stack([errors(data, g, x).mean() for g in O(3).sample(300, seed=shifted())]).mean()
    assert abs(float(mean) - 0.086) < 0.003


@pytest.mark.statistical
def test_inputs_are_soft_positive_masses_and_standard_positions():
    x = inertia(train=4000, seed=shifted()).train.x.double()
    masses, positions = x[:, :5], x[:, 5:]
    gaussian = torch.expm1(masses).log()
    for sample in (gaussian.flatten(), positions.flatten()):
        count = sample.numel()
        assert abs(float(sample.mean())) < z_limit(4) / count**0.5
        assert abs(float(sample.square().mean()) - 1) < z_limit(4) * (2 / count) ** 0.5


def test_the_same_seed_gives_the_same_inputs_for_every_breaking():
    state = torch.get_rng_state()
    first, second = inertia(train=9, seed=3), inertia(train=9, seed=3, symmetry_breaking=0.3, kind="generic")
    assert torch.equal(first.train.x, second.train.x)
    assert torch.equal(first.test.x, second.test.x)
    assert not torch.equal(first.train.y, second.train.y)
    assert torch.equal(inertia(train=9, seed=3).train.y, first.train.y)
    assert not torch.equal(inertia(train=9, seed=4).train.x, first.train.x)
    assert torch.equal(state, torch.get_rng_state())


def test_train_and_test_do_not_overlap():
    data = inertia(train=50, test=50)
    assert (data.train.x[:, None] - data.test.x[None]).abs().amax(-1).min() > 0


def test_the_function_takes_any_batch():
    data, x = inertia(train=1, symmetry_breaking=0.3), points(6)
    torch.testing.assert_close(data.function(x.reshape(2, 3, 20)), data.function(x).reshape(2, 3, 9))
    torch.testing.assert_close(data.function(x[0]), data.function(x)[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "rotation"}, "kind must be 'axis' or 'generic', got 'rotation'"),
        ({"train": 0}, "need train >= 1 and test >= 0 examples, got 0 and 1000"),
        ({"test": -1}, "got 1000 and -1"),
    ],
)
def test_impossible_requests_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        inertia(**arguments)
