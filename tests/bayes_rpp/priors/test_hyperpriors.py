"""Variances by name: hyperpriors, given values, a variance for each layer."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from bayes_rpp import MLP, RPPEMLP, O, O2eR3, RPPLinear, RPPPrior, Scalar, T, Vector

REP_IN, REP_OUT, GROUP = 2 * Scalar + 2 * Vector, T(2), O(3)


def network(kind=RPPEMLP, layers=1, group=GROUP, **options):
    return kind(REP_IN, REP_OUT, group, channels=20, layers=layers, **options).double()


def layer(parametrization="collapsed"):
    return RPPLinear(Vector(GROUP), (Vector + Scalar)(GROUP), parametrization=parametrization).double()


def tensors(**values):
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def variances_of(distributions):
    return {name: [float(v) for v in (d.dense_variance, *d.pathway_variances)] for name, d in distributions.items()}


@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
@pytest.mark.parametrize("scaling", ["fan_in", "none"])
def test_given_variances_make_the_distributions_that_the_same_numbers_make(scaling, parametrization):
    net = network(parametrization=parametrization)
    hyper = tensors(equivariant_variance=2.5, dense_variance=0.03)
    free = RPPPrior(dist.HalfCauchy(1.0), dist.LogNormal(-6.0, 2.0), scaling=scaling)
    fixed = RPPPrior(2.5, 0.03, scaling=scaling)
    expected = variances_of(fixed.distributions(net))
    assert variances_of(free.distributions(net, hyper)) == expected
    assert variances_of(RPPPrior(7.0, 8.0, scaling=scaling).distributions(net, hyper)) == expected


def test_a_network_names_the_settings_that_it_takes():
    assert list(RPPPrior().variances(network())) == ["equivariant_variance", "dense_variance"]
    assert RPPPrior(mlp_variance=3.0).variances(network(MLP)) == {"mlp_variance": 3.0}
    levels = RPPPrior(pathway_variances=[1.0, {"": 2.0, "network.0": 3.0}], dense_variance=0.1)
    assert levels.variances(network(group=[GROUP, O2eR3()])) == {
        "dense_variance": 0.1,
        "pathway_variances[0]": 1.0,
        "pathway_variances[1]": 2.0,
        "pathway_variances[1][network.0]": 3.0,
    }


def test_an_entry_that_no_parameter_takes_is_no_setting_of_the_network():
    whole = {"": dist.HalfCauchy(1.0), "network.0": 2.0, "network.1": 3.0}
    prior = RPPPrior(dense_variance=whole)
    assert prior.variances(network()) == {
        "equivariant_variance": 1.0,
        "dense_variance[network.0]": 2.0,
        "dense_variance[network.1]": 3.0,
    }
    assert prior.hyperpriors(network()) == {}
    assert list(prior.distributions(network())) == [name for name, _ in network().named_parameters()]


def test_hyperpriors_are_the_settings_that_are_distributions():
    cauchy = dist.HalfCauchy(1.0)
    prior = RPPPrior(dense_variance={"": cauchy, "network.0": 0.5}, mlp_variance=dist.HalfNormal(1.0))
    assert prior.hyperpriors(network()) == {"dense_variance": cauchy}


@pytest.mark.parametrize(
    "hyperprior",
    [dist.HalfCauchy(1.0), dist.InverseGamma(2.0, 1.0), dist.LogNormal(0.0, 1.0), dist.Gamma(1.0, 1.0)],
    ids=lambda d: type(d).__name__,
)
def test_laws_of_positive_numbers_are_hyperpriors(hyperprior):
    assert RPPPrior(dense_variance=hyperprior).hyperpriors(layer()) == {"dense_variance": hyperprior}


@pytest.mark.parametrize(
    ("law", "message"),
    [
        (dist.Normal(0.0, 1.0), r"dense_variance must have a hyperprior on the positive numbers.*Real"),
        (dist.Uniform(0.0, 1.0), r"dense_variance must have a hyperprior on the positive numbers.*Interval"),
        (dist.Pareto(1.0, 1.0), r"dense_variance must have a hyperprior on the positive numbers"),
        (dist.HalfCauchy(torch.ones(2)), r"dense_variance must have a hyperprior of one number.*\(2,\)"),
        ({"": 1.0, "network.0": dist.Normal(0.0, 1.0)}, r"dense_variance for 'network\.0' must have a hyperprior"),
    ],
)
def test_other_laws_are_refused(law, message):
    with pytest.raises(ValueError, match=message):
        RPPPrior(dense_variance=law)


def test_a_distribution_of_torch_alone_is_no_hyperprior():
    message = r"dense_variance must be a number or a distribution of pyro.*: take pyro\.distributions\.HalfCauchy\."
    with pytest.raises(TypeError, match=message):
        RPPPrior(dense_variance=torch.distributions.HalfCauchy(1.0))


def test_a_hyperprior_without_a_value_is_refused_by_name():
    prior = RPPPrior(dense_variance={"": dist.HalfCauchy(1.0), "network.0": dist.HalfCauchy(1.0)})
    with pytest.raises(ValueError, match=r"^dense_variance has a hyperprior: give its value"):
        prior.distributions(network())
    with pytest.raises(ValueError, match=r"^dense_variance\[network\.0\] has a hyperprior: give its value"):
        prior.distributions(network(), tensors(dense_variance=1.0))


def test_unknown_names_and_shapes_of_given_variances_are_refused():
    with pytest.raises(ValueError, match=r"hyper names 'mlp_variance'; the settings .* \['equivariant_variance'"):
        RPPPrior().distributions(network(), tensors(mlp_variance=1.0))
    with pytest.raises(ValueError, match=r"hyper\['dense_variance'\] must be a scalar tensor, got shape \(3,\)"):
        RPPPrior().distributions(network(), {"dense_variance": torch.ones(3)})


def exact_covariance(net, broad, narrow):
    """Of vec(W), with the scaling written out: beta over 1 map into 3 axes of a vector, dense weights over n."""
    q, (m, n) = net.basis.dense(), net.weight.shape
    return broad * 3 * (q @ q.mT) + narrow / n * torch.eye(m * n).double()


@pytest.mark.parametrize("function", ["value", "gradient"])
def test_densities_and_gradients_in_the_variances_are_those_of_dense_matrices_under_vmap(function):
    net, prior = layer(), RPPPrior(dist.HalfCauchy(1.0), dist.InverseGamma(2.0, 1.0))
    weight = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).double()

    def ours(broad, narrow):
        hyper = {"equivariant_variance": broad, "dense_variance": narrow}
        return prior.distributions(net, hyper)["weight"].log_prob(weight)

    def theirs(broad, narrow):
        sigma = exact_covariance(net, broad, narrow)
        quadratic = weight.flatten() @ torch.linalg.solve(sigma, weight.flatten())
        return -0.5 * (quadratic + torch.linalg.slogdet(sigma)[1] + 12 * math.log(2 * math.pi))

    broad, narrow = torch.tensor([0.1, 3.0, 50.0]).double(), torch.tensor([1e-2, 0.2, 3.0]).double()
    change = (lambda f: f) if function == "value" else lambda f: torch.func.grad(f, argnums=(0, 1))
    with pyro.validation_enabled(False):
        found = torch.func.vmap(change(ours))(broad, narrow)
    expected = [change(theirs)(b, n) for b, n in zip(broad, narrow, strict=True)]
    if function == "value":
        torch.testing.assert_close(found, torch.stack(expected), rtol=1e-10, atol=1e-10)
    else:
        for k in (0, 1):
            torch.testing.assert_close(found[k], torch.stack([e[k] for e in expected]), rtol=1e-9, atol=1e-9)


def test_given_variances_take_the_type_of_the_parameters():
    prior, hyper = RPPPrior(dense_variance=dist.HalfCauchy(1.0)), tensors(dense_variance=0.5)
    assert prior.distributions(layer().float(), hyper)["weight"].sample().dtype == torch.float32


def test_per_layer_gives_every_layer_an_entry_and_changes_no_variance():
    net, prior = network(layers=2), RPPPrior(3.0, {"": 0.5, "network.1": 0.1})
    own = prior.per_layer(net)
    assert variances_of(own.distributions(net)) == variances_of(prior.distributions(net))
    holders = {name.rpartition(".")[0] for name, _ in net.named_parameters()}
    assert set(own.equivariant_variance) | set(own.dense_variance) == holders
    assert own.dense_variance["network.1.linear"] == own.dense_variance["network.1.nonlinearity"] == 0.1
    assert "network.1.bilinear" not in own.dense_variance
    assert own.mlp_variance == 1.0


def test_per_layer_separates_hyperpriors_and_each_reaches_its_layer_alone():
    net = network(layers=0, group=[GROUP, O2eR3()])
    cauchy = dist.HalfCauchy(1.0)
    prior = RPPPrior(pathway_variances=[1.0, cauchy], scaling="none").per_layer(net)
    assert prior.hyperpriors(net) == {"pathway_variances[1][network.0]": cauchy}
    deep = network(layers=1)
    prior = RPPPrior(dense_variance=cauchy, scaling="none").per_layer(deep)
    names = list(prior.hyperpriors(deep))
    assert names == [f"dense_variance[network.{n}]" for n in ("0.linear", "0.nonlinearity", "1")]
    found = variances_of(prior.distributions(deep, {n: torch.tensor(float(k + 1)) for k, n in enumerate(names)}))
    narrow = {name: v[0] for name, v in found.items() if name.rsplit(".", 1)[1] in ("dense", "bias_dense", "swish")}
    assert narrow == {
        "network.0.linear.dense": 1.0,
        "network.0.linear.bias_dense": 1.0,
        "network.0.nonlinearity.swish": 2.0,
        "network.1.dense": 3.0,
        "network.1.bias_dense": 3.0,
    }


def test_a_network_that_is_one_layer_has_its_entry_under_the_empty_name():
    prior = RPPPrior(dense_variance=dist.HalfCauchy(1.0)).per_layer(layer())
    assert list(prior.hyperpriors(layer())) == ["dense_variance"]


def test_numbers_take_the_place_of_hyperpriors():
    given = {"": dist.HalfCauchy(1.0), "network.0": dist.LogNormal(0.0, 1.0)}
    prior = RPPPrior(dense_variance=given, pathway_variances=[dist.HalfCauchy(1.0), 2.0])
    values = {"dense_variance": 0.1, "dense_variance[network.0]": 0.2, "pathway_variances[0]": 5.0}
    fixed = prior.with_variances(values)
    assert fixed == RPPPrior(dense_variance={"": 0.1, "network.0": 0.2}, pathway_variances=[5.0, 2.0])
    assert RPPPrior(dense_variance=dist.HalfCauchy(1.0)).with_variances({"dense_variance": 0.1}) == RPPPrior(
        dense_variance=0.1
    )


def test_numbers_for_unknown_settings_are_refused():
    with pytest.raises(ValueError, match=r"values name 'dense_variance\[network\.0\]'; the prior's settings are \["):
        RPPPrior().with_variances({"dense_variance[network.0]": 1.0})
    with pytest.raises(ValueError, match="dense_variance must be positive and finite, got -1"):
        RPPPrior().with_variances({"dense_variance": -1.0})


def test_foreign_layers_share_or_separate_their_variance():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    prior = RPPPrior(mlp_variance=dist.InverseGamma(2.0, 1.0))
    assert list(prior.hyperpriors(net)) == ["mlp_variance"]
    assert list(prior.per_layer(net).hyperpriors(net)) == ["mlp_variance[0]", "mlp_variance[1]"]
