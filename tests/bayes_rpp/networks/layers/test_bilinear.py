"""The bilinear layers against the equations in their docstrings, term by term."""

import itertools

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch.func import functional_call, vmap

from bayes_rpp import SL, SO, D, O, PseudoScalar, RPPPrior, Scalar, SO13p, T, Vector
from bayes_rpp.networks import EquivariantBilinear, LowRankBilinear
from bayes_rpp.representations.factors import SIGN, VECTOR
from bayes_rpp.representations.tensor_products import dual_piece
from tests.error_rate import z_limit
from tests.scenarios.numbers import numbers
from tests.seeds import shifted

REPS = {
    "SO(3)": (2 * Scalar + 4 * Vector + 2 * T(2))(SO(3)),
    "few vectors": (9 * Scalar + Vector)(SO(3)),
    "O(3) with signs": (2 * Scalar + 2 * Vector + PseudoScalar * Vector + T(2) + PseudoScalar)(O(3)),
    "rank three": (Scalar + Vector + T(2) + T(3))(SO(2)),
    "D(4)": (3 * Scalar + 3 * Vector + T(2))(D(4)),
    "SL(2)": (2 * Scalar + 3 * Vector + 2 * T(0, 1) + 3 * T(1, 1) + T(2))(SL(2)),
    "SL(2) mixed axes": (Vector + T(0, 1) + T(1, 2) + 2 * T(2, 1) + T(1, 1) + T(0, 2))(SL(2)),
    "SL(3)": (Scalar + 2 * Vector + T(0, 1) + 4 * T(1, 1))(SL(3)),
}
MOST_COPIES = 3
LAYERS = EquivariantBilinear, LowRankBilinear
REPEATED = (Vector + 2 * Scalar + Vector)(SO(3))


def pieces(rep):
    for run in rep.runs:
        for copy in range(run.multiplicity):
            yield run.piece, slice(run.start + copy * run.piece_size, run.start + (copy + 1) * run.piece_size)


def axes(piece):
    return [factor for factor in piece if factor != SIGN]


def kind(piece, orthogonal):
    factors = [VECTOR if orthogonal else factor for factor in axes(piece)]
    return factors.count(VECTOR), len(factors), piece.count(SIGN) % 2


def matched(tensor, own, wanted):
    """The axes of a tensor in the wanted order: for each wanted factor the first axis of its kind that is left."""
    left, order = list(enumerate(own)), []
    for factor in wanted:
        position = next(i for i, (_, f) in enumerate(left) if f == factor)
        order.append(left.pop(position)[0])
    return torch.einsum(tensor, [0, *[1 + i for i in range(len(own))]], [0, *[1 + i for i in order]])


def literal_terms(rep, x, most_copies=MOST_COPIES):
    """Every x_k[i, j] x_a[j], put in the place of b: (terms, batch, n)."""
    d, orthogonal, terms = rep.bound_group.d, rep.bound_group.is_orthogonal, []
    for (p, at_b), (r, at_a) in itertools.product(pieces(rep), pieces(rep)):
        wanted = p + dual_piece(r)
        same = [(q, at) for q, at in pieces(rep) if axes(q) and kind(q, orthogonal) == kind(wanted, orthogonal)]
        for q, at_k in same[:most_copies]:
            own = axes(q)
            order = [VECTOR] * len(own) if orthogonal else axes(wanted)
            tensor = matched(x[:, at_k].reshape(len(x), *[d] * len(own)), own, order)
            maps = tensor.reshape(len(x), d ** len(axes(p)), d ** len(axes(r)))
            term = torch.zeros_like(x)
            term[:, at_b] = torch.einsum("nij,nj->ni", maps, x[:, at_a])
            terms.append(term)
    return torch.stack(terms)


def layers_terms(layer, x):
    units = torch.eye(layer.weight.numel()).double()
    return vmap(lambda w: functional_call(layer, {"weight": w}, (x,)))(units)


def assert_same_terms(layer, x):
    ours, literal = layers_terms(layer, x).flatten(1), literal_terms(layer.rep, x).flatten(1)
    assert ours.shape == literal.shape
    distances = cdist(ours.numpy(), literal.numpy())
    rows, columns = linear_sum_assignment(distances)
    assert distances[rows, columns].max() < 1e-10


def test_each_weight_carries_one_term_of_the_equation(subtests):
    for name, rep in REPS.items():
        with subtests.test(msg=name):
            assert_same_terms(EquivariantBilinear(rep).double(), numbers(4, rep.size))


def test_copies_of_a_type_count_together_wherever_they_stand():
    assert_same_terms(EquivariantBilinear(REPEATED).double(), numbers(4, REPEATED.size))


def test_both_orders_of_contraction_are_among_the_cases():
    layers = [EquivariantBilinear(rep) for rep in REPS.values()]
    assert any(layer._contracting for layer in layers)
    assert any(layer._mixing for layer in layers)


def test_the_layer_is_the_sum_of_its_weighted_terms(subtests):
    for name, rep in REPS.items():
        with subtests.test(msg=name):
            layer, x = EquivariantBilinear(rep, scale=0.3).double(), numbers(4, rep.size)
            plain = EquivariantBilinear(rep).double()
            expected = 0.3 * torch.einsum("w,wbn->bn", layer.weight, layers_terms(plain, x))
            torch.testing.assert_close(layer(x), expected, rtol=1e-11, atol=1e-11)


def test_a_layer_of_low_rank_is_a_sum_of_terms_of_the_equation(subtests):
    for name, rep in REPS.items():
        with subtests.test(msg=name):
            x = numbers(200, rep.size)
            layer, terms = LowRankBilinear(rep).double(), literal_terms(rep, x, most_copies=None).flatten(1).mT
            y = layer(x).detach().flatten()
            fitted = terms @ torch.linalg.lstsq(terms, y[:, None], driver="gelsd").solution[:, 0]
            torch.testing.assert_close(fitted, y, rtol=0, atol=1e-9 * float(y.abs().max()))


def test_the_coefficients_of_pairs_of_copies_have_rank_eight_at_most():
    for copies, rank in ((17, 8), (10, 5), (3, 2)):
        rep, size = (copies * Vector + 11 * T(2))(O(3)), 3 * copies
        layer, x = LowRankBilinear(rep).double(), numbers(800, rep.size)
        vectors, tensors = x[:, :size].unflatten(1, (copies, 3)), x[:, size:].unflatten(1, (11, 3, 3))
        terms = torch.einsum("bkij,baj->bika", tensors, vectors).flatten(2).flatten(0, 1)
        of_output = layer(x).detach()[:, :3].reshape(-1, 1)
        coefficients = torch.linalg.lstsq(terms, of_output).solution
        torch.testing.assert_close(terms @ coefficients, of_output, rtol=1e-9, atol=1e-9)
        assert torch.linalg.matrix_rank(coefficients.reshape(11, copies), rtol=1e-9) == rank


def test_layers_are_equivariant(subtests):
    for (name, rep), kind in itertools.product(REPS.items(), LAYERS):
        with subtests.test(msg=f"{name}, {kind.__name__}"):
            layer, x = kind(rep).double(), numbers(4, rep.size)
            for g in rep.bound_group.sample(5, seed=0):
                torch.testing.assert_close(layer(rep.apply(g, x)), rep.apply(g, layer(x)), rtol=1e-10, atol=1e-10)


def test_pieces_of_one_type_with_their_axes_in_two_orders_keep_it_equivariant(subtests):
    rep = (2 * Vector + T(1, 1) + Vector.dual * Vector)(SL(2))
    for kind in LAYERS:
        with subtests.test(msg=kind.__name__):
            layer, x = kind(rep).double(), numbers(4, rep.size)
            for g in rep.bound_group.sample(5, seed=0):
                torch.testing.assert_close(layer(rep.apply(g, x)), rep.apply(g, layer(x)), rtol=1e-10, atol=1e-10)


def test_layers_are_quadratic_and_take_any_batch(subtests):
    for (name, rep), kind in itertools.product(REPS.items(), LAYERS):
        with subtests.test(msg=f"{name}, {kind.__name__}"):
            layer, x = kind(rep, scale=0.3).double(), numbers(2, 3, rep.size)
            torch.testing.assert_close(layer(2 * x), 4 * layer(x), rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(layer(x)[1, 2], layer(x[1, 2]), rtol=1e-12, atol=1e-12)
            assert layer(x[:0]).shape == (0, 3, rep.size)


def test_scalars_alone_have_no_bilinear_terms(subtests):
    for kind in LAYERS:
        with subtests.test(msg=kind.__name__):
            layer, x = kind((5 * Scalar)(SO(3))), torch.ones(2, 5)
            assert layer.weight.numel() == 0
            assert torch.equal(layer(x), torch.zeros(2, 5))


def test_pieces_that_no_term_reaches_get_nothing(subtests):
    rep = (2 * Scalar + Vector + T(3))(SO(3))
    x = numbers(2, rep.size)
    reached = literal_terms(rep, x).abs().sum((0, 1)) > 0
    for kind in LAYERS:
        with subtests.test(msg=kind.__name__):
            assert torch.equal(kind(rep).double()(x).abs().sum(0) > 0, reached)


@pytest.mark.statistical
def test_functions_drawn_from_the_prior_of_a_layer_of_low_rank_have_the_equivariant_variance(subtests):
    """At standard normal x, in every piece, scalar products of pieces with themselves among them. The mean over draws
    has a heavy tail, a product of three normal weights and two inputs: its own error, estimated, is the measure.
    """
    for group, copies in (
        (O(3), 20 * Scalar + 9 * Vector + 4 * T(2)),
        (SO13p(), 6 * Scalar + 6 * Vector + 6 * Vector.dual),
    ):
        layer, squares = LowRankBilinear(copies(group)).double(), []
        generator = torch.Generator().manual_seed(shifted())
        laws = RPPPrior(3.0).distributions(layer)
        for _ in range(400):
            for name, parameter in layer.named_parameters():
                noise = torch.randn(len(parameter), generator=generator).double()
                parameter.data = noise * laws[name].variance.sqrt().double()
            with torch.no_grad():
                squares.append(layer(torch.randn(20, layer.rep.size, generator=generator).double()).square().mean(0))
        for run in layer.rep.runs:
            of_draws = torch.stack(squares)[:, run.start : run.stop].mean(1)
            error = float(of_draws.std()) / len(of_draws) ** 0.5
            with subtests.test(msg=f"{group}, {run.piece}"):
                # 0.1 for products of a tensor with itself, whose coordinates are not exactly uncorrelated.
                assert abs(float(of_draws.mean()) - 3.0) < z_limit() * error + 0.1
                assert error < 0.5


@pytest.mark.statistical
def test_weights_start_with_a_tenth_of_spread():
    torch.manual_seed(shifted())
    weight = EquivariantBilinear((20 * Scalar + 20 * Vector)(SO(3))).weight.detach()
    assert abs(float(weight.std()) / 0.1 - 1) < z_limit() / (2 * weight.numel()) ** 0.5
