"""The equivariance error of layers: planted where it must be found, and against the definition step by step."""

import numpy as np
import pytest
import torch
from torch import nn

from analysis import equivariance_error, layer_equivariance_error
from analysis.symmetry.layer_errors import symmetric_layers
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
    Vector,
)
from bayes_rpp.networks import gated
from inference import Posterior

KINDS = ["cumulative", "own"]
REP_IN, REP_OUT = 2 * Scalar + 2 * Vector, Vector + Scalar
NAMES = [f"network.{block}.{part}" for block in (0, 1) for part in ("linear", "bilinear", "nonlinearity")]
NAMES.append("network.2")


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network_of(kind=RPPEMLP, group=None, layers=2, **options):
    """A network in float64 whose last layers see vectors, so that every layer has something to break."""
    torch.manual_seed(0)
    return kind(REP_IN, REP_OUT, group or O(3), channels=24, layers=layers, **options).double()


def posterior_of(network, samples):
    return Posterior(BayesianModel(network, RPPPrior(), Gaussian(0.2)), samples)


def without_residuals(network):
    """Parameters of an exactly equivariant network, (2, 2, ...) draws that differ."""
    draws = {}
    for k, (name, value) in enumerate(network.named_parameters()):
        residual = name.split(".")[-1] in ("dense", "bias_dense", "swish")
        noise = 0.1 * numbers(2, 2, *value.shape, seed=k)
        draws[name] = torch.zeros_like(noise) if residual else value.detach() + noise
    return draws


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("place", [place for place, name in enumerate(NAMES) if "bilinear" not in name])
def test_what_breaks_one_layer_is_found_there_and_behind_it(place, normalized):
    network, x = network_of(), numbers(6, 8)
    network = NormalizedNetwork.fit(network, 3 * x + 1, 2 + numbers(6, 4)) if normalized else network
    prefix = "network." * normalized
    samples = without_residuals(network)
    weight = "swish" if "nonlinearity" in NAMES[place] else "dense"
    planted = samples[f"{prefix}{NAMES[place]}.{weight}"]
    planted += 0.3 * numbers(*planted.shape, seed=9)
    posterior = posterior_of(network, samples)
    own = layer_equivariance_error(posterior, x, kind="own")
    assert own.dims == ("chain", "draw", "layer")
    assert own.layer.values.tolist() == [prefix + name for name in NAMES]
    behind = np.arange(len(NAMES)) >= place
    alone = np.arange(len(NAMES)) == place
    assert float(own[..., ~alone].max()) < 1e-12
    assert float(own[..., alone].min()) > 1e-3
    cumulative = layer_equivariance_error(posterior, x, kind="cumulative")
    assert (cumulative.values[..., ~behind] < 1e-12).all()
    assert float(cumulative[..., behind].min()) > 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_an_equivariant_network_has_no_error_in_any_layer(fit_small, bodies, kind, dtype, bound):
    exact = layer_equivariance_error(fit_small(bodies, EMLP, dtype), bodies.test.x, kind=kind)
    assert exact.shape == (3, 1, 4)
    assert float(exact.max()) < bound
    rough = layer_equivariance_error(fit_small(bodies, RPPEMLP, dtype), bodies.test.x, kind=kind)
    linear = [name for name in rough.layer.values if "bilinear" not in name]
    assert float(rough.sel(layer=linear).min()) > 10 * bound


@pytest.mark.parametrize("elements", [3, O(3).sample(4, seed=1)], ids=["drawn", "given"])
def test_the_last_layer_has_the_error_of_the_network(elements):
    network, x, options = network_of(), numbers(6, 8), {"seed": 3, "elements": elements}
    found = layer_equivariance_error(network, x, **options)
    assert found.dims == ("layer",)
    assert found.layer.values.tolist() == NAMES
    assert float(found[-1]) == pytest.approx(float(equivariance_error(network, x, **options)), rel=1e-12)
    samples = {name: value.detach()[None, None] for name, value in network.named_parameters()}
    of_posterior = layer_equivariance_error(posterior_of(network, samples), x, **options)
    np.testing.assert_allclose(of_posterior[0, 0], found, rtol=1e-12)


def literal_errors(network, x, elements, kind):
    """One group element and one point at a time, by dense matrices, through the modules of one hidden layer."""
    block, last = network.network
    hidden = block.linear.rep_out
    assert hidden == gated(network.hidden[0])

    def activations(point):
        linear = block.linear(point)
        bilinear = block.bilinear(linear)
        gate = block.nonlinearity(linear + bilinear)
        return [linear, bilinear, gate, last(gate)]

    steps = [
        (block.linear, network.rep_in, hidden, lambda point: point),
        (block.bilinear, hidden, hidden, block.linear),
        (block.nonlinearity, hidden, network.hidden[0], lambda p: block.linear(p) + block.bilinear(block.linear(p))),
        (last, network.hidden[0], network.rep_out, block),
    ]
    errors = torch.zeros(4, len(elements), len(x), dtype=torch.float64)
    for e, g in enumerate(elements):
        for i, point in enumerate(x):
            moved = activations((network.rep_in.rho(g) @ point)[None])
            for k, (module, rep_in, rep_out, before) in enumerate(steps):
                a = rep_out.rho(g) @ activations(point[None])[k][0]
                alone = module((rep_in.rho(g) @ before(point[None])[0])[None])
                b = (alone if kind == "own" else moved[k])[0]
                errors[k, e, i] = (a - b).norm() / (a.norm() + b.norm())
    return errors.detach().mean((1, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_the_errors_are_their_definition(kind):
    network, x, elements = network_of(layers=1), numbers(4, 8), O(3).sample(3, seed=2)
    for parameter in network.parameters():
        parameter.data += 0.1 * numbers(*parameter.shape)
    found = layer_equivariance_error(network, x, kind=kind, elements=elements)
    np.testing.assert_allclose(found, literal_errors(network, x, elements, kind), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_a_posterior_is_measured_draw_by_draw_and_some_points_at_a_time(kind, monkeypatch):
    network, x = network_of(layers=1), numbers(7, 8)
    samples = {name: value + 0.1 for name, value in without_residuals(network).items()}
    whole = layer_equivariance_error(posterior_of(network, samples), x, kind=kind)
    for chain in range(2):
        for draw in range(2):
            network.load_state_dict({name: value[chain, draw] for name, value in samples.items()}, strict=False)
            alone = layer_equivariance_error(network, x, kind=kind)
            np.testing.assert_allclose(whole[chain, draw], alone, rtol=1e-10, atol=1e-14)
    monkeypatch.setattr("inference.memory.AT_ONCE", 50_000)
    in_parts = layer_equivariance_error(posterior_of(network, samples), x, kind=kind)
    np.testing.assert_allclose(in_parts, whole, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_a_symmetry_under_a_subgroup_alone(kind):
    """Weights of the pathway of O2eR3 break O(3) in every linear layer, and nothing under O2eR3."""
    network, x = network_of(group=[O(3), O2eR3()]), numbers(6, 8)
    posterior = posterior_of(network, without_residuals(network))
    narrow = layer_equivariance_error(posterior, x, O2eR3(), kind=kind)
    assert narrow.attrs["group"] == "O2eR3"
    assert float(narrow.max()) < 1e-12
    wide = layer_equivariance_error(posterior, x, kind=kind)
    assert float(wide.sel(layer=["network.0.linear", "network.1.linear", "network.2"]).min()) > 1e-3


def test_direct_products_have_layers_too():
    group = SO(3) * SO(2)
    rep = Vector(SO(3)) * Vector(SO(2))
    torch.manual_seed(0)
    network = RPPEMLP(rep, Vector(SO(2)), group, channels=30, layers=1).double()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("dense", "swish")):
                parameter.zero_()
        network.network[1].dense += 0.1
    own = layer_equivariance_error(network, numbers(5, 6), kind="own", elements=4)
    assert own.layer.values.tolist()[-1] == "network.1"
    assert float(own[:-1].max()) < 1e-12
    assert float(own[-1]) > 1e-3


def test_the_network_is_left_without_hooks():
    network, x = network_of(), numbers(6, 8)
    before = network(x)
    layer_equivariance_error(network, x)
    assert not any(module._forward_hooks for module in network.modules())
    assert torch.equal(network(x), before)


class Shared(nn.Module):
    """Calls one layer twice, or never."""

    def __init__(self, calls):
        super().__init__()
        self.rep_in = self.rep_out = Vector(O(3))
        self.first, self.layer = RPPLinear(self.rep_in, self.rep_out), RPPLinear(self.rep_in, self.rep_out)
        self.calls = calls

    def forward(self, x):
        x = self.first(x)
        for _ in range(self.calls):
            x = self.layer(x)
        return x


@pytest.mark.parametrize("calls", [0, 2])
def test_a_layer_without_one_place_is_refused_and_leaves_no_hooks(calls):
    network = Shared(calls).double()
    with pytest.raises(ValueError, match=rf"called once.*: layer \({calls} times\)"):
        layer_equivariance_error(network, numbers(3, 3))
    assert not any(module._forward_hooks for module in network.modules())


def test_hidden_units_of_an_mlp_carry_no_representation(fit_small, bodies):
    wrapped = NormalizedNetwork.fit(network_of(MLP), numbers(9, 8), numbers(9, 4))
    for network in (network_of(MLP), wrapped):
        with pytest.raises(ValueError, match=f"{type(network).__name__} has no layers whose activations carry"):
            layer_equivariance_error(network, numbers(3, 8))
    with pytest.raises(ValueError, match=r"MLP has no layers.*equivariance_error"):
        layer_equivariance_error(fit_small(bodies, MLP), bodies.test.x)


def test_an_mlp_beside_an_equivariant_network_is_one_layer():
    network = ResidualSum(network_of(EMLP, layers=1), network_of(MLP, layers=1))
    own = layer_equivariance_error(network, numbers(4, 8), kind="own")
    assert own.layer.values.tolist()[-1] == "residual"
    assert float(own[:-1].max()) < 1e-12
    assert float(own[-1]) > 0.1
    assert list(symmetric_layers(network))[:-1] == own.layer.values.tolist()[:-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "local"}, r"'cumulative' or 'own', got 'local'"),
        ({"x": torch.zeros(4, 7)}, r"\(4, 7\).*needs \(batch, 8\)"),
        ({"group": O(2)}, r"O\(3\) on R\^3; O\(2\) acts on R\^2"),
        ({"elements": torch.eye(3)}, r"elements must be a number or have shape"),
        ({"f": nn.Linear(8, 4)}, r"layer_equivariance_error needs rep_in and rep_out"),
    ],
    ids=["kind", "width", "other space", "elements", "no rep"],
)
def test_bad_arguments_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        layer_equivariance_error(**({"f": network_of(), "x": numbers(4, 8)} | change))
