"""Layers with several structured pathways: their parameters, the function they apply, and where they start."""

import math

import pytest
import torch

from bayes_rpp import (
    SO,
    O,
    O2eR3,
    RPPLinear,
    Vector,
    banded_maps,
    chain_basis,
    chain_maps,
)
from tests.error_rate import z_limit
from tests.scenarios.layers import CHAINS, LAYERS, REP_IN, REP_OUT, chain_layer, randomised
from tests.scenarios.numbers import numbers
from tests.seeds import shifted

layers = pytest.mark.parametrize("build", LAYERS.values(), ids=LAYERS)


def close(actual, expected, tolerance=1e-10):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def test_parameters_are_numbered_from_the_outermost_group_and_empty_ones_left_out():
    shapes = {name: tuple(p.shape) for name, p in chain_layer("rotations").named_parameters()}
    rep_in, rep_out, groups = CHAINS["rotations"]
    ranks = [basis.rank for basis in chain_maps(rep_in, rep_out, groups)]
    expected = {f"beta_{k}": (rank,) for k, rank in enumerate(ranks)} | {"dense": (12, 7)}
    biases = [basis.rank for basis in chain_basis(rep_out, groups)]
    expected |= {f"bias_beta_{k}": (rank,) for k, rank in enumerate(biases)} | {"bias_dense": (12,)}
    assert shapes == expected
    assert min(ranks + biases) > 0
    names = [name for name, _ in RPPLinear(2 * Vector, Vector, group=[O(3), O2eR3()]).named_parameters()]
    assert names == ["beta_0", "beta_1", "dense", "bias_beta_1", "bias_dense"]
    assert [n for n, _ in chain_layer("Lorentz", bias=False).named_parameters()] == ["beta_0", "dense"]
    assert [n for n, _ in chain_layer("rotations", "collapsed").named_parameters()] == ["weight", "bias"]


def test_a_chain_of_one_group_is_that_group():
    torch.manual_seed(0)
    plain = RPPLinear((2 * Vector)(O(3)), Vector(O(3)))
    torch.manual_seed(0)
    chained = RPPLinear(2 * Vector, Vector, group=[O(3)])
    assert list(plain.state_dict()) == list(chained.state_dict())
    for name, value in plain.state_dict().items():
        assert torch.equal(chained.state_dict()[name], value)


def test_the_weight_is_the_sum_of_dense_twins(subtests):
    for name, build in LAYERS.items():
        with subtests.test(msg=name):
            layer = randomised(build())
            weight, bias = layer.dense.clone(), layer.bias_dense.clone()
            for name, basis in zip(layer.beta_names, layer.bases, strict=True):
                if basis.rank:
                    weight = weight + (basis.dense() @ getattr(layer, name)).reshape(weight.shape)
                else:
                    assert getattr(layer, name) is None
            count = len(layer.bias_bases)
            biases = ["bias_beta"] if count == 1 else [f"bias_beta_{k}" for k in range(count)]
            for name, basis in zip(biases, layer.bias_bases, strict=True):
                if basis.rank:
                    bias = bias + basis.dense() @ getattr(layer, name)
            close(layer.effective_weight(), weight)
            close(layer.effective_bias(), bias)
            x = numbers(2, 3, layer.rep_in.size)
            close(layer(x), x @ weight.mT + bias)


def test_collapsed_layers_apply_the_same_function(subtests):
    for name, build in LAYERS.items():
        with subtests.test(msg=name):
            residual, collapsed = randomised(build()), build("collapsed").double()
            collapsed.load_state_dict({"weight": residual.effective_weight(), "bias": residual.effective_bias()})
            x = numbers(5, residual.rep_in.size)
            close(collapsed(x), residual(x))


def test_both_parametrizations_start_at_one_function(subtests):
    for name, build in LAYERS.items():
        with subtests.test(msg=name):
            made = []
            for parametrization in ("residual", "collapsed"):
                torch.manual_seed(3)
                made.append(build(parametrization))
            x = numbers(5, made[0].rep_in.size).float()
            torch.testing.assert_close(made[0](x), made[1](x), rtol=1e-5, atol=1e-6)
            torch.manual_seed(4)
            made[0].reset_parameters()
            torch.manual_seed(4)
            made[1].reset_parameters()
            torch.testing.assert_close(made[0](x), made[1](x), rtol=1e-5, atol=1e-6)


@pytest.mark.statistical
@layers
def test_the_first_pathway_carries_the_signal_at_the_start(build):
    torch.manual_seed(shifted())
    ratios = []
    for _ in range(20):  # a single beta may be near zero
        layer = build()
        small = 1e-3 / math.sqrt(layer.rep_in.size)
        for name in [*layer.beta_names[1:], "dense"]:
            parameter = getattr(layer, name)
            if parameter is not None:
                assert parameter.abs().max() < z_limit(20 * parameter.numel()) * small
        ratios.append(layer.effective_weight().detach().norm() / layer.dense.detach().norm())
    if layer.bases[0].rank:
        assert torch.stack(ratios).median() > 100


@pytest.mark.parametrize("case", CHAINS)
def test_every_partial_sum_is_equivariant_under_its_group(case):
    groups = CHAINS[case][2]
    layer = chain_layer(case, bias=False).double()
    x = numbers(5, layer.rep_in.size)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        for level, group in enumerate(groups):
            parameter = getattr(layer, f"beta_{level}")
            if parameter is None:
                continue
            parameter.copy_(numbers(*parameter.shape))
            samples = group.sample(4, seed=0)
            for g in zip(*samples, strict=True) if isinstance(samples, tuple) else samples:
                close(layer(layer.rep_in.apply(g, x)), layer.rep_out.apply(g, layer(x)), 1e-9)


REFUSED = {
    "upwards": (lambda: RPPLinear(Vector, Vector, group=[SO(3), O(3)]), r"O\(3\) is no subgroup of SO\(3\)"),
    "a basis of another size": (
        lambda: RPPLinear(REP_IN, REP_OUT, pathways=[banded_maps(4, 4, 0), banded_maps(4, 5, 0)]),
        r"pathway 1 is a basis of size 20.*4 x 4 = 16",
    ),
    "no groups": (lambda: RPPLinear(Vector, Vector, group=[]), "group"),
    "no pathways": (lambda: RPPLinear(REP_IN, REP_OUT, pathways=[]), "pathways"),
    "unbound": (lambda: RPPLinear(Vector, Vector), "not bound to a group"),
    "unknown": (lambda: chain_layer("rotations", "both"), "parametrization must be"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_a_layer_is_refused(case):
    build, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        build()
