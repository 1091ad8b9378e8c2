"""Whole networks: which are equivariant and which are not."""

import pytest
import torch

from bayes_rpp import (
    EMLP,
    MLP,
    RPPEMLP,
    SO,
    Group,
    O,
    PseudoScalar,
    Scalar,
    T,
    Trivial,
    Vector,
    uniform_rep,
)
from tests.scenarios.groups import GROUPS
from tests.scenarios.numbers import numbers

ACTING = [group for group in GROUPS if group != Trivial(3)]
REP_IN = 2 * Scalar + 2 * Vector + T(1, 1)
REP_OUTS = {"T(2)": T(2), "mixed": PseudoScalar + Vector + 2 * Scalar + T(0, 1)}
groups = pytest.mark.parametrize("group", GROUPS, ids=str)


def build(kind, group, rep_out=REP_OUTS["mixed"], **options):
    """A network with nothing at zero: biases and residual weights included."""
    torch.manual_seed(0)
    network = kind(REP_IN, rep_out, group, **({"channels": 40, "layers": 2} | options)).double()
    with torch.no_grad():
        for index, parameter in enumerate(network.parameters()):
            parameter.add_(0.3 * numbers(*parameter.shape, seed=index))
    return network


def relative_error(network, dtype=torch.float64):
    x, worst = numbers(8, network.rep_in.size, seed=100).to(dtype), 0.0
    for g in network.group.sample(5, seed=1).to(dtype):
        with torch.no_grad():
            left, right = network.rep_out.apply(g, network(x)), network(network.rep_in.apply(g, x))
        worst = max(worst, float((left - right).norm() / (left.norm() + right.norm())))
    return worst


def test_emlp_is_equivariant(subtests):
    for group in GROUPS:
        for name, rep_out in REP_OUTS.items():
            with subtests.test(msg=f"{group} to {name}"):
                network = build(EMLP, group, rep_out)
                assert relative_error(network) < 1e-10
                assert relative_error(network.float(), torch.float32) < 1e-5


def test_emlp_is_equivariant_however_it_is_built(subtests):
    for group in ACTING:
        for options in [{"bilinear": False}, {"layers": 0}, {"channels": 2 * Vector + PseudoScalar}]:
            with subtests.test(msg=f"{group}, {options}"):
                assert relative_error(build(EMLP, group, **options)) < 1e-10


def test_emlp_does_depend_on_its_input(subtests):
    for group in ACTING:
        with subtests.test(msg=str(group)):
            network = build(EMLP, group, Vector + T(1, 1))
            outputs = network(numbers(8, network.rep_in.size)).detach()
            assert outputs.std(0).max() > 1e-2


def test_networks_with_dense_weights_are_not_equivariant(subtests):
    for kind in [RPPEMLP, MLP]:
        for group in ACTING:
            with subtests.test(msg=f"{kind.__name__} of {group}"):
                assert relative_error(build(kind, group)) > 1e-2


def test_rppemlp_without_its_residual_pathways_is_equivariant(subtests):
    for group in ACTING:
        with subtests.test(msg=str(group)):
            network = build(RPPEMLP, group)
            with torch.no_grad():
                for name, parameter in network.named_parameters():
                    if name.endswith(("dense", "swish")):
                        parameter.zero_()
            assert relative_error(network) < 1e-10


def test_each_residual_pathway_alone_breaks_the_symmetry(subtests):
    for left in ["linear.dense", "linear.bias_dense", "swish"]:
        for group in ACTING:
            with subtests.test(msg=f"{left} of {group}"):
                network = build(RPPEMLP, group)
                with torch.no_grad():
                    for name, parameter in network.named_parameters():
                        if name.endswith(("dense", "swish")) and not name.endswith(left):
                            parameter.zero_()
                assert relative_error(network) > 1e-4


def test_rppemlp_holds_emlp_at_residual_zero(subtests):
    for group in GROUPS:
        with subtests.test(msg=str(group)):
            exact, rough = build(EMLP, group), build(RPPEMLP, group)
            with torch.no_grad():
                for parameter in rough.parameters():
                    parameter.zero_()
            found = rough.load_state_dict(exact.state_dict(), strict=False)
            assert not found.unexpected_keys
            assert all(key.endswith(("dense", "swish")) for key in found.missing_keys)
            x = numbers(4, exact.rep_in.size)
            torch.testing.assert_close(rough(x), exact(x), rtol=1e-12, atol=1e-12)


def test_collapsed_networks_are_the_residual_ones_at_the_sums(subtests):
    for group in GROUPS:
        with subtests.test(msg=str(group)):
            residual, collapsed = build(RPPEMLP, group), build(RPPEMLP, group, parametrization="collapsed")
            state = {k: v for k, v in residual.state_dict().items() if k in collapsed.state_dict()}
            for name, layer in residual.named_modules():
                if hasattr(layer, "effective_weight"):
                    state |= {f"{name}.weight": layer.effective_weight(), f"{name}.bias": layer.effective_bias()}
            collapsed.load_state_dict(state)
            x = numbers(4, residual.rep_in.size)
            torch.testing.assert_close(collapsed(x), residual(x), rtol=1e-11, atol=1e-11)
            assert sum(p.numel() for p in collapsed.parameters()) < sum(p.numel() for p in residual.parameters())


@pytest.mark.parametrize("channels", [30, uniform_rep(30, SO(3)), "unbound", [30, 30], [30, uniform_rep(30, SO(3))]])
def test_channels_are_a_number_a_representation_or_one_for_each_layer(channels):
    channels = 3 * Scalar + 6 * Vector + T(2) if channels == "unbound" else channels
    network = EMLP(Vector, Scalar, SO(3), channels=channels, layers=2)
    assert [rep.size for rep in network.hidden] == [30, 30]
    assert all(rep.group == SO(3) for rep in network.hidden)
    assert network(torch.ones(4, 3)).shape == (4, 1)


def test_a_sequence_of_channels_overrides_layers():
    for kind in (EMLP, RPPEMLP, MLP):
        network = kind(Vector, Scalar, SO(3), channels=[8, 20, 5], layers=1)
        assert [rep.size for rep in network.hidden] == [8, 20, 5]
        assert len(kind(Vector, Scalar, SO(3), channels=[]).hidden) == 0


def test_permutation_groups_have_no_bilinear_layers_and_others_do():
    for group in GROUPS:
        network = EMLP(REP_IN, Scalar, group, channels=20, layers=1)
        assert (network.network[0].bilinear is None) == group.is_permutation
    assert EMLP(REP_IN, Scalar, SO(3), channels=20, layers=1, bilinear=False).network[0].bilinear is None


def test_widths_agree_between_mlp_and_rppemlp():
    assert [r.size for r in MLP(Vector, T(2), O(3)).hidden] == [r.size for r in RPPEMLP(Vector, T(2), O(3)).hidden]


@pytest.mark.parametrize("kind", [EMLP, RPPEMLP, MLP])
def test_inputs_of_another_width_are_refused_with_both_sizes(kind):
    network = kind(Scalar + Vector, T(2), SO(3), channels=8, layers=1)
    message = r"x has shape \(7, 5\), so 5 numbers an example, but rep_in = Scalar \+ Vector of SO\(3\) has size 4"
    with pytest.raises(ValueError, match=message):
        network(torch.zeros(7, 5))
    with pytest.raises(ValueError, match="so 0 numbers an example"):
        network(torch.zeros(()))


@pytest.mark.parametrize("kind", [EMLP, RPPEMLP, MLP])
def test_impossible_sizes_and_groups_are_refused(kind):
    with pytest.raises(ValueError, match="layers must not be negative, got -1"):
        kind(Vector, Scalar, SO(3), channels=8, layers=-1)
    with pytest.raises(ValueError, match="channels must be a positive integer, got 0"):
        kind(Vector, Scalar, SO(3), channels=0)
    with pytest.raises(ValueError, match=r"Vector is bound to O\(3\) already and cannot be bound to SO\(3\)"):
        kind(Vector(O(3)), Scalar, SO(3), channels=8)


def test_a_users_group_makes_the_same_network():
    mine = Group(SO(3).lie_algebra, name="mine")
    torch.manual_seed(0)
    first = EMLP(Vector, T(2), SO(3), channels=20, layers=1)
    torch.manual_seed(0)
    second = EMLP(Vector, T(2), mine, channels=20, layers=1)
    x = torch.ones(4, 3)
    assert torch.equal(first(x), second(x))
