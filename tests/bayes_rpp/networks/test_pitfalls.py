"""What has gone wrong in other implementations of equivariant networks, and must not here."""

import subprocess
import sys

import pytest
import torch
from torch.autograd import gradcheck
from torch.func import functional_call, vmap

from bayes_rpp import (
    EMLP,
    RPPEMLP,
    SL,
    SO,
    D,
    Group,
    Lorentz,
    O,
    Regular,
    S,
    Scalar,
    T,
    Vector,
    equivariant_basis,
    equivariant_maps,
)
from bayes_rpp.validation import without_validation
from tests.scenarios.numbers import numbers

PRODUCT = SO(3) * S(3)
CASES = {
    "O(3)": (2 * Scalar + 2 * Vector, T(2), O(3)),
    "S(4)": (Vector + T(2), Vector, S(4)),
    "D(4)": (Vector + Regular, Vector, D(4)),
    "SL(2)": (Vector + T(0, 1), T(1, 1), SL(2)),
    "Lorentz": (2 * Vector, Scalar, Lorentz()),
    "SO(3) * S(3)": (Vector(SO(3)) * Vector(S(3)), Vector(SO(3)), PRODUCT),
}
every_case = pytest.mark.parametrize("case", CASES)


def build(case, kind=RPPEMLP, **options):
    torch.manual_seed(0)
    return kind(*CASES[case], **({"channels": 32, "layers": 2} | options)).double()


@every_case
def test_compiled_networks_compute_the_same(case):
    net = build(case, layers=1)
    with without_validation():  # torch's compiler switches it off for good
        compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    x = numbers(5, net.rep_in.size)
    results = []
    for function in (net, compiled):
        loss = function(x).square().sum()
        results.append([loss, *torch.autograd.grad(loss, list(net.parameters()))])
    torch.testing.assert_close(results[1], results[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
def test_a_hamiltonian_networks_second_derivatives_are_right(parametrization):
    """The loss on Hamilton's equations, dz/dt = J grad H, differentiated in the weights."""
    torch.manual_seed(0)
    energy = RPPEMLP(2 * Vector, Scalar, O(2), channels=12, layers=1, parametrization=parametrization).double()
    z, rates = numbers(3, 4), numbers(3, 4, seed=1)
    names = [name for name, _ in energy.named_parameters()]

    def loss(*values):
        points = z.clone().requires_grad_()
        total = functional_call(energy, dict(zip(names, values, strict=True)), (points,)).sum()
        (slope,) = torch.autograd.grad(total, points, create_graph=True)
        flow = torch.cat([slope[:, 2:], -slope[:, :2]], dim=1)
        return (flow - rates).square().sum()

    assert gradcheck(loss, tuple(p.detach().clone().requires_grad_() for p in energy.parameters()))


@every_case
def test_two_calls_and_two_networks_of_one_state_give_the_same_bits(case):
    first, second = build(case), build(case)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.normal_()
    second.load_state_dict(first.state_dict())
    x = numbers(4, first.rep_in.size)
    assert torch.equal(first(x), first(x))
    assert torch.equal(first(x), second(x))


def test_another_process_builds_the_same_network(tmp_path):
    """No hash, no random index and no linear-algebra ambiguity enters a basis."""
    script = """
import sys, torch
from bayes_rpp import RPPEMLP, SL, T, Vector
torch.manual_seed(0)
net = RPPEMLP(Vector + T(0, 1), T(1, 1), SL(2), channels=32, layers=2).double()
torch.save(net(torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4)), sys.argv[1])
"""
    outputs = []
    for hash_seed in ("1", "2"):
        file = tmp_path / hash_seed
        environment = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(filter(None, sys.path))}
        subprocess.run([sys.executable, "-c", script, str(file)], check=True, env=environment)
        outputs.append(torch.load(file))
    assert torch.equal(*outputs)
    assert outputs[0].abs().max() > 1e-6


@every_case
def test_vmap_over_members_is_a_loop(case):
    members = [build(case) for _ in range(3)]
    for seed, member in enumerate(members):
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in member.parameters():
                parameter.normal_(std=0.3)
    stacked = {
        k: torch.stack([dict(m.named_parameters())[k] for m in members]) for k, _ in members[0].named_parameters()
    }
    x = numbers(4, members[0].rep_in.size)
    together = vmap(lambda params: functional_call(members[0], params, (x,)))(stacked)
    torch.testing.assert_close(together, torch.stack([member(x) for member in members]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "hidden",
    [Vector, 5 * Vector, (5 * Vector)(SO(3)), Vector + 5 * Scalar, T(2) + Scalar + Vector + 3 * Scalar, 4 * Scalar],
    ids=str,
)
def test_any_hidden_representation_gives_an_equivariant_network(hidden):
    torch.manual_seed(0)
    net = EMLP(Vector + Scalar, Vector + Scalar, SO(3), channels=hidden).double()
    x, g = numbers(6, 4), SO(3).sample(6, seed=0)
    torch.testing.assert_close(net(net.rep_in.apply(g, x)), net.rep_out.apply(g, net(x)), rtol=0, atol=1e-10)


@every_case
def test_an_equivariant_layer_holds_as_many_numbers_as_it_has_degrees_of_freedom(case):
    """Null directions would distort priors and the Laplace approximation."""
    net = build(case, EMLP)
    for block in net.network:
        layer = getattr(block, "linear", block)
        maps, vectors = equivariant_maps(layer.rep_in, layer.rep_out), equivariant_basis(layer.rep_out)
        assert sum(p.numel() for p in layer.parameters()) == maps.rank + vectors.rank
        dense = maps.dense()
        assert torch.linalg.matrix_rank(dense) == maps.rank


def test_a_group_has_its_flags_from_all_of_its_generators():
    swap, turn = torch.eye(2).double()[[1, 0]], torch.tensor([[0.8, -0.6], [0.6, 0.8]], dtype=torch.float64)
    assert Group(generators=torch.stack([swap])).is_permutation
    mixed = Group(generators=torch.stack([swap, turn]))
    assert (mixed.is_permutation, mixed.is_orthogonal) == (False, True)
    assert not Group(generators=torch.stack([swap, 2 * turn])).is_orthogonal
    assert not Group(lie_algebra=SO(2).lie_algebra, generators=swap[None]).is_permutation
    assert not (Lorentz() * S(3)).is_orthogonal
    assert (S(3) * S(4)).is_permutation
