"""The local equivariance error against closed forms, and against the equivariance error of small steps."""

import math

import numpy as np
import pytest
import torch

from analysis import equivariance_error, local_equivariance_error
from bayes_rpp import EMLP, MLP, O13, RPPEMLP, SL, SO, D, Group, Irrep, O, O2eR3, S, Scalar, SO2eR3, T, Trivial, Vector
from bayes_rpp.datasets import inertia
from inference import Posterior

STEP = 1e-4  # two-sided differences err by its square, their rounding by 1e-16 over it


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def generic(size_in, size_out):
    """A smooth map that keeps no symmetry, and is far from 0 wherever the points are."""
    first, second, third = (numbers(size_out, size_in, seed=k) / math.sqrt(size_in) for k in range(3))

    def f(x):
        return torch.tanh(x @ first.mT) + torch.sin((x @ second.mT) * (x @ third.mT)) + 3.0

    return f


def mixed(group, seed=0):
    """The same group with another basis of its Lie algebra, neither orthogonal nor independent."""
    k = len(group.lie_algebra)
    mixing = numbers(k + 1, k, seed=seed)
    return Group(torch.einsum("rk,kij->rij", mixing, group.lie_algebra))


CASES = {
    "SO(3)": ((2 * Vector)(SO(3)), (Scalar + 2 * Vector)(SO(3))),
    "O(2)": (T(2)(O(2)), Vector(O(2))),
    "Lorentz": (Vector(O13()), (Vector.dual + T(1, 1))(O13())),
    "SL(2)": ((2 * Vector)(SL(2)), T(0, 2)(SL(2))),
    "product": (Vector(SO(3)) * Vector(SO(2)), Vector(SO(2)) + Scalar(SO(3) * SO(2)) + Vector(SO(3))),
    "irreps": ((Vector + Irrep(2))(SO(3)), (Irrep(2) + Vector)(SO(3))),
    "a user's basis": (Vector(mixed(SO(3))), Vector(mixed(SO(3)))),
}
cases = pytest.mark.parametrize("case", CASES)


@pytest.mark.parametrize("per_output", [False, True])
@cases
def test_it_is_the_equivariance_error_of_a_small_step(case, per_output):
    rep_in, rep_out = CASES[case]
    group, f, x = rep_in.group, generic(rep_in.size, rep_out.size), numbers(7, rep_in.size, seed=5)
    reps = {"rep_in": rep_in, "rep_out": rep_out, "per_output": per_output}
    local = local_equivariance_error(f, x, per_generator=True, **reps)
    lengths = (group.lie_algebra.square().sum((1, 2)) / 2).sqrt()[:, None, None]
    steps = [torch.linalg.matrix_exp(sign * STEP * group.lie_algebra / lengths) for sign in (1, -1)]
    errors = [equivariance_error(f, x, elements=g, per_element=True, **reps) for g in steps]
    finite = (errors[0].values + errors[1].values) / (2 * STEP)
    assert local.dims == ("generator", *(["output"] if per_output else []))
    assert local.sizes["generator"] == len(group.lie_algebra)
    np.testing.assert_allclose(local.values, finite, rtol=1e-6)
    assert (local > 1e-2).all()
    if per_output:
        np.testing.assert_array_equal(local.output, errors[0].output)


@cases
def test_without_generators_it_is_the_root_mean_square_over_directions(case):
    """For an orthonormal basis, here a random one."""
    rep_in, rep_out = CASES[case]
    algebra = 2**0.5 * rep_in.group.orthonormal_algebra
    turn = torch.linalg.qr(numbers(len(algebra), len(algebra)))[0]
    frame = torch.linalg.matrix_exp(STEP * torch.einsum("rk,kij->rij", turn, algebra))
    back = torch.linalg.inv(frame)
    f, x = generic(rep_in.size, rep_out.size), numbers(1, rep_in.size, seed=5)
    reps = {"rep_in": rep_in, "rep_out": rep_out}
    errors = [equivariance_error(f, x, elements=g, per_element=True, **reps).values for g in (frame, back)]
    expected = math.sqrt((((errors[0] + errors[1]) / (2 * STEP)) ** 2).mean())
    assert float(local_equivariance_error(f, x, **reps)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("group", [SO(3), O13(), SL(2)], ids=str)
def test_the_basis_of_the_lie_algebra_makes_no_difference(group):
    f, x = generic(group.d, group.d), numbers(6, group.d)
    reps = {"rep_in": Vector, "rep_out": Vector}
    values = [float(local_equivariance_error(f, x, g, **reps)) for g in (group, mixed(group), mixed(group, seed=1))]
    assert values[1:] == pytest.approx(values[:1] * 2, rel=1e-10)


def test_of_a_compact_group_neither_do_the_coordinates():
    """rho(h)^-1 f rho(h) has at x the error that f has at rho(h) x."""
    rep_in, rep_out = CASES["SO(3)"]
    f, x, h = generic(6, 7), numbers(5, 6), SO(3).sample(1, seed=3)[0]

    def turned(x):
        return f(x @ rep_in.rho(h).mT) @ rep_out.rho(h)

    reps = {"rep_in": rep_in, "rep_out": rep_out}
    there = float(local_equivariance_error(f, rep_in.apply(h, x), **reps))
    assert float(local_equivariance_error(turned, x, **reps)) == pytest.approx(there, rel=1e-12)


def test_a_linear_map_has_its_commutators():
    """L_a f(x) = (a W - W a) x."""
    weight, x = numbers(3, 3), numbers(20, 3, seed=1)
    reps = {"rep_in": Vector(SO(3)), "rep_out": Vector(SO(3))}
    commutators = torch.stack([(a @ weight - weight @ a) for a in SO(3).lie_algebra])
    moved, sizes = (x @ commutators.mT).norm(dim=-1), 2 * (x @ weight.mT).norm(dim=-1)
    each = local_equivariance_error(lambda v: v @ weight.mT, x, per_generator=True, **reps)
    np.testing.assert_allclose(each, (moved / sizes).mean(-1), rtol=1e-12)
    total = local_equivariance_error(lambda v: v @ weight.mT, x, **reps)
    assert float(total) == pytest.approx(float((moved.square().mean(0).sqrt() / sizes).mean()), rel=1e-12)


def test_a_mirror_on_the_sphere():
    """W = diag(1, 1, -1) commutes with rotations about z and anticommutes with the other two where they act: at a unit
    vector the root mean square over directions is sqrt((1 + z^2) / 3), and z is uniform on a sphere."""
    z = (torch.arange(2000, dtype=torch.float64) + 0.5) / 1000 - 1
    x = torch.stack([(1 - z**2).sqrt(), torch.zeros_like(z), z], dim=1)
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
    total = local_equivariance_error(lambda v: v @ mirror, x, SO(3), rep_in=Vector, rep_out=Vector)
    assert float(total) == pytest.approx((math.sqrt(2) + math.asinh(1)) / (2 * math.sqrt(3)), rel=1e-6)


def test_modified_inertia():
    """f(x) = I (1 + c P) with P = z z^T, so that L_a f = c I (a P - P a): nothing about the z axis."""
    c, data = 0.7, inertia(train=1, test=50, symmetry_breaking=0.7, seed=0)
    x, reps = data.test.x.double(), {"rep_in": data.rep_in, "rep_out": data.rep_out}
    whole = inertia(train=1, symmetry_breaking=0.0).function(x).unflatten(-1, (3, 3))
    axis = torch.diag(torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    lie = torch.stack([c * whole @ (a @ axis - axis @ a) for a in O(3).lie_algebra])
    sizes = 2 * data.function(x).norm(dim=-1)
    each = local_equivariance_error(data.function, x, per_generator=True, **reps)
    np.testing.assert_allclose(each, (lie.flatten(-2).norm(dim=-1) / sizes).mean(-1), atol=1e-14)
    assert float(each[0]) < 1e-14
    assert float(each[1:].min()) > 0.1
    total = (lie.flatten(-2).norm(dim=-1).square().mean(0).sqrt() / sizes).mean()
    assert float(local_equivariance_error(data.function, x, **reps)) == pytest.approx(float(total), rel=1e-12)
    assert float(local_equivariance_error(data.function, x, SO2eR3(), **reps)) < 1e-14


def test_equivariant_networks_have_none_and_others_have():
    x, errors = numbers(10, 8), {}
    for kind in (EMLP, RPPEMLP, MLP):
        torch.manual_seed(0)
        network = kind(2 * Scalar + 2 * Vector, Vector, O(3), channels=64, layers=2).double()
        errors[kind] = local_equivariance_error(network, x, per_generator=True)
        assert float(network(x).detach().std(0).min()) > 1e-4  # of a constant function any measure is 0
    assert float(errors[EMLP].max()) < 1e-12
    assert float(errors[RPPEMLP].min()) > 1e-4
    assert float(errors[MLP].min()) > 0.1


def test_a_posterior_is_measured_draw_by_draw(fit_small, bodies):
    posterior = fit_small(bodies, dtype=torch.float64, members=4)
    samples = {name: value.reshape(2, 2, *value.shape[2:]) for name, value in posterior.samples.items()}
    x, reps = bodies.test.x.double(), {"rep_in": bodies.rep_in, "rep_out": bodies.rep_out}
    together = Posterior(posterior.model, samples)
    for options in ({}, {"per_generator": True}, {"per_output": True}, {"per_generator": True, "per_output": True}):
        found = local_equivariance_error(together, x, **options)
        kept = [option.removeprefix("per_") for option in options]
        assert found.dims == ("chain", "draw", *kept)
        for chain in range(2):
            for draw in range(2):
                params = {name: value[chain, draw] for name, value in samples.items()}
                alone = local_equivariance_error(lambda v, p=params: posterior.model.output(p, v), x, **reps, **options)
                np.testing.assert_allclose(found[chain, draw], alone, rtol=1e-10)
    single = Posterior(posterior.model, {name: value[:1, :1] for name, value in samples.items()})
    np.testing.assert_allclose(local_equivariance_error(single, x)[0, 0], local_equivariance_error(together, x)[0, 0])


def test_many_points_are_taken_some_at_a_time(fit_small, bodies, monkeypatch):
    posterior, x = fit_small(bodies, dtype=torch.float64), bodies.test.x
    whole = local_equivariance_error(posterior, x, per_generator=True, per_output=True)
    monkeypatch.setattr("inference.memory.AT_ONCE", 50_000)
    np.testing.assert_allclose(local_equivariance_error(posterior, x, per_generator=True, per_output=True), whole)


def cross(x):
    """Of two vectors: a vector under rotations, but one that reflections leave with the wrong sign."""
    return torch.linalg.cross(x[:, :3], x[:, 3:])


def test_reflections_are_not_seen_and_this_is_said():
    x, reps = numbers(5, 6), {"rep_in": (2 * Vector)(O(3)), "rep_out": Vector(O(3))}
    local = local_equivariance_error(cross, x, **reps)
    assert float(local) < 1e-12
    assert local.attrs["not_seen"] == ["reflection of axis 0"]
    assert float(equivariance_error(cross, x, **reps)) > 0.1
    assert local_equivariance_error(cross, x, SO(3), **reps).attrs["not_seen"] == []


def test_generators_have_names():
    each = local_equivariance_error(cross, numbers(5, 6), O(3), rep_in=2 * Vector, rep_out=Vector, per_generator=True)
    planes = [(0, 1), (0, 2), (1, 2)]
    assert each.generator.values.tolist() == [f"rotation in the plane of axes {i} and {j}" for i, j in planes]
    assert each.attrs["inner_product"] == "tr(a^T b) / 2"


@pytest.mark.parametrize("group", [Trivial(3), S(3), D(4)], ids=str)
def test_groups_without_a_lie_algebra_are_refused(group):
    rep = Vector(group)
    with pytest.raises(ValueError, match=r"has no Lie algebra.*use equivariance_error"):
        local_equivariance_error(lambda v: v, torch.ones(2, group.d), rep_in=rep, rep_out=rep)


def test_where_f_is_zero_only_its_derivative_counts():
    x = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    reps = {"rep_in": Vector(SO2eR3()), "rep_out": Scalar(SO2eR3())}
    assert float(local_equivariance_error(lambda v: v[:, :1], x, **reps)) == math.inf
    assert float(local_equivariance_error(lambda v: 0 * v[:, :1], x, **reps)) == 0.0


def test_whole_numbers_are_points_too():
    reps = {"rep_in": Vector(SO(3)), "rep_out": Vector(SO(3))}
    whole = local_equivariance_error(lambda v: v**2, torch.tensor([[1, 2, 3]]), **reps)
    assert float(whole) == float(local_equivariance_error(lambda v: v**2, torch.tensor([[1.0, 2, 3]]), **reps))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rep_out": None}, r"local_equivariance_error needs rep_in and rep_out"),
        ({"rep_in": 2 * Vector, "rep_out": Vector}, r"local_equivariance_error needs a group"),
        ({"group": O(2)}, r"O\(3\) on R\^3; O\(2\) acts on R\^2"),
        ({"x": torch.zeros(4, 5)}, r"\(4, 5\).*needs \(batch, 6\)"),
        ({"x": torch.full((4, 6), float("inf"))}, r"x holds NaN or infinite"),
        ({"rep_out": (2 * Vector)(O(3))}, r"gives 3 numbers a point.*size 6"),
    ],
    ids=["no rep", "no group", "other space", "width", "infinite", "rep_out"],
)
def test_bad_arguments_are_refused_by_name(change, message):
    reps = {"rep_in": (2 * Vector)(O(3)), "rep_out": Vector(O(3))}
    with pytest.raises(ValueError, match=message):
        local_equivariance_error(cross, **({"x": numbers(4, 6), **reps} | change))


def test_a_subgroup_has_the_error_of_its_own_directions():
    f, x, reps = generic(6, 3), numbers(5, 6), {"rep_in": (2 * Vector)(O(3)), "rep_out": Vector(O(3))}
    whole = local_equivariance_error(f, x, per_generator=True, **reps)
    about_z = local_equivariance_error(f, x, O2eR3(), **reps)
    assert float(about_z) == pytest.approx(float(whole[0]), rel=1e-12)
