"""Kept symmetries of linear maps, whose Lie derivatives are drho_out(a) W - W drho_in(a), and of known functions."""

import math

import pytest
import torch

from analysis import kept_symmetry, local_equivariance_error
from analysis.discovery.lie_forms import lie_forms
from analysis.discovery.subspaces import principal_angles
from bayes_rpp import SO, BayesianModel, Gaussian, Group, RPPLinear, RPPPrior, S, Trivial, Vector
from bayes_rpp.datasets import inertia
from inference import Posterior
from tests.error_rate import agrees
from tests.scenarios.numbers import numbers

VECTOR = Vector(SO(3))
DIRECTIONS = 2**0.5 * SO(3).orthonormal_algebra


def posterior_of(weights):
    """Draws (chain, draw, 3, 3) of a linear map of vectors."""
    network = RPPLinear(VECTOR, VECTOR, bias=False, parametrization="collapsed").double()
    return Posterior(BayesianModel(network, RPPPrior(), Gaussian(0.1)), {"weight": weights})


def rotation_to(axis):
    """A rotation that takes the z axis there."""
    first = torch.linalg.qr(torch.stack([axis, *numbers(2, 3)], 1)).Q
    turn = torch.stack([first[:, 1], first[:, 2], first[:, 0] * (first[:, 0] @ axis).sign()], 1)
    return turn * torch.tensor([torch.linalg.det(turn).sign(), 1, 1])


AXIS = torch.nn.functional.normalize(torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64), dim=0)
TURN = rotation_to(AXIS)
ABOUT_Z = torch.tensor([[1.0, -0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 2.0]], dtype=torch.float64)
ABOUT_AXIS = TURN @ ABOUT_Z @ TURN.T


def test_the_forms_are_those_of_the_matrices():
    weights, x = numbers(4, 3, 3), numbers(50, 3)
    forms = lie_forms(posterior_of(weights[:, None]), x, VECTOR, VECTOR, DIRECTIONS)
    derivatives = torch.stack([DIRECTIONS @ w - w @ DIRECTIONS for w in weights])  # (draw, direction, 3, 3)
    values = derivatives @ x.T
    squares = (weights @ x.T).square().sum((1, 2))
    expected = torch.einsum("dimr,djmr->dij", values, values) / (4 * squares[:, None, None])
    torch.testing.assert_close(forms.of_draws, expected)
    mean, away = values.mean(0), values - values.mean(0)
    torch.testing.assert_close(forms.of_mean, torch.einsum("imr,jmr->ij", mean, mean) / (4 * squares.mean()))
    spread = torch.einsum("dimr,djmr->ij", away, away) / 3
    torch.testing.assert_close(forms.of_spread, spread / (4 * squares.mean()))
    pair = posterior_of(weights[:2, None])
    along = local_equivariance_error(pair, x[:1], per_generator=True, rep_in=VECTOR, rep_out=VECTOR)[0, 0]
    form = lie_forms(pair, x[:1], VECTOR, VECTOR, DIRECTIONS).of_draws[0]
    torch.testing.assert_close(form.diagonal().sqrt(), torch.as_tensor(along.values))  # at one point they are the same


def test_chance_is_the_error_of_terms_that_have_nothing_to_do_with_each_other():
    """A unit rotation moves a vector by two thirds of its squared length on average, as does a random direction."""
    x = numbers(4000, 3)
    chance = lie_forms(lambda x: x, x, VECTOR, VECTOR, DIRECTIONS).of_noise
    assert math.isclose(chance, ((2 / 3 + 2 / 3) / 4) ** 0.5, rel_tol=0.05)


def test_draws_around_a_map_that_keeps_an_axis():
    kept = kept_symmetry(posterior_of(ABOUT_AXIS + 0.01 * numbers(2, 10, 3, 3)), numbers(200, 3))
    assert kept.dimension == 1
    assert kept.share >= 0.75
    assert kept.distances[0] < 1.5 < 10 < kept.distances[1]
    turned = torch.stack([kept.along[0, 2, 1], kept.along[0, 0, 2], kept.along[0, 1, 0]])
    assert math.degrees(math.acos(abs(float(turned @ AXIS)))) < kept.radius(0.9999) < 3
    assert kept.known.words.startswith("rotations about (0.2")
    assert str(kept).startswith(
        f"It keeps 1 of the 3 directions of SO(3), in {round(20 * kept.share)} of 20 draws: rot"
    )
    assert kept.local_errors.dims == ("chain", "draw", "direction")
    assert kept.angles.shape == (2, 10)
    group = kept.as_group()
    assert len(group.lie_algebra) == 1
    assert torch.allclose(group.lie_algebra[0] @ AXIS, torch.zeros(3).double(), atol=0.05)


def test_everything_and_nothing_may_be_kept():
    x = numbers(100, 3)
    everything = kept_symmetry(posterior_of(torch.eye(3) + 0.01 * numbers(1, 12, 3, 3)), x)
    assert (everything.dimension, everything.radius(), everything.known.words) == (3, 0.0, "rotations")
    nothing = kept_symmetry(posterior_of(torch.diag(torch.tensor([1.0, 2.0, 3.0])) + 0.01 * numbers(1, 12, 3, 3)), x)
    assert (nothing.dimension, nothing.known.words) == (0, "nothing but the identity")
    assert str(nothing).startswith("It keeps 0 of the 3 directions of SO(3), in 12 of 12 draws. In posterior")
    with pytest.raises(ValueError, match="no group: nothing is kept"):
        nothing.as_group()
    ignorance = kept_symmetry(posterior_of(3 * numbers(1, 12, 3, 3)), x)
    assert ignorance.is_unsure
    assert "this may be ignorance" in str(ignorance)
    assert not everything.is_unsure


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Draws and truth around a centre alike: an axis, and the pair of a rotation and scalings among all matrices."""
    x, hits = numbers(30, 3), []
    generator = torch.Generator().manual_seed(0)
    truth = kept_symmetry(lambda x: x @ ABOUT_AXIS.T, x, SO(3), rep_in=VECTOR, rep_out=VECTOR).subalgebra.basis
    for _ in range(400):
        noise = 0.01 * torch.randn(9, 3, 3, generator=generator, dtype=torch.float64)
        kept = kept_symmetry(posterior_of((ABOUT_AXIS + noise[0] + noise[1:])[:, None]), x)
        away = principal_angles(kept.subalgebra.basis, truth).norm()
        hits.append([math.degrees(away) < kept.radius(level) for level in (0.5, 0.9)])
    assert agrees(torch.tensor(hits, dtype=torch.float64), torch.tensor([0.5, 0.9]), allowance=0.03)


def test_held_out_data_correct_the_spread_of_draws_that_are_wrong_together():
    x, found = numbers(200, 3), []
    shared = ABOUT_AXIS + 0.05 * numbers(4, 3)[1:]
    posterior = posterior_of(shared + 0.005 * numbers(1, 12, 3, 3))
    noise = 0.1 * numbers(3, 200).T
    for y, variance in ((None, None), (x @ ABOUT_AXIS.T, 0.0), (x @ ABOUT_AXIS.T + noise, 0.01)):
        found.append(kept_symmetry(posterior, x, y=y, noise_variance=variance))
    assert [kept.dimension for kept in found] == [0, 1, 1]
    predicted = posterior.predict(x)
    ratio = (predicted.mean - x @ ABOUT_AXIS.T).square().mean() / predicted.epistemic.mean()
    assert found[0].inflation == 1.0
    assert math.isclose(found[1].inflation, float(ratio.sqrt()))
    assert math.isclose(found[2].inflation, found[1].inflation, rel_tol=0.2)
    torch.testing.assert_close(
        torch.as_tensor(found[1].distances.values * found[1].inflation), torch.as_tensor(found[0].distances.values)
    )
    turned = torch.stack([found[1].along[0, 2, 1], found[1].along[0, 0, 2], found[1].along[0, 1, 0]])
    assert math.degrees(math.acos(min(1.0, abs(float(turned @ AXIS))))) < found[1].radius(0.9999)


def test_breaks_are_seen_from_the_detectable_error_on():
    x, broken, spread = numbers(200, 3), torch.diag(torch.tensor([1.0, 1.0, -2.0])).double(), 1e-3
    signs = torch.tensor([1.0, -1.0]).repeat(10)[:, None, None, None] * (19 / 20) ** 0.5  # of standard deviation 1
    for distance, dimension in ((1.4, 3), (1.6, 1)):
        kept = kept_symmetry(posterior_of(torch.eye(3) + spread * (distance + signs) * broken), x)
        assert kept.dimension == dimension
    just_seen = kept_symmetry(lambda x: x @ (torch.eye(3).double() + 1.5 * spread * broken), x, SO(3),
        rep_in=VECTOR, rep_out=VECTOR)  # fmt: skip
    assert math.isclose(kept.detectable.max(), just_seen.local_errors.max(), rel_tol=0.01)
    assert kept.detectable.min() < 1e-6  # rotations about z, which all draws keep
    assert "Local errors below" in str(kept)


def test_what_known_functions_keep():
    x = inertia(train=1, test=100).test.x.double()
    for kind, breaking, words in (
        ("axis", 0.0, "rotations, and scalings of all axes"),
        ("axis", 0.3, "rotations about (0.00, 0.00, 1.00), and scalings of all axes"),
        ("generic", 0.3, "scalings of all axes"),
    ):
        data = inertia(train=1, symmetry_breaking=breaking, kind=kind)
        reps = {"rep_in": data.rep_in, "rep_out": data.rep_out}
        kept = kept_symmetry(data.function, x, algebra="gl", **reps)
        assert kept.known.words == words
        assert str(kept) == f"It keeps {kept.dimension} of the 9 directions of GL(3): {words}."
        assert kept.known.angle < 1e-6
    loose = kept_symmetry(data.function, x, data.group, tolerance=1.0, **reps)
    assert loose.dimension == 3


def test_each_factor_of_a_product_has_matrices_of_its_own():
    """Sums of five vectors do not mind their order, nor any change of the order's coordinates that keeps the sum."""
    pair = SO(3) * S(5)
    reps = {"rep_in": Vector(SO(3)) * Vector(S(5)), "rep_out": Vector(SO(3))}
    kept = kept_symmetry(lambda x: x.unflatten(1, (3, 5)).sum(-1), numbers(40, 15), pair, algebra="gl", **reps)
    assert str(kept.group) == "GL(3) * GL(5)"
    assert kept.dimension == 9 + 20  # all of GL(3), and the matrices whose columns sum to 0


def test_what_cannot_be_searched_is_refused():
    x, good = numbers(5, 3), posterior_of(ABOUT_Z + numbers(1, 4, 3, 3))
    for call, message in (
        (lambda: kept_symmetry(posterior_of(ABOUT_Z[None, None]), x), "this one has a single draw"),
        (lambda: kept_symmetry(posterior_of(ABOUT_Z.repeat(1, 3, 1, 1)), x), "all draws of the posterior are alike"),
        (lambda: kept_symmetry(good, x, tolerance=0.1), "tolerance is for functions"),
        (lambda: kept_symmetry(torch.sin, x, y=x, rep_in=VECTOR, rep_out=VECTOR), "y is for posteriors"),
        (lambda: kept_symmetry(good, x, y=x[:, :2]), r"y must hold finite numbers of shape \(5, 3\), got \(5, 2\)"),
        (lambda: kept_symmetry(good, x, algebra="sl"), "algebra must be 'gl' or None, got 'sl'"),
        (lambda: kept_symmetry(good, x, Trivial(3)), r"Trivial\(3\) has no Lie algebra"),
        (lambda: kept_symmetry(good, x[:, :2]), r"x has shape \(5, 2\)"),
        (lambda: kept_symmetry(torch.zeros_like, x, rep_in=VECTOR, rep_out=VECTOR), "f is 0 at all points"),
        (lambda: kept_symmetry(good, x, y=x, noise_variance=-1.0), "noise_variance must be finite and not negative"),
        (
            lambda: kept_symmetry(posterior_of(ABOUT_Z.repeat(1, 3, 1, 1)), x, y=x),
            "all draws of the posterior are alike",
        ),
        (
            lambda: kept_symmetry(posterior_of(ABOUT_Z * torch.tensor([1.0, 0.0, 2.0])[:, None, None, None]), x),
            "f is 0 at all points under draw 1",
        ),
        (lambda: kept_symmetry(lambda x: x / 0, x, rep_in=VECTOR, rep_out=VECTOR), "NaN or infinite at some points"),
        (
            lambda: kept_symmetry(good, x, Group(SO(3).lie_algebra[:2]), rep_in=Vector, rep_out=Vector),
            "is not closed: brackets leave it by 1",
        ),
        (lambda: kept_symmetry(torch.sin, x), "needs rep_in and rep_out"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
