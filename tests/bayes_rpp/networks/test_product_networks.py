"""Hidden representations and networks on direct products."""

import pytest
import torch
from torch import nn

from bayes_rpp import EMLP, RPPEMLP, SL, SO, D, O, PseudoScalar, S, Scalar, T, Vector, Z, equivariant_maps, uniform_rep
from bayes_rpp.networks import EquivariantBilinear, GatedNonlinearity, gated
from tests.seeds import shifted

GROUPS = [SO(3) * S(5), O(2) * Z(3), SL(2) * S(3), SO(2) * D(3) * S(2), SO(3) * SO(3), S(3) * S(4)]
PAIR = SO(2) * SO(2)
NETWORKS = {
    "SO(3) * S(4)": lambda kind: kind(
        Vector(SO(3)) * Vector(S(4)) + Vector(S(4)), T(2)(SO(3)) + Scalar, SO(3) * S(4), channels=60, layers=2
    ),
    "O(2) * Z(3)": lambda kind: kind(
        2 * Vector(O(2)) + Vector(Z(3)) + PseudoScalar(O(2)), PseudoScalar(O(2)) * Vector(Z(3)), O(2) * Z(3), 96, 2
    ),
    "SL(2) * S(3)": lambda kind: kind(
        Vector(SL(2)) * Vector(S(3)), Vector(SL(2)) * Vector(S(3)) + Vector(S(3)), SL(2) * S(3), channels=50, layers=1
    ),
    "SO(2) * SO(2)": lambda kind: kind(
        Vector.on(PAIR, 0) + Vector.on(PAIR, 0) * Vector.on(PAIR, 1),
        Vector.on(PAIR, 1) + Vector.on(PAIR, 1) * Vector.on(PAIR, 0),
        PAIR,
        channels=50,
        layers=2,
    ),
}


def inputs(net, count=16):
    return torch.randn(count, net.rep_in.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_hidden_representations_have_exactly_the_size_asked_for(group):
    for channels in (1, 2, 7, 20, 64, 97, 384):
        rep = uniform_rep(channels, group)
        assert rep.size == channels
        assert rep.group == group
        assert uniform_rep(channels, group) == rep


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_wide_hidden_representations_have_pieces_of_every_factor_and_of_all_together(group):
    slots = {tuple(sorted({factor.slot for factor in piece})) for _, piece in uniform_rep(384, group)}
    everyone = tuple(range(len(group.factors)))
    assert {(slot,) for slot in everyone} | {everyone, ()} <= slots


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_layers_on_products_are_equivariant(group):
    rep = uniform_rep(60, group)
    g = group.sample(8, seed=0)
    layers = [EquivariantBilinear(rep).double(), GatedNonlinearity(rep, residual=False)]
    for layer, rep_in in zip(layers, [rep, gated(rep)], strict=True):
        x = torch.randn(8, rep_in.size, generator=torch.Generator().manual_seed(1)).double()
        torch.testing.assert_close(layer(rep_in.apply(g, x)), rep.apply(g, layer(x)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_emlp_on_a_product_is_exactly_equivariant(name):
    torch.manual_seed(0)
    net = NETWORKS[name](EMLP).double()
    x, g = inputs(net), net.group.sample(16, seed=2)
    y, turned = net(x), net(net.rep_in.apply(g, x))
    scale = max(1.0, float(turned.detach().abs().max()))
    torch.testing.assert_close(turned, net.rep_out.apply(g, y), rtol=0, atol=1e-10 * scale)
    assert y.detach().abs().amax(0).min() > 1e-4


@pytest.mark.statistical
@pytest.mark.parametrize("name", NETWORKS)
def test_rppemlp_on_a_product_is_not_and_learns(name):
    torch.manual_seed(shifted())
    net = NETWORKS[name](RPPEMLP).double()
    x, g = inputs(net), net.group.sample(16, seed=2)
    error = net(net.rep_in.apply(g, x)) - net.rep_out.apply(g, net(x))
    assert error.detach().abs().max() > 1e-6
    target = torch.randn(16, net.rep_out.size, generator=torch.Generator().manual_seed(shifted(3))).double()
    optimizer, losses = torch.optim.Adam(net.parameters(), lr=1e-2), []
    for _ in range(30):
        losses.append(nn.functional.mse_loss(net(x), target))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.statistical
def test_emlp_on_a_product_learns_an_equivariant_map():
    torch.manual_seed(shifted())
    net = NETWORKS["SO(3) * S(4)"](EMLP).double()
    x = inputs(net, 64)
    basis = equivariant_maps(net.rep_in, net.rep_out)
    weight = basis.expand(torch.ones(basis.rank).double()).reshape(net.rep_out.size, net.rep_in.size)
    target, optimizer, losses = x @ weight.mT, torch.optim.Adam(net.parameters(), lr=1e-2), []
    assert target.abs().max() > 1
    for _ in range(60):
        losses.append(nn.functional.mse_loss(net(x), target))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.1 * losses[0]
