"""Diagnostics, parametrizations, curvature and metrics on layers that are not this package's own."""

import math

import pytest
import torch
from torch import nn

from analysis import layer_equivariance_error, log_evidence, pathway_shares
from analysis.evidence.laplace import LaplaceEvidence
from bayes_rpp import SO, BayesianModel, Gaussian, RPPLinear, RPPPrior, Scalar, Vector, equivariant_maps
from bayes_rpp.networks.layers.pathway_sums import LinearMap, PathwaySum, linear_map
from bayes_rpp.networks.layers.roles import ParameterRole, StructuredPathway
from inference import HMC, MAP, DeepEnsemble
from inference.density.unconstrained import UnconstrainedDensity
from inference.metrics.build_metric import build_metric

REP = (2 * Scalar + Vector)(SO(3))
BASIS = equivariant_maps(REP, REP)


class OwnLayer(nn.Module):
    """y = W x with W = Q beta + B, written by someone else; no bias, and parameters of other names."""

    pathway_names = ("mine",)
    rep_in = rep_out = REP

    def __init__(self):
        super().__init__()
        self.sums = [PathwaySum("whole", "rest", {"coordinates": BASIS})]
        self.hold("residual")
        self.reset_parameters()

    def hold(self, parametrization):
        self._parameters.clear()
        self.parametrization = parametrization
        names = {"coordinates": (BASIS.rank,), "rest": (5, 5)} if parametrization == "residual" else {"whole": (5, 5)}
        for name, shape in names.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))

    def reset_parameters(self):
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3)

    def forward(self, x):
        if self.parametrization == "collapsed":
            return x @ self.whole.mT
        return x @ (BASIS.expand(self.coordinates).reshape(5, 5) + self.rest).mT

    def linear_map(self):
        return LinearMap(5, self.sums, REP, REP, has_equivariant_pathways=True)

    def roles(self):
        if self.parametrization == "collapsed":
            return {"whole": ParameterRole("collapsed", 5.0, 5.0, structured=(StructuredPathway(BASIS, 1.0, 1.0),))}
        return {"coordinates": ParameterRole("equivariant", 1.0, 1.0), "rest": ParameterRole("dense", 5.0, 5.0)}


class OursInItsPlace(RPPLinear):
    """The package's own layer with the same prior."""

    def __init__(self):
        super().__init__(REP, REP, bias=False)

    def roles(self):
        own = {"beta": ParameterRole("equivariant", 1.0, 1.0), "dense": ParameterRole("dense", 5.0, 5.0)}
        whole = {"weight": ParameterRole("collapsed", 5.0, 5.0, structured=(StructuredPathway(BASIS, 1.0, 1.0),))}
        return own if self.parametrization == "residual" else whole


class Net(nn.Module):
    rep_in = rep_out = REP
    group = SO(3)

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def data(count=40):
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(count, 5, generator=generator, dtype=torch.float64) for _ in range(2))


def model_of(*layers, noise=0.3):
    return BayesianModel(Net(*layers).double(), RPPPrior(2.0, 0.1), Gaussian(noise_variance=noise))


# Where the data say little, the search for a mode, which comes before a refusal, is short.
NOISY = 10.0


def test_a_layer_of_ones_own_is_treated_as_the_packages_own_is(subtests):
    own, ours = model_of(OwnLayer()), model_of(OursInItsPlace())
    for curvature in ("kronecker", "symmetric", "layer", "full", "diagonal"):
        with subtests.test(msg=curvature):
            method = LaplaceEvidence(curvature, mode=MAP(epochs=20, lr=0.05))
            found = [log_evidence(model, data(), method, seed=0, progress=False).value for model in (own, ours)]
            assert found[0] == pytest.approx(found[1], abs=1e-6)
    with subtests.test(msg="metric"):
        densities = [UnconstrainedDensity(model, data()) for model in (own, ours)]
        z = torch.randn(2, densities[0].size, generator=torch.Generator().manual_seed(1)).double()
        metrics = [build_metric("pathway", density, z) for density in densities]
        units = torch.eye(z.shape[1]).double()
        torch.testing.assert_close(metrics[0].color(units), metrics[1].color(units))


def test_its_shares_and_layer_errors_and_parametrizations(subtests):
    posterior = DeepEnsemble(members=2, epochs=5).fit(model_of(OwnLayer()), data(), seed=0, progress=False)
    shares = pathway_shares(posterior)
    assert shares.pathway.values.tolist() == ["mine", "dense"]
    weight = BASIS.expand(posterior.samples["layers.0.coordinates"]) + posterior.samples["layers.0.rest"].flatten(2)
    expected = BASIS.coordinates(weight).square().sum(-1) / weight.square().sum(-1)
    torch.testing.assert_close(torch.from_numpy(shares.sel(pathway="mine").values[..., 0]), expected)
    assert layer_equivariance_error(posterior, data()[0], kind="own").layer.values.tolist() == ["layers.0"]
    whole = posterior.in_parametrization("collapsed")
    assert set(whole.samples) == {"layers.0.whole"}
    x = data()[0]
    torch.testing.assert_close(whole.predict(x).mean, posterior.predict(x).mean)
    sampled = HMC(chains=1, draws=3, warmup=3, parametrization="collapsed").fit(
        posterior.bayesian_model, data(), seed=0, progress=False
    )
    assert set(sampled.samples) == {"layers.0.coordinates", "layers.0.rest"}


class Doubled(nn.Linear):
    """A subclass of nn.Linear that is not y = W x + b."""

    def forward(self, x):
        return super().forward(x) ** 2


def test_layers_that_factors_cannot_treat_are_refused_by_name(subtests):
    cases = {
        "layers.1": (nn.Linear(5, 5), nn.LayerNorm(5)),
        "layers.0": (Doubled(5, 5), nn.Linear(5, 5)),
        "layers.2": (nn.Linear(5, 5), nn.Unflatten(1, (1, 5)), nn.Conv1d(1, 1, 3, padding=1), nn.Flatten()),
    }
    for name, layers in cases.items():
        for curvature in ("kronecker", "symmetric"):
            kind = type(Net(*layers).get_submodule(name)).__name__
            method = LaplaceEvidence(curvature, mode=MAP(epochs=2))
            message = rf"no factors for the layer '{name}' \({kind}\).*'layer', 'full' or 'diagonal'"
            with subtests.test(msg=f"{kind}, {curvature}"), pytest.raises(ValueError, match=message):
                log_evidence(model_of(*layers, noise=NOISY), data(), method, seed=0, progress=False)
        method = LaplaceEvidence("layer", mode=MAP(epochs=2))
        assert math.isfinite(log_evidence(model_of(*layers, noise=NOISY), data(), method, seed=0, progress=False).value)
    assert linear_map(Doubled(5, 5)) is None
    assert linear_map(nn.Linear(5, 4)).size_out == 4


def test_a_layer_that_is_called_twice_is_refused_with_what_to_use_instead():
    layer = OwnLayer()
    model = model_of(layer, layer, noise=NOISY)
    method = LaplaceEvidence("kronecker", mode=MAP(epochs=2))
    with pytest.raises(ValueError, match=r"'layers\.0' is applied more than once; use curvature='layer' or 'diagonal'"):
        log_evidence(model, data(), method, seed=0, progress=False)
    with pytest.raises(ValueError, match=r"layers\.0 \(2 times\)\. equivariance_error measures the network as a whole"):
        layer_equivariance_error(model.network, data()[0])


class Shared(nn.Module):
    """Uses the weights of ``first`` in other ways, too."""

    rep_in = rep_out = REP

    def __init__(self, kind):
        super().__init__()
        self.kind, self.first, self.last = kind, nn.Linear(5, 5, bias=False), nn.Linear(5, 5)
        if kind == "tied":
            self.second = nn.Linear(5, 5, bias=False)
            self.second.weight = self.first.weight

    def forward(self, x):
        if self.kind == "tied":
            return self.last(torch.tanh(self.second(torch.tanh(self.first(x)))))
        if self.kind == "transposed":
            return self.last(torch.tanh(self.first(x)) @ self.first.weight)
        return self.last(torch.tanh(x @ self.first.weight.mT) if self.kind == "by hand" else torch.tanh(x))


class NotLinear(OwnLayer):
    """Says that it is y = W x, and is not."""

    def forward(self, x):
        return torch.tanh(super().forward(x))


def test_layers_whose_weights_do_more_than_they_say_are_refused_by_name(subtests):
    never, otherwise = r"layer 'first' is never applied", r"'first\.weight' acts .* otherwise than by the layer 'first'"
    cases = {"tied": otherwise, "transposed": otherwise, "by hand": never, "unused": never}
    networks = {kind: (Shared(kind), message) for kind, message in cases.items()}
    networks["own"] = (Net(NotLinear()), r"'layers\.0\.coordinates' acts .* the layer is not y = W x \+ b")
    for kind, (network, message) in networks.items():
        model = BayesianModel(network.double(), RPPPrior(), Gaussian(noise_variance=1.0))
        for curvature in ("kronecker", "symmetric"):
            method = LaplaceEvidence(curvature, mode=MAP(epochs=2))
            with subtests.test(msg=f"{kind}, {curvature}"), pytest.raises(ValueError, match=message):
                log_evidence(model, data(), method, seed=0, progress=False)


class Apart(OwnLayer):
    """Holds its dense part first, and a parameter of another kind between the two."""

    def hold(self, parametrization):
        super().hold(parametrization)
        held = dict(self._parameters)
        self._parameters.clear()
        for name, parameter in [*reversed(held.items())]:
            self.register_parameter(name, parameter)
            if "gain" not in self._parameters:
                self.register_parameter("gain", nn.Parameter(torch.ones(5)))

    def forward(self, x):
        return super().forward(x) * self.gain

    def linear_map(self):
        return None

    def roles(self):
        return super().roles() | {"gain": ParameterRole("dense", 1.0, 1.0)}


def test_the_metric_of_a_layer_that_holds_its_pathways_apart_is_that_of_one_that_does_not():
    class Beside(Apart):
        """The same in the usual order."""

        def hold(self, parametrization):
            OwnLayer.hold(self, parametrization)
            self.gain = nn.Parameter(torch.ones(5))

    densities = [UnconstrainedDensity(model_of(layer), data()) for layer in (Apart(), Beside())]
    assert list(densities[0].shapes) == ["layers.0.rest", "layers.0.gain", "layers.0.coordinates"]
    beside, apart = densities[1], densities[0]
    z = torch.randn(2, beside.size, generator=torch.Generator().manual_seed(1)).double()

    def moved(v):
        return apart.pack(beside.unpack(v))

    metrics = [build_metric("pathway", apart, moved(z)), build_metric("pathway", beside, z)]
    vectors = torch.randn(3, beside.size, generator=torch.Generator().manual_seed(2)).double()
    for name in ("color", "pull", "whiten"):
        here, there = (getattr(metric, name) for metric in metrics)
        torch.testing.assert_close(here(moved(vectors)), moved(there(vectors)))
