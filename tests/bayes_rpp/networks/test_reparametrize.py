"""A network in the other parametrization: the same function, names and description, on the same bases."""

import pytest
import torch
from torch import nn

from bayes_rpp import (
    EMLP,
    MLP,
    RPPEMLP,
    SO,
    BayesianModel,
    Gaussian,
    NormalizedNetwork,
    O,
    O2eR3,
    ResidualSum,
    RPPLinear,
    RPPPrior,
    Scalar,
    T,
    Vector,
    banded_maps,
    equivariant_maps,
    low_frequency_maps,
)
from bayes_rpp.networks.layers import rpp_linear as layers_module
from bayes_rpp.networks.reparametrize import reparametrized, residual_layers
from bayes_rpp.serialization.models import describe_model, rebuild_model
from tests.scenarios.numbers import numbers

REP_IN, REP_OUT, CHAIN = 2 * Vector + Scalar, T(2) + Scalar, [O(3), O2eR3()]
TURNS = (2 * Vector)(O(2))


class UnsharedBasis:
    """A basis of one's own, which a plain deep copy would copy."""

    def __init__(self):
        inner = banded_maps(6, 7, 1)
        self.rank, self.size, self.project, self.dense = inner.rank, inner.size, inner.project, inner.dense
        self.expand, self.coordinates = inner.expand, inner.coordinates


def two_bodies(parametrization, **options):
    return RPPEMLP(REP_IN, REP_OUT, O(3), channels=30, layers=2, parametrization=parametrization, **options)


def normalized(parametrization):
    return NormalizedNetwork.fit(two_bodies(parametrization), 3 * numbers(50, 7) + 1, 9 * numbers(50, 10) - 2)


def overlapping(parametrization, **options):
    pathways = [equivariant_maps(TURNS, TURNS), banded_maps(4, 4, 1), low_frequency_maps(4, 4, 2)]
    return RPPLinear(TURNS, TURNS, pathways=pathways, parametrization=parametrization, **options)


def of_ones_own(parametrization):
    rep_in, rep_out = REP_IN(O(3)), (2 * Vector)(O(3))
    return RPPLinear(rep_in, rep_out, pathways=[UnsharedBasis()], parametrization=parametrization)


def used_twice(parametrization):
    layer = RPPLinear(TURNS, TURNS, parametrization=parametrization)
    return nn.Sequential(layer, nn.Tanh(), layer)


def summed(parametrization):
    linear = RPPEMLP(Vector, Vector, SO(3), layers=0, parametrization=parametrization)
    return ResidualSum(linear, MLP(Vector, Vector, SO(3), channels=6, layers=1))


BUILDS = {
    "a layer": (lambda p: RPPLinear(REP_IN, REP_OUT, group=O(3), parametrization=p), 7),
    "a layer without bias": (lambda p: RPPLinear(REP_IN, REP_OUT, group=O(3), bias=False, parametrization=p), 7),
    "a chain": (lambda p: RPPLinear(REP_IN, REP_OUT, group=CHAIN, parametrization=p), 7),
    "overlapping pathways": (overlapping, 4),
    "overlapping pathways without bias": (lambda p: overlapping(p, bias=False), 4),
    "a basis of one's own": (of_ones_own, 7),
    "a network": (two_bodies, 7),
    "a network without bilinear layers": (lambda p: two_bodies(p, bilinear=False), 7),
    "a network of a chain": (lambda p: RPPEMLP(REP_IN, REP_OUT, CHAIN, channels=12, layers=1, parametrization=p), 7),
    "a normalised network": (normalized, 7),
    "a layer used twice": (used_twice, 4),
    "a part of a sum": (summed, 3),
}
DIRECTIONS = [("residual", "collapsed"), ("collapsed", "residual")]
both = pytest.mark.parametrize(("here", "there"), DIRECTIONS)


def randomised(case, parametrization):
    build, size = BUILDS[case]
    network = build(parametrization).double()
    with torch.no_grad():
        for k, parameter in enumerate(network.parameters()):
            parameter.copy_(numbers(*parameter.shape, seed=k) / max(size, parameter.shape[-1]) ** 0.5)
    return network, numbers(5, size, seed=99)


def close(actual, expected, tolerance=1e-10):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def test_the_function_stays_and_the_parameters_are_those_of_a_network_built_so(subtests):
    for case in BUILDS:
        for here, there in DIRECTIONS:
            with subtests.test(msg=f"{case}, {here} to {there}"):
                network, x = randomised(case, here)
                before = {name: value.clone() for name, value in network.state_dict().items()}
                other = reparametrized(network, there)
                close(other(x), network(x))
                built = {name: (p.shape, p.requires_grad) for name, p in BUILDS[case][0](there).named_parameters()}
                assert [*built] == [name for name, _ in other.named_parameters()]
                assert built == {name: (p.shape, p.requires_grad) for name, p in other.named_parameters()}
                assert {p.dtype for p in other.parameters()} == {torch.float64}
                for name, value in network.state_dict().items():
                    assert torch.equal(value, before[name])
                back = reparametrized(other, here)
                close(back(x), network(x))
                if here == "collapsed":
                    for name, value in back.named_parameters():
                        close(value, network.get_parameter(name), 1e-12)


def solved_again(*_):
    raise AssertionError("solved again")


def test_bases_are_shared_and_never_solved_again(monkeypatch, subtests):
    for case in BUILDS:
        for here, there in DIRECTIONS:
            with subtests.test(msg=f"{case}, {here} to {there}"):
                network, _ = randomised(case, here)
                with monkeypatch.context() as patch:
                    for name in ("equivariant_maps", "equivariant_basis", "chain_maps", "chain_basis"):
                        patch.setattr(layers_module, name, solved_again)
                    others = residual_layers(reparametrized(network, there))
                for path, layer in residual_layers(network).items():
                    for mine, theirs in zip(
                        (*layer.bases, *layer.bias_bases), (*others[path].bases, *others[path].bias_bases), strict=True
                    ):
                        assert mine is theirs


def test_a_copy_in_the_same_parametrization_is_a_copy(subtests):
    for case in BUILDS:
        for parametrization in ("residual", "collapsed"):
            with subtests.test(msg=f"{case}, {parametrization}"):
                network, x = randomised(case, parametrization)
                same = reparametrized(network, parametrization)
                assert torch.equal(same(x), network(x))
                before = network(x)
                with torch.no_grad():
                    for parameter in same.parameters():
                        parameter.add_(1.0)
                assert torch.equal(network(x), before)


@pytest.mark.parametrize("case", ["a chain", "overlapping pathways"])
def test_a_sum_is_split_with_the_least_in_the_later_pathways(case):
    network, _ = randomised(case, "collapsed")
    parts, rest = reparametrized(network, "residual"), network.weight.detach().flatten()
    for name, basis in zip(parts.beta_names, parts.bases, strict=True):
        q = basis.dense()
        close(getattr(parts, name), q.mT @ rest)
        rest = rest - q @ (q.mT @ rest)
    close(parts.dense, rest.reshape(parts.dense.shape))


@both
def test_new_parameters_train_and_start_anew(here, there):
    network, x = randomised("a network of a chain", here)
    other = reparametrized(network, there)
    other(x).square().sum().backward()
    assert all(parameter.grad is not None for parameter in other.parameters())
    torch.manual_seed(3)
    other.network[0].linear.reset_parameters()
    torch.manual_seed(3)
    network.network[0].linear.reset_parameters()
    close(other(x), network(x), 1e-5)  # both are drawn in single precision


@both
@pytest.mark.parametrize("case", ["a network", "a network of a chain", "a normalised network"])
def test_descriptions_and_saved_states_are_those_of_the_other_parametrization(case, here, there):
    network, x = randomised(case, here)
    other = reparametrized(network, there)
    inner = other.network if case == "a normalised network" else other
    assert inner.parametrization == there
    assert inner.config()["parametrization"] == there
    model = BayesianModel(other, RPPPrior(), Gaussian(noise_variance=0.1))
    rebuilt = rebuild_model(describe_model(model)).network
    rebuilt.load_state_dict(other.state_dict())
    close(rebuilt(x), network(x))


def test_single_precision_stays():
    network = two_bodies("residual")
    x = numbers(5, 7).float()
    for there in ("collapsed", "residual"):
        other = reparametrized(network, there)
        assert {p.dtype for p in other.parameters()} == {torch.float32}
        torch.testing.assert_close(other(x), network(x), rtol=1e-5, atol=1e-5)
        network = other


def tied():
    first, second = (RPPLinear(TURNS, TURNS) for _ in range(2))
    second.dense = first.dense
    return nn.Sequential(first, second)


REFUSED = {
    "an EMLP": (lambda: EMLP(Vector, Scalar, SO(3), channels=8), "collapsed", "EMLP has no residual pathway layers"),
    "an MLP": (lambda: MLP(Vector, Scalar, SO(3), channels=8), "residual", "MLP has no residual pathway layers"),
    "another": (lambda: two_bodies("residual"), "both", "must be 'residual' or 'collapsed', got 'both'"),
    "tied parameters": (tied, "collapsed", "share a parameter"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_other_parametrization_is_refused(case):
    build, parametrization, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        reparametrized(build(), parametrization)
