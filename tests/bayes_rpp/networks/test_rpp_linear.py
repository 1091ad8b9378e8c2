"""Layers with several structured pathways: chains of groups, and bases of any kind that a user gives."""

import copy
import math

import pytest
import torch
from torch.distributions import MultivariateNormal
from torch.func import functional_call

from bayes_rpp import (
    O13,
    SO,
    SO13,
    Irrep,
    O,
    O2eR3,
    PseudoScalar,
    RPPLinear,
    RPPPrior,
    S,
    Scalar,
    SO2eR3,
    SO13p,
    T,
    Trivial,
    Vector,
    Z,
    banded_maps,
    chain_basis,
    chain_maps,
    entry_maps,
    equivariant_maps,
    low_frequency_maps,
)
from tests.error_rate import z_limit
from tests.seeds import shifted

PRODUCT = SO(3) * S(3)
CHAINS = {
    "rotations": (2 * Vector + Scalar, T(2) + Vector, [O(3), O2eR3(), Trivial(3)]),
    "permutations": (Vector + Scalar, 2 * Vector, [S(4), Z(4)]),
    "Lorentz": (Vector + Vector.dual, Vector + PseudoScalar, [O13(), SO13(), SO13p()]),
    "harmonics": (Irrep(1) + Irrep(2), Vector + Scalar, [SO(3), SO2eR3()]),
    "a product": (
        Vector(SO(3))(PRODUCT) + Vector(S(3)),
        Vector(SO(3))(PRODUCT) * Vector(S(3)) + Scalar,
        [PRODUCT, SO2eR3() * Z(3)],
    ),
}


def chain_layer(case, parametrization="residual", **options):
    rep_in, rep_out, groups = CHAINS[case]
    return RPPLinear(rep_in, rep_out, group=groups, parametrization=parametrization, **options)


REP_IN, REP_OUT = (2 * Vector)(O(2)), (Vector + 2 * Scalar)(O(2))
PATHWAYS = {
    "one": [banded_maps(4, 4, 1)],
    "overlapping": [equivariant_maps(REP_IN, REP_OUT), banded_maps(4, 4, 1), low_frequency_maps(4, 4, 2)],
    "disjoint": [entry_maps(torch.eye(4)), entry_maps(1 - torch.eye(4))],
    "with an empty one": [entry_maps(torch.zeros(4, 4)), banded_maps(4, 4, 0)],
    "the same twice": [banded_maps(4, 4, 0), banded_maps(4, 4, 0)],
}


def pathway_layer(case, parametrization="residual", **options):
    return RPPLinear(REP_IN, REP_OUT, pathways=PATHWAYS[case], parametrization=parametrization, **options)


BUILDS = {f"chain: {case}": (chain_layer, case) for case in CHAINS} | {
    f"pathways: {case}": (pathway_layer, case) for case in PATHWAYS
}
layers = pytest.mark.parametrize(("build", "case"), BUILDS.values(), ids=BUILDS)


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def randomised(layer):
    with torch.no_grad():
        for k, parameter in enumerate(layer.double().parameters()):
            parameter.copy_(numbers(*parameter.shape, seed=k))
    return layer


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


@layers
def test_the_weight_is_the_sum_of_dense_twins(build, case):
    layer = randomised(build(case))
    weight, bias = layer.dense.clone(), layer.bias_dense.clone()
    for name, basis in zip(layer.beta_names, layer.bases, strict=True):
        if basis.rank:
            weight = weight + (basis.dense() @ getattr(layer, name)).reshape(weight.shape)
        else:
            assert getattr(layer, name) is None
    biases = ["bias_beta"] if len(layer.bias_bases) == 1 else [f"bias_beta_{k}" for k in range(len(layer.bias_bases))]
    for name, basis in zip(biases, layer.bias_bases, strict=True):
        if basis.rank:
            bias = bias + basis.dense() @ getattr(layer, name)
    close(layer.effective_weight(), weight)
    close(layer.effective_bias(), bias)
    x = numbers(2, 3, layer.rep_in.size)
    close(layer(x), x @ weight.mT + bias)


@layers
def test_collapsed_layers_apply_the_same_function(build, case):
    residual, collapsed = randomised(build(case)), build(case, "collapsed").double()
    collapsed.load_state_dict({"weight": residual.effective_weight(), "bias": residual.effective_bias()})
    x = numbers(5, residual.rep_in.size)
    close(collapsed(x), residual(x))


@layers
def test_both_parametrizations_start_at_one_function(build, case):
    made = []
    for parametrization in ("residual", "collapsed"):
        torch.manual_seed(3)
        made.append(build(case, parametrization))
    x = numbers(5, made[0].rep_in.size).float()
    torch.testing.assert_close(made[0](x), made[1](x), rtol=1e-5, atol=1e-6)
    torch.manual_seed(4)
    made[0].reset_parameters()
    torch.manual_seed(4)
    made[1].reset_parameters()
    torch.testing.assert_close(made[0](x), made[1](x), rtol=1e-5, atol=1e-6)


@pytest.mark.statistical
@layers
def test_the_first_pathway_carries_the_signal_at_the_start(build, case):
    torch.manual_seed(shifted())
    layer = build(case)
    small = 1e-3 / math.sqrt(layer.rep_in.size)
    for name in [*layer.beta_names[1:], "dense"]:
        parameter = getattr(layer, name)
        if parameter is not None:
            assert parameter.abs().max() < z_limit(parameter.numel()) * small
    if layer.bases[0].rank:
        assert layer.effective_weight().detach().norm() > 100 * layer.dense.detach().norm()


def covariance_of_weight(layer, prior, weight="weight"):
    """Of vec(W): the sum over pathways of Q v Q^T, from the variances of the residual parametrization."""
    laws = prior.distributions(layer)
    names, bases = (layer.beta_names, layer.bases)
    if weight == "bias":
        bases = layer.bias_bases
        names = ["bias_beta"] if len(bases) == 1 else [f"bias_beta_{k}" for k in range(len(bases))]
    dense = laws["dense" if weight == "weight" else "bias_dense"]
    result = float(dense.dense_variance) * torch.eye(dense.numel).double()
    for name, basis in zip(names, bases, strict=True):
        if basis.rank:
            result = result + float(laws[name].dense_variance) * (basis.dense() @ basis.dense().mT)
    return result


@pytest.mark.parametrize("scaling", ["none", "fan_in"])
@layers
def test_the_prior_of_the_sum_is_the_sum_of_the_priors(build, case, scaling):
    residual, collapsed = build(case).double(), build(case, "collapsed").double()
    prior = RPPPrior(dense_variance=0.3, pathway_variances=[2.0, 0.7, 1.1], scaling=scaling)
    whole = prior.distributions(collapsed)
    for name in ("weight", "bias"):
        sigma = covariance_of_weight(residual, prior, name)
        law, value = whole[name], numbers(*whole[name].event_shape)
        exact = MultivariateNormal(torch.zeros(len(sigma)).double(), sigma)
        close(law.log_prob(value), exact.log_prob(value.flatten()), 1e-8)
        close(law.variance.flatten(), sigma.diagonal(), 1e-8)


@layers
def test_the_default_prior_covers_every_pathway(build, case):
    residual, collapsed = build(case).double(), build(case, "collapsed").double()
    sigma, law = covariance_of_weight(residual, RPPPrior()), RPPPrior().distributions(collapsed)["weight"]
    value = numbers(*law.event_shape)
    exact = MultivariateNormal(torch.zeros(len(sigma)).double(), sigma).log_prob(value.flatten())
    torch.testing.assert_close(law.log_prob(value), exact, rtol=1e-7, atol=1e-6)


@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
@layers
def test_gradients_to_second_order_are_the_dense_twins(build, case, parametrization):
    layer = randomised(build(case, parametrization, bias=False))
    params = {name: p.detach() for name, p in layer.named_parameters()}
    x, shape = numbers(6, layer.rep_in.size), (layer.rep_out.size, layer.rep_in.size)
    dense = {name: basis.dense() for name, basis in zip(layer.beta_names, layer.bases, strict=True)}

    def loss(params):
        return functional_call(layer, params, (x,)).pow(3).sum()

    def twin(params):
        weight = sum((dense[n] @ p).reshape(shape) if n in dense else p for n, p in params.items())
        return (x @ weight.mT).pow(3).sum()

    first, expected = torch.func.grad(loss)(params), torch.func.grad(twin)(params)
    tangent = {name: numbers(*p.shape, seed=9) for name, p in params.items()}
    second, expected_second = (torch.func.jvp(torch.func.grad(f), (params,), (tangent,))[1] for f in (loss, twin))
    for name in params:
        close(first[name], expected[name], 1e-8)
        close(second[name], expected_second[name], 1e-8)


@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
@layers
def test_vmap_over_parameters_is_a_loop(build, case, parametrization):
    layer = build(case, parametrization).double()
    stack = {name: numbers(3, *p.shape, seed=k) for k, (name, p) in enumerate(layer.named_parameters())}
    x = numbers(4, layer.rep_in.size)
    together = torch.func.vmap(lambda p: functional_call(layer, p, (x,)))(stack)
    for k in range(3):
        close(together[k], functional_call(layer, {name: value[k] for name, value in stack.items()}, (x,)))


@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
@layers
def test_copies_and_saved_states_are_independent_and_equal(build, case, parametrization):
    layer = randomised(build(case, parametrization))
    copied, loaded = copy.deepcopy(layer), build(case, parametrization).double()
    loaded.load_state_dict(layer.state_dict())
    x = numbers(4, layer.rep_in.size)
    assert torch.equal(copied(x), layer(x))
    assert torch.equal(loaded(x), layer(x))
    assert all(mine is theirs for mine, theirs in zip(layer.bases, copied.bases, strict=True))
    before = layer(x)
    with torch.no_grad():
        next(copied.parameters()).add_(1.0)
    assert torch.equal(layer(x), before)
    assert not torch.allclose(copied(x), before)


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


class TestVariances:
    def test_by_default_all_but_the_first_have_the_dense_variance(self):
        prior, layer = RPPPrior(8.0, 1e-3, scaling="none"), chain_layer("rotations").double()
        laws = prior.distributions(layer)
        found = [float(laws[name].dense_variance) for name in ("beta_0", "beta_1", "beta_2", "dense")]
        assert found == pytest.approx([8.0, 1e-3, 1e-3, 1e-3])
        biases = [float(laws[name].dense_variance) for name in ("bias_beta_0", "bias_beta_1", "bias_beta_2")]
        assert biases == pytest.approx(found[:3])

    def test_each_level_has_its_own_in_both_parametrizations(self):
        prior = RPPPrior(dense_variance=0.1, pathway_variances=[3.0, 2.0, 1.0], scaling="none")
        laws = prior.distributions(chain_layer("rotations").double())
        assert [float(laws[f"beta_{k}"].dense_variance) for k in range(3)] == [3.0, 2.0, 1.0]
        collapsed = prior.distributions(chain_layer("rotations", "collapsed").double())["weight"]
        assert [*map(float, collapsed.pathway_variances)] == [3.0, 2.0, 1.0]

    def test_a_level_may_be_a_mapping_of_layers(self):
        network = torch.nn.Sequential(
            chain_layer("permutations").double(), RPPLinear(2 * Vector, Scalar, group=[S(4), Z(4)])
        )
        prior = RPPPrior(pathway_variances=[{"": 3.0, "1": 5.0}, {"": 2.0, "0": 0.5}], scaling="none")
        laws = {name: float(law.dense_variance) for name, law in prior.distributions(network).items()}
        assert (laws["0.beta_0"], laws["0.beta_1"], laws["1.beta_0"]) == (3.0, 0.5, 5.0)
        with pytest.raises(ValueError, match="names the layer 'nowhere'"):
            RPPPrior(pathway_variances=[1.0, {"": 1.0, "nowhere": 2.0}]).distributions(network)
        with pytest.raises(ValueError, match=r"no variance for '1\.beta_0'"):
            RPPPrior(pathway_variances=[{"0": 1.0}, 1.0]).distributions(network)

    @pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
    def test_too_few_are_refused(self, parametrization):
        with pytest.raises(ValueError, match=r"one of 3 structured pathways.*there are 2 pathway_variances"):
            RPPPrior(pathway_variances=[1.0, 0.1]).distributions(chain_layer("rotations", parametrization))

    @pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
    def test_impossible_ones_are_refused_by_their_place(self, value):
        with pytest.raises(ValueError, match=r"pathway_variances\[1\] must be positive and finite"):
            RPPPrior(pathway_variances=[1.0, value])

    @pytest.mark.parametrize("value", [1.0, "1, 2"], ids=str)
    def test_one_number_or_a_text_is_no_sequence(self, value):
        with pytest.raises((TypeError, ValueError), match="pathway_variances"):
            RPPPrior(pathway_variances=value)

    def test_one_group_takes_the_first(self):
        layer = RPPLinear((2 * Vector)(O(3)), Vector(O(3)))
        laws = RPPPrior(equivariant_variance=5.0, pathway_variances=[3.0], scaling="none").distributions(layer)
        assert float(laws["beta"].dense_variance) == 3.0
