"""log_evidence by Laplace, against the exact evidence; and the bias of each approximation."""

import logging

import pytest
import torch

from analysis.evidence import Evidence, ExactEvidence, LaplaceEvidence, log_evidence
from bayes_rpp import (
    EMLP,
    RPPEMLP,
    SO,
    BayesianModel,
    Gaussian,
    LogDensity,
    RPPConv2d,
    RPPLinear,
    RPPPrior,
    Scalar,
    Vector,
)
from inference import MAP
from tests.seeds import shifted

REPS = 3 * Vector + 2 * Scalar, Vector + Scalar
QUICK = MAP(epochs=30, batch_size=None)


def data(count=40):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 11, generator=generator, dtype=torch.float64)
    return x, x[:, 2:6] + 0.3 * torch.randn(count, 4, generator=generator, dtype=torch.float64)


def linear(parametrization="residual"):
    net = RPPEMLP(*REPS, SO(3), layers=0, parametrization=parametrization).double()
    return BayesianModel(net, RPPPrior(dense_variance=0.05), Gaussian(noise_variance=0.1))


@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
def test_of_a_linear_model_it_is_exact(parametrization):
    model = linear(parametrization)
    exact = log_evidence(model, data(), ExactEvidence(), progress=False)
    found = log_evidence(model, data(), LaplaceEvidence("full", QUICK), progress=False)
    assert abs(found.value - exact.value) < 1e-6
    assert found.warnings == ()
    assert found.details["newton_decrement"] < 1e-6


def test_what_is_left_uncoupled_makes_the_evidence_smaller():
    """Fischer's inequality: coarser blocks have larger determinants; the factors of each weight are exact here."""
    exact = log_evidence(linear(), data(), ExactEvidence(), progress=False).value
    names = ("full", "layer", "kronecker", "symmetric", "diagonal")
    found = {name: log_evidence(linear(), data(), LaplaceEvidence(name, QUICK), progress=False) for name in names}
    values = {name: evidence.value for name, evidence in found.items()}
    for name, evidence in found.items():  # what a value lacks is said
        said = [text for text in evidence.warnings if "below 'full'" in text]
        assert len(said) == (values["full"] - values[name] > 1), name
    assert f"curvature='diagonal' is {values['full'] - values['diagonal']:.0f} nats" in found["diagonal"].warnings[0]
    assert abs(values["layer"] - exact) < 1e-6  # of one layer
    assert values["diagonal"] < values["kronecker"] < exact
    assert values["symmetric"] < values["kronecker"]
    assert exact - values["kronecker"] < 1.0  # the coupling of weight and bias
    assert exact - values["diagonal"] > 5.0


@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
def test_kronecker_factors_of_a_linear_layer_without_a_bias_are_exact(parametrization):
    x, y = data()
    reps = (3 * Vector + 2 * Scalar)(SO(3)), (Vector + Scalar)(SO(3))
    image = {"image": (3, 2), "padding": 1, "bias": False, "parametrization": parametrization}
    layers = [
        (RPPLinear(*reps, bias=False, parametrization=parametrization), x, y),
        (RPPConv2d(1, 2, 3, **image), x[:, :6], torch.cat([y, -y, x[:, 6:10]], 1)),
        (RPPConv2d(1, 8, 1, **image | {"image": 2, "group": "p4m", "fields": ("scalar", "regular"), "padding": 0}),
         x[:, :4], torch.cat([y, 2 * y, *6 * [-y]], 1)),
    ]  # fmt: skip
    for layer, inputs, targets in layers:
        model = BayesianModel(layer.double(), RPPPrior(dense_variance=0.05), Gaussian(0.1), targets.shape[1])
        exact = log_evidence(model, (inputs, targets), ExactEvidence(), progress=False).value
        found = log_evidence(model, (inputs, targets), LaplaceEvidence("kronecker", QUICK), progress=False).value
        assert abs(found - exact) < 1e-6


def test_a_log_density_has_its_exact_hessian():
    density = LogDensity(lambda p: -0.5 * (p["z"] ** 2 * torch.tensor([1.0, 4.0])).sum(), {"z": torch.ones(2).double()})
    found = log_evidence(density, None, LaplaceEvidence("full", MAP(epochs=5)), progress=False)
    assert float(found) == pytest.approx(float(torch.tensor(2 * torch.pi / 2).log()), abs=1e-6)
    with pytest.raises(TypeError, match="layers of a network"):
        log_evidence(density, None, LaplaceEvidence("symmetric"), progress=False)


@pytest.mark.statistical
def test_the_evidence_knows_which_network_made_the_data():
    x, _ = data(60)
    torch.manual_seed(shifted())
    net = EMLP(*REPS, SO(3), layers=0).double()
    y = BayesianModel(net, RPPPrior(), Gaussian(0.1)).output(dict(net.named_parameters()), x).detach()
    y = y + 0.3 * torch.randn(y.shape, generator=torch.Generator().manual_seed(shifted(1))).double()
    models = {name: linear() for name in ("broken",)}
    models["kept"] = BayesianModel(net, RPPPrior(), Gaussian(0.1))
    values = {
        name: log_evidence(model, (x, y), LaplaceEvidence("full", QUICK), progress=False)
        for name, model in models.items()
    }
    assert values["kept"].value > values["broken"].value + 3


def test_warnings_are_logged_and_words_are_clear(caplog):
    class Doubtful:
        def estimate(self, model, data, *, seed, device="auto", progress=True):
            return Evidence(-1.0, "doubtful", standard_error=0.25, seconds=2.0, warnings=("do not rely on it.",))

    with caplog.at_level(logging.WARNING):
        found = log_evidence(linear(), data(), Doubtful())
    assert "doubtful: do not rely on it." in caplog.text
    assert str(found) == "-1.00 +- 0.25 nats (doubtful, 2.0 s)"
    with pytest.raises(TypeError, match="method must be an evidence method"):
        log_evidence(linear(), data(), "laplace")
    with pytest.raises(ValueError, match="curvature must be one of 'full'"):
        LaplaceEvidence("kfac")
