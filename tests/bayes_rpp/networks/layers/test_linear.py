"""Pathway layers: both parametrizations, their initial law, their biases."""

import copy
import math

import pytest
import torch

from bayes_rpp import SL, SO, D, O, Rep, RPPLinear, S, Scalar, T, Vector, equivariant_maps
from bayes_rpp.networks import EquivariantLinear
from bayes_rpp.networks.layers.linear import _INIT_GAIN
from tests.error_rate import z_limit
from tests.seeds import shifted

PAIRS = [
    (SO(3), 2 * Scalar + 2 * Vector, Vector + T(2) + 3 * Scalar),
    (O(3), 4 * Vector, T(2) + Scalar),
    (SL(2), Vector + 2 * T(0, 1) + Scalar, T(1, 1) + Vector),
    (D(4), Scalar + Vector, 2 * Vector + T(2)),
    (S(4), Scalar + Vector, 2 * Vector + T(2)),
]
pairs = pytest.mark.parametrize(("group", "rep_in", "rep_out"), PAIRS, ids=[str(g) for g, _, _ in PAIRS])


def numbers(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def randomised(layer):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in layer.double().parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return layer


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-11)


@pairs
def test_the_residual_layer_adds_its_pathways(group, rep_in, rep_out):
    layer, x = randomised(RPPLinear(rep_in(group), rep_out(group))), numbers(2, 3, rep_in(group).size)
    maps, vectors = equivariant_maps(rep_in(group), rep_out(group)).dense(), layer.bias_basis.dense()
    weight, bias = layer.dense, layer.bias_dense
    if maps.shape[1]:
        weight = weight + (maps @ layer.beta).reshape(weight.shape)
    if vectors.shape[1]:
        bias = bias + vectors @ layer.bias_beta
    close(layer.effective_weight(), weight)
    close(layer.effective_bias(), bias)
    close(layer(x), x @ weight.mT + bias)
    close(layer(x[0, 0]), weight @ x[0, 0] + bias)


@pairs
def test_the_collapsed_layer_is_the_residual_one_at_the_sum(group, rep_in, rep_out):
    residual = randomised(RPPLinear(rep_in(group), rep_out(group)))
    collapsed = RPPLinear(rep_in(group), rep_out(group), parametrization="collapsed").double()
    collapsed.load_state_dict({"weight": residual.effective_weight(), "bias": residual.effective_bias()})
    x = numbers(5, rep_in(group).size)
    close(collapsed(x), residual(x))


@pairs
def test_the_equivariant_layer_is_equivariant_and_the_dense_pathway_breaks_it(group, rep_in, rep_out):
    rep_in, rep_out = rep_in(group), rep_out(group)
    exact, rough = randomised(EquivariantLinear(rep_in, rep_out)), randomised(RPPLinear(rep_in, rep_out))
    x = numbers(5, rep_in.size)
    for g in group.sample(4, seed=0):
        close(exact(rep_in.apply(g, x)), rep_out.apply(g, exact(x)))
    errors = [rough(rep_in.apply(g, x)) - rep_out.apply(g, rough(x)) for g in group.sample(4, seed=0)]
    assert max(float(e.detach().abs().max()) for e in errors) > 0.1


@pairs
def test_both_parametrizations_start_at_one_function(group, rep_in, rep_out):
    layers = []
    for parametrization in ("residual", "collapsed"):
        torch.manual_seed(3)
        layers.append(RPPLinear(rep_in(group), rep_out(group), parametrization=parametrization))
    x = numbers(5, rep_in(group).size).float()
    torch.testing.assert_close(layers[0](x), layers[1](x))


@pytest.mark.statistical
@pairs
def test_the_initial_pathway_gives_every_piece_the_same_share_of_the_inputs_mean_square(group, rep_in, rep_out):
    """E |W_piece|^2 = gain^2 d for every piece of size d: inputs of mean square 1 give outputs of gain^2."""
    torch.manual_seed(shifted())
    layer, squares = EquivariantLinear(rep_in(group), rep_out(group)), []
    for _ in range(400):
        layer.reset_parameters()
        rows = layer.effective_weight().detach().square().sum(1)
        runs = layer.rep_out.runs
        squares.append(torch.stack([rows[r.start : r.stop].sum() / r.size for r in runs]))
    squares = torch.stack(squares)
    ranks = [equivariant_maps(rep_in(group), Rep([(1, run.piece)], group)).rank for run in runs]
    reached = torch.tensor(ranks).clamp(max=1)
    error = squares.std(0) / math.sqrt(len(squares))
    assert ((squares.mean(0) - _INIT_GAIN**2 * reached).abs() <= z_limit(error.numel()) * error + 1e-6).all()


@pytest.mark.statistical
@pairs
def test_the_dense_pathway_starts_a_thousandth_as_large(group, rep_in, rep_out):
    torch.manual_seed(shifted())
    layer = RPPLinear(rep_in(group), rep_out(group))
    spread = float(layer.dense.detach().square().mean().sqrt()) * math.sqrt(rep_in(group).size)
    assert abs(spread / 1e-3 - 1) < z_limit() / math.sqrt(2 * layer.dense.numel())
    assert torch.equal(layer.bias_dense, torch.zeros_like(layer.bias_dense))
    assert torch.equal(layer.bias_beta, torch.zeros_like(layer.bias_beta))


@pytest.mark.parametrize("kind", [EquivariantLinear, RPPLinear])
def test_pathways_of_rank_zero_have_no_parameter_and_add_nothing(kind):
    layer = randomised(kind((4 * Vector)(O(3)), T(2)(O(3))))
    assert equivariant_maps(layer.rep_in, layer.rep_out).rank == 0
    assert all(parameter.numel() for parameter in layer.parameters())
    assert set(layer.roles()) == {name for name, _ in layer.named_parameters()}
    x = numbers(5, 12)
    if kind is EquivariantLinear:
        close(layer(x), layer(0 * x))
    else:
        close(layer(x) - layer(0 * x), x @ layer.dense.mT)


@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
def test_a_layer_without_bias_is_linear(parametrization):
    layer = randomised(RPPLinear(Vector(SO(3)), T(2)(SO(3)), bias=False, parametrization=parametrization))
    assert layer.effective_bias() is None
    assert not any("bias" in name for name, _ in layer.named_parameters())
    assert set(layer.roles()) == {name for name, _ in layer.named_parameters()}
    x = numbers(4, 3)
    close(layer(3 * x), 3 * layer(x))


def test_an_equivariant_layer_without_bias_is_linear():
    layer = randomised(EquivariantLinear((2 * Scalar)(SO(3)), Scalar(SO(3)), bias=False))
    assert set(layer.roles()) == {"beta"}
    close(layer(torch.zeros(2).double()), torch.zeros(1).double())


def test_a_copy_is_independent_but_shares_the_basis():
    layer = randomised(RPPLinear(Vector(SO(3)), T(2)(SO(3))))
    twin = copy.deepcopy(layer)
    assert twin.basis is layer.basis
    with torch.no_grad():
        twin.dense.zero_()
    assert layer.dense.abs().min() > 0


def test_unknown_parametrizations_and_foreign_representations_are_refused():
    with pytest.raises(ValueError, match="parametrization must be 'residual' or 'collapsed', got 'sum'"):
        RPPLinear(Vector(SO(3)), Vector(SO(3)), parametrization="sum")
    for layer in (RPPLinear, EquivariantLinear):
        with pytest.raises(ValueError, match="must share a group"):
            layer(Vector(SO(3)), Vector(O(3)))
