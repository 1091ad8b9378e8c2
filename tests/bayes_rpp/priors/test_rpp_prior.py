"""Residual pathway priors: scaling, weight decays, layers, and the marginal over whole weights."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from bayes_rpp import (
    EMLP,
    MLP,
    RPPEMLP,
    BayesianModel,
    Gaussian,
    O,
    RPPLinear,
    RPPPrior,
    Scalar,
    T,
    Vector,
    equivariant_maps,
)
from bayes_rpp.serialization.priors import describe_prior, rebuild_prior
from tests.error_rate import z_limit
from tests.seeds import shifted

REP_IN, REP_OUT, GROUP = 2 * Scalar + 2 * Vector, T(2), O(3)
COMBINATIONS = "network.0.bilinear.combinations"  # their variance is one over their number, whatever the settings


def network(kind=RPPEMLP, layers=1, **options):
    return kind(REP_IN, REP_OUT, GROUP, channels=20, layers=layers, **options)


def published_network(kind=RPPEMLP):
    return (network(kind) if kind is MLP else network(kind, bilinear="full")).double()


def variance_of(prior, net, name):
    return float(prior.distributions(net)[name].dense_variance)


def test_layer_fan_in_divides_dense_weights_by_inputs_and_coordinates_by_maps_into_an_output():
    net, prior = network(), RPPPrior(equivariant_variance=3.0, dense_variance=0.7, scaling="layer_fan_in")
    layer = net.network[0].linear
    (m, n), rank = layer.dense.shape, layer.beta.numel()
    assert n == 8
    assert variance_of(prior, net, "network.0.linear.beta") == pytest.approx(3.0 * m / rank)
    assert variance_of(prior, net, "network.0.linear.dense") == pytest.approx(0.7 / n)
    assert variance_of(prior, net, "network.0.linear.bias_beta") == pytest.approx(3.0)
    assert variance_of(prior, net, "network.0.linear.bias_dense") == pytest.approx(0.7)
    assert variance_of(prior, net, "network.0.nonlinearity.swish") == pytest.approx(0.7)
    bilinear = net.network[0].bilinear
    pieces = sum(count for count, _ in bilinear.rep)
    expected = 3.0 * pieces / bilinear.weight.numel()
    assert variance_of(prior, net, "network.0.bilinear.weight") == pytest.approx(expected)


def test_fan_in_divides_an_mlps_weights_by_inputs_and_leaves_its_biases():
    net, prior = network(MLP), RPPPrior(mlp_variance=2.0)
    assert variance_of(prior, net, "network.0.weight") == pytest.approx(2.0 / 8)
    assert variance_of(prior, net, "network.2.weight") == pytest.approx(2.0 / 20)
    assert variance_of(prior, net, "network.2.bias") == pytest.approx(2.0)


def test_without_scaling_variances_are_taken_as_they_are():
    prior = RPPPrior(3.0, 0.7, mlp_variance=2.0, scaling="none")
    expected = {"beta": 3.0, "bias_beta": 3.0, "weight": 3.0, "dense": 0.7, "bias_dense": 0.7, "swish": 0.7}
    distributions = prior.distributions(network().double())
    combinations = distributions.pop(COMBINATIONS)
    for name, distribution in distributions.items():
        assert float(distribution.dense_variance) == expected[name.rsplit(".", 1)[1]]
    assert torch.equal(combinations.variance, RPPPrior(1.0).distributions(network().double())[COMBINATIONS].variance)
    assert {float(d.dense_variance) for d in prior.distributions(network(MLP)).values()} == {2.0}


@pytest.mark.parametrize("kind", [RPPEMLP, EMLP, MLP])
def test_every_parameter_has_a_prior_of_its_shape(kind):
    net = network(kind)
    priors = RPPPrior().distributions(net)
    assert list(priors) == [name for name, _ in net.named_parameters()]
    for name, parameter in net.named_parameters():
        assert priors[name].event_shape == parameter.shape


def test_foreign_layers_get_the_plain_variance_over_their_own_fan_in():
    net = nn.Sequential(nn.Conv2d(3, 4, 5), nn.Flatten(), nn.Linear(7, 2))
    prior = RPPPrior(mlp_variance=6.0)
    assert variance_of(prior, net, "0.weight") == pytest.approx(6.0 / 75)
    assert variance_of(prior, net, "0.bias") == pytest.approx(6.0)
    assert variance_of(prior, net, "2.weight") == pytest.approx(6.0 / 7)


def test_published_weight_decays_in_real_units():
    prior = RPPPrior.from_weight_decay(1e-5, 100, num_data=1000, num_outputs=9, noise_variance=0.2)
    assert prior.equivariant_variance == pytest.approx(0.2 / (9000 * 1e-5))
    assert prior.dense_variance == prior.mlp_variance == pytest.approx(0.2 / (9000 * 100))
    assert prior.scaling == "none"
    adam = RPPPrior.from_weight_decay(1e-5, 100, num_data=1000, num_outputs=9, noise_variance=0.2, convention="adam")
    assert adam.equivariant_variance == pytest.approx(2 * prior.equivariant_variance)
    assert adam.dense_variance == pytest.approx(2 * prior.dense_variance)


def data(count):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 8, generator=generator, dtype=torch.float64)
    return x, torch.randn(count, 9, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("kind", "broad"), [(RPPEMLP, ("beta", "bias_beta", "weight")), (MLP, ())])
def test_the_published_objective_and_the_log_joint_have_proportional_gradients(kind, broad):
    noise, decays, (x, y) = 0.3, (1e-2, 5.0), data(12)
    net = published_network(kind)
    prior = RPPPrior.from_weight_decay(*decays, num_data=12, num_outputs=9, noise_variance=noise)
    model = BayesianModel(net, prior, Gaussian(noise_variance=noise))
    params = {name: p.detach() for name, p in net.named_parameters()}

    def published(params):
        def decay(name):
            return decays[0] if name.rsplit(".", 1)[1] in broad else decays[1]

        penalty = sum(decay(name) * value.square().sum() for name, value in params.items())
        return (model.output(params, x) - y).square().mean() + penalty

    theirs = torch.func.grad(published)(params)
    ours = torch.func.grad(lambda p: -model.log_joint(p, x, y) / 12)(params)
    factor = 9 / (2 * noise)
    for name in params:
        torch.testing.assert_close(ours[name], factor * theirs[name], rtol=1e-10, atol=1e-10)


def test_an_optimisers_weight_decay_is_the_gradient_of_the_log_prior():
    noise, decay, net = 0.3, 0.05, published_network()
    settings = {"num_data": 12, "num_outputs": 9, "noise_variance": noise, "convention": "adam"}
    model = BayesianModel(net, RPPPrior.from_weight_decay(decay, decay, **settings), Gaussian(noise_variance=noise))
    params = {name: p.detach() for name, p in net.named_parameters()}
    gradient = torch.func.grad(model.log_prior)(params)
    for name in params:
        scaled = -gradient[name] * 2 * noise / (12 * 9)
        torch.testing.assert_close(scaled, decay * params[name], rtol=1e-10, atol=1e-12)


def test_the_longest_matching_layer_decides():
    setting = {"": 1.0, "network.0": 2.0, "network.0.linear": 3.0, "network.1": 4.0}
    prior, net = RPPPrior(dense_variance=setting, scaling="none"), network(layers=2)
    found = {n: float(d.dense_variance) for n, d in prior.distributions(net).items() if n.endswith(("dense", "swish"))}
    assert found == {
        "network.0.linear.dense": 3.0,
        "network.0.linear.bias_dense": 3.0,
        "network.0.nonlinearity.swish": 2.0,
        "network.1.linear.dense": 4.0,
        "network.1.linear.bias_dense": 4.0,
        "network.1.nonlinearity.swish": 4.0,
        "network.2.dense": 1.0,
        "network.2.bias_dense": 1.0,
    }


def test_a_layers_name_is_no_prefix_of_another_layers():
    net = nn.ModuleDict({"a": nn.Linear(2, 2), "ab": nn.Linear(2, 2)})
    prior = RPPPrior(mlp_variance={"": 1.0, "a": 5.0}, scaling="none")
    assert variance_of(prior, net, "ab.bias") == 1.0


def test_collapsed_weights_take_both_variances_layer_by_layer():
    net = network(layers=0, parametrization="collapsed")
    prior = RPPPrior({"": 1.0, "network.0": 9.0}, {"": 1e-3, "network.0": 0.5}, scaling="none")
    weight = prior.distributions(net)["network.0.weight"]
    assert (float(weight.dense_variance), *map(float, weight.pathway_variances)) == (0.5, 9.0)


def layers_of_both_kinds():
    rep_in, rep_out = REP_IN(GROUP), (Vector + Scalar)(GROUP)
    return [RPPLinear(rep_in, rep_out, parametrization=p).double() for p in ("residual", "collapsed")]


@pytest.mark.parametrize("scaling", ["none", "fan_in", "layer_fan_in"])
def test_both_parametrizations_have_one_marginal_over_whole_weights(scaling):
    prior, (residual, collapsed) = RPPPrior(3.0, 0.2, scaling=scaling), layers_of_both_kinds()
    parts, whole = prior.distributions(residual), prior.distributions(collapsed)
    for basis, names in (
        (residual.basis, ("beta", "dense", "weight")),
        (residual.bias_basis, ("bias_beta", "bias_dense", "bias")),
    ):
        q = basis.dense()
        narrow = float(parts[names[1]].dense_variance)
        expected = q * parts[names[0]].variance @ q.mT + narrow * torch.eye(len(q)).double()
        value = torch.randn(whole[names[2]].event_shape, generator=torch.Generator().manual_seed(0)).double()
        dense = torch.distributions.MultivariateNormal(torch.zeros(len(q)).double(), expected)
        torch.testing.assert_close(
            whole[names[2]].log_prob(value), dense.log_prob(value.flatten()), rtol=1e-10, atol=1e-10
        )


@pytest.mark.statistical
def test_both_parametrizations_draw_the_same_weights():
    prior, (residual, collapsed), count = RPPPrior(3.0, 0.2), layers_of_both_kinds(), 20_000
    torch.manual_seed(shifted())
    parts, whole = prior.distributions(residual), prior.distributions(collapsed)
    sums = residual.basis.expand(parts["beta"].sample((count,))) + parts["dense"].sample((count,)).flatten(1)
    draws = whole["weight"].sample((count,)).flatten(1)
    covariances = [sample.mT @ sample / count for sample in (sums, draws)]
    sigma = covariances[0]
    spread = (2 / count * (torch.outer(sigma.diagonal(), sigma.diagonal()) + sigma**2)).sqrt()
    z = (covariances[0] - covariances[1]) / spread
    assert z.abs().max() < z_limit(z.numel())
    q = equivariant_maps(residual.rep_in, residual.rep_out).dense().to(sums)
    assert (sums @ q).square().mean() > 5 * (sums - sums @ q @ q.mT).square().mean()


def test_impossible_variances_are_refused_by_name(subtests):
    for value in [0.0, -1.0, math.nan, math.inf, {"": 1.0, "network.0": -1.0}]:
        for name in ["equivariant_variance", "dense_variance", "mlp_variance"]:
            message = rf"{name}.*must be positive and finite"
            with subtests.test(msg=f"{name} = {value}"), pytest.raises(ValueError, match=message):
                RPPPrior(**{name: value})


@pytest.mark.parametrize("value", [np.int64(2), np.float32(2.0), np.float64(2.0), Fraction(2), 2])
def test_numbers_of_any_kind_become_plain_floats(value):
    prior = RPPPrior(value, {"": value}, pathway_variances=[value, {"": value}])
    assert repr(prior) == repr(RPPPrior(2.0, {"": 2.0}, pathway_variances=[2.0, {"": 2.0}]))
    assert rebuild_prior(json.loads(json.dumps(describe_prior(prior)))) == prior


@pytest.mark.parametrize("value", ["1", True, None, {"": "1"}])
def test_variances_that_are_no_numbers_are_refused(value):
    with pytest.raises(TypeError, match=r"dense_variance must be a number, a distribution of pyro\.distributions"):
        RPPPrior(dense_variance=value)


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="scaling must be 'fan_in', 'layer_fan_in' or 'none', got 'width'"):
        RPPPrior(scaling="width")
    settings = {"num_data": 10, "num_outputs": 1, "noise_variance": 1.0}
    with pytest.raises(ValueError, match="convention must be 'penalty' or 'adam', got 'sgd'"):
        RPPPrior.from_weight_decay(1.0, 1.0, **settings, convention="sgd")
    for decays in ((0.0, 1.0), (1.0, -1.0), (math.nan, 1.0)):
        with pytest.raises(ValueError, match=r"(equivariant|dense) must be positive and finite"):
            RPPPrior.from_weight_decay(*decays, **settings)
    for name, value in (("num_data", 0), ("num_outputs", -1), ("noise_variance", math.inf)):
        with pytest.raises(ValueError, match=f"{name} must be positive and finite, got {value}"):
            RPPPrior.from_weight_decay(1.0, 1.0, **settings | {name: value})


def test_layers_that_the_network_does_not_have_are_refused():
    with pytest.raises(ValueError, match=r"names the layer 'network\.9'; the network's layers are \['network'"):
        RPPPrior(dense_variance={"": 1.0, "network.9": 2.0}).distributions(network())


def test_a_mapping_without_a_default_must_cover_every_parameter():
    with pytest.raises(ValueError, match=r"no variance for 'network\.1\.dense': add a default"):
        RPPPrior(dense_variance={"network.0": 1.0}).distributions(network())


def test_files_from_before_load_under_their_own_rule():
    old = {"equivariant_variance": 10.0, "dense_variance": 3e-4, "mlp_variance": 1.0, "scaling": "fan_in"}
    net = network(layers=2)
    former, given = rebuild_prior({**old, "pathway_variances": None}), RPPPrior(10.0, 3e-4, scaling="layer_fan_in")
    for name, law in former.distributions(net).items():
        torch.testing.assert_close(law.variance, given.distributions(net)[name].variance, rtol=0, atol=0)
    for scaling in ("fan_in", "layer_fan_in", "none"):
        prior = RPPPrior(2.0, scaling=scaling)
        assert rebuild_prior(json.loads(json.dumps(describe_prior(prior)))) == prior


def test_priors_without_settings_are_where_the_given_variances_are():
    laws = RPPPrior().parameter_priors(network())
    there = {name: torch.ones((), device="meta") for name in RPPPrior().variances(network())}
    assert {law.at(there).dense_variance.device.type for law in laws.values()} == {"meta"}
