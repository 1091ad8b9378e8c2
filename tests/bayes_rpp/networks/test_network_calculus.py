"""Networks as functions of parameters and inputs: batches, derivatives, copies, states."""

import copy

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, grad, jvp, stack_module_state, vmap

from bayes_rpp import (
    EMLP,
    MLP,
    RPPEMLP,
    SL,
    SO,
    HamiltonianRollout,
    InvariantLift,
    LiftedNetwork,
    O,
    S,
    Scalar,
    T,
    TransitionRollout,
    Vector,
)
from tests.scenarios.numbers import numbers

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")


def lifted():
    lift = InvariantLift(2 * Vector, SO(3))
    return LiftedNetwork(EMLP(lift.rep_out, Scalar, SO(3), channels=6 * Scalar, layers=1), lift)


NETWORKS = {
    "RPPEMLP of O(3)": lambda: RPPEMLP(Scalar + Vector, T(2), O(3), channels=14, layers=2),
    "collapsed of SO(2)": lambda: RPPEMLP(Scalar + Vector, T(2), SO(2), channels=14, parametrization="collapsed"),
    "RPPEMLP of S(3)": lambda: RPPEMLP(Scalar + Vector, T(2), S(3), channels=14, layers=2),
    "EMLP of SL(2)": lambda: EMLP(Scalar + Vector, T(1, 1), SL(2), channels=20, layers=2),
    "MLP": lambda: MLP(Scalar + Vector, T(2), O(3), channels=14, layers=2),
    "a rollout": lambda: HamiltonianRollout(RPPEMLP(2 * Vector, Scalar, O(3), channels=14, layers=1), steps=2, dt=0.1),
    "a rollout with actions": lambda: TransitionRollout(
        RPPEMLP(2 * Vector + Scalar, 2 * Vector, O(3), channels=14, layers=1), Scalar, steps=2
    ),
    "a rollout of a lifted network": lambda: HamiltonianRollout(lifted(), steps=2, dt=0.1),
}
every_network = pytest.mark.parametrize("network", NETWORKS, indirect=True)
with_arguments = pytest.mark.parametrize("network", [name for name in NETWORKS if "rollout" not in name], indirect=True)


@pytest.fixture
def network(request):
    torch.manual_seed(0)
    return NETWORKS[request.param]().double()


def close(actual, expected, tolerance=1e-11):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@every_network
def test_every_number_of_batch_dimensions_gives_the_same_values(network):
    x = numbers(2, 3, network.rep_in.size)
    one_by_one = torch.stack([torch.stack([network(v) for v in row]) for row in x])
    close(network(x), one_by_one)
    close(network(x[0]), one_by_one[0])
    close(network(x[:, :0]), one_by_one[:, :0])


@every_network
def test_vmap_over_stacked_parameters_is_a_loop(network):
    members = [copy.deepcopy(network) for _ in range(3)]
    for index, member in enumerate(members):
        with torch.no_grad():
            for parameter in member.parameters():
                parameter.add_(0.1 * numbers(*parameter.shape, seed=index))
    stacked, _ = stack_module_state(members)
    x = numbers(5, network.rep_in.size)
    together = vmap(lambda params: functional_call(network, params, (x,)))(stacked)
    close(together, torch.stack([member(x) for member in members]))

    def energy(params):
        return functional_call(network, params, (x,)).square().sum()

    gradients = vmap(grad(energy))(stacked)
    for index, member in enumerate(members):
        energy(dict(member.named_parameters())).backward()
        for name, parameter in member.named_parameters():
            expected = (
                torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            )  # an energy's last bias
            close(gradients[name][index], expected, 1e-9)


@every_network
def test_forward_and_reverse_derivatives_agree(network):
    params = {name: p.detach() for name, p in network.named_parameters()}
    tangent = {name: numbers(*p.shape, seed=7) for name, p in params.items()}
    x = numbers(4, network.rep_in.size)

    def energy(p):
        return functional_call(network, p, (x,)).square().sum()

    _, forward = jvp(energy, (params,), (tangent,))
    gradient = grad(energy)(params)
    close(forward, sum((gradient[name] * tangent[name]).sum() for name in params), 1e-9)


SMALL = {
    "RPPEMLP": lambda: RPPEMLP(Scalar + Vector, Vector, SO(2), channels=2 * Scalar + Vector, layers=1),
    "collapsed": lambda: RPPEMLP(
        Scalar, Scalar, SO(2), channels=Scalar + Vector, layers=1, parametrization="collapsed"
    ),
    "EMLP": lambda: EMLP(Vector, T(0, 1), SL(2), channels=Vector + T(0, 1) + T(1, 1), layers=1),
    "permutations": lambda: RPPEMLP(Vector, Scalar, S(2), channels=Scalar + Vector, layers=1),
}


@pytest.mark.parametrize("name", SMALL)
def test_derivatives_of_first_and_second_order_agree_with_differences(name):
    torch.manual_seed(0)
    network = SMALL[name]().double()
    names, values = zip(*((n, p.detach().requires_grad_()) for n, p in network.named_parameters()), strict=True)
    x = numbers(2, network.rep_in.size).requires_grad_()

    def function(x, *values):
        return functional_call(network, dict(zip(names, values, strict=True)), (x,))

    assert gradcheck(function, (x, *values))
    assert gradgradcheck(function, (x, *values))


@every_network
def test_a_deep_copy_computes_the_same_and_is_independent(network):
    twin, x = copy.deepcopy(network), numbers(4, network.rep_in.size)
    before = network(x)
    assert torch.equal(twin(x), before)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1.0)
    assert torch.equal(network(x), before)
    assert not torch.allclose(twin(x), before)


@with_arguments
def test_a_state_dict_carries_the_whole_function(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "state.pt")
    rebuilt = type(network)(**network.config()).double()
    x = numbers(4, network.rep_in.size)
    assert not torch.allclose(rebuilt(x), network(x))
    rebuilt.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(rebuilt(x), network(x))


@with_arguments
def test_the_same_seed_starts_at_the_same_bits(network):
    torch.manual_seed(0)
    again = type(network)(**network.config()).double()
    for first, second in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(first, second)
