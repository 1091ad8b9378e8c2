"""The prior of layers with several structured pathways: a variance for each."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from bayes_rpp import (
    O,
    RPPLinear,
    RPPPrior,
    S,
    Scalar,
    Vector,
    Z,
)
from tests.scenarios.layers import LAYERS, chain_layer
from tests.scenarios.numbers import numbers

layers = pytest.mark.parametrize("build", LAYERS.values(), ids=LAYERS)


def close(actual, expected, tolerance=1e-10):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


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
            result = result + basis.dense() * laws[name].variance @ basis.dense().mT
    return result


def test_the_prior_of_the_sum_is_the_sum_of_the_priors(subtests):
    for name, build in LAYERS.items():
        for scaling in ["none", "fan_in"]:
            with subtests.test(msg=f"{name}, scaling {scaling}"):
                residual, collapsed = build().double(), build("collapsed").double()
                prior = RPPPrior(dense_variance=0.3, pathway_variances=[2.0, 0.7, 1.1], scaling=scaling)
                whole = prior.distributions(collapsed)
                for which in ("weight", "bias"):
                    sigma = covariance_of_weight(residual, prior, which)
                    law, value = whole[which], numbers(*whole[which].event_shape)
                    exact = MultivariateNormal(torch.zeros(len(sigma)).double(), sigma)
                    close(law.log_prob(value), exact.log_prob(value.flatten()), 1e-8)
                    close(law.variance.flatten(), sigma.diagonal(), 1e-8)


def test_the_default_prior_covers_every_pathway(subtests):
    for name, build in LAYERS.items():
        with subtests.test(msg=name):
            residual, collapsed = build().double(), build("collapsed").double()
            sigma, law = covariance_of_weight(residual, RPPPrior()), RPPPrior().distributions(collapsed)["weight"]
            value = numbers(*law.event_shape)
            exact = MultivariateNormal(torch.zeros(len(sigma)).double(), sigma).log_prob(value.flatten())
            torch.testing.assert_close(law.log_prob(value), exact, rtol=1e-7, atol=1e-6)


def test_by_default_all_but_the_first_have_the_dense_variance():
    prior, layer = RPPPrior(8.0, 1e-3, scaling="none"), chain_layer("rotations").double()
    laws = prior.distributions(layer)
    found = [float(laws[name].dense_variance) for name in ("beta_0", "beta_1", "beta_2", "dense")]
    assert found == pytest.approx([8.0, 1e-3, 1e-3, 1e-3])
    biases = [float(laws[name].dense_variance) for name in ("bias_beta_0", "bias_beta_1", "bias_beta_2")]
    assert biases == pytest.approx(found[:3])


def test_each_level_has_its_own_variance_in_both_parametrizations():
    prior = RPPPrior(dense_variance=0.1, pathway_variances=[3.0, 2.0, 1.0], scaling="none")
    laws = prior.distributions(chain_layer("rotations").double())
    assert [float(laws[f"beta_{k}"].dense_variance) for k in range(3)] == [3.0, 2.0, 1.0]
    collapsed = prior.distributions(chain_layer("rotations", "collapsed").double())["weight"]
    assert [*map(float, collapsed.pathway_variances)] == [3.0, 2.0, 1.0]


def test_a_level_may_be_a_mapping_of_layers():
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
def test_too_few_variances_are_refused(parametrization):
    with pytest.raises(ValueError, match=r"one of 3 structured pathways.*there are 2 pathway_variances"):
        RPPPrior(pathway_variances=[1.0, 0.1]).distributions(chain_layer("rotations", parametrization))


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_impossible_variances_are_refused_by_their_place(value):
    with pytest.raises(ValueError, match=r"pathway_variances\[1\] must be positive and finite"):
        RPPPrior(pathway_variances=[1.0, value])


@pytest.mark.parametrize("value", [1.0, "1, 2"], ids=str)
def test_one_number_or_a_text_is_no_sequence(value):
    with pytest.raises((TypeError, ValueError), match="pathway_variances"):
        RPPPrior(pathway_variances=value)


def test_one_group_takes_the_first():
    layer = RPPLinear((2 * Vector)(O(3)), Vector(O(3)))
    laws = RPPPrior(equivariant_variance=5.0, pathway_variances=[3.0], scaling="none").distributions(layer)
    assert float(laws["beta"].dense_variance) == 3.0
