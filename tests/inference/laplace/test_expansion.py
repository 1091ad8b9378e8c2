"""The Laplace evidence against closed forms, dense twins and finite differences."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from bayes_rpp import (
    EMLP,
    MLP,
    RPPEMLP,
    SO,
    BayesianModel,
    Gaussian,
    LogDensity,
    O,
    O2eR3,
    PathwayNormal,
    RPPLinear,
    RPPPrior,
    Scalar,
    Vector,
)
from inference import MAP, Laplace
from inference.density.unconstrained import UnconstrainedDensity
from inference.laplace.expansion import Expansion

CURVATURES = ("full", "layer", "kronecker", "symmetric", "diagonal")
REPS = (2 * Vector + Scalar)(SO(3)), (Vector + Scalar)(SO(3))


def examples(size_in, size_out, count=24, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, size_in, generator=generator, dtype=torch.float64)
    return x, x[:, :1] * torch.randn(count, size_out, generator=generator, dtype=torch.float64)


def linear_model(prior, parametrization="residual", group=None):
    layer = RPPLinear(*REPS, bias=False, parametrization=parametrization, group=group).double()
    return BayesianModel(layer, prior, Gaussian(noise_variance=0.3))


def at_mode(model, data, curvature):
    """The expansion at the exact mode, found by full Newton steps."""
    posterior = Laplace("full", draws=1, mode=MAP(epochs=20)).fit(model, data, seed=0, progress=False)
    density = UnconstrainedDensity(model, data)
    return Expansion.at(density, posterior.approximation.mean, curvature)


def exact(model, data):
    """log N(vec y; 0, cov), the covariance of the outputs by the covariance of W."""
    x, y = data
    law = RPPPrior.distributions(model.prior, RPPLinear(*REPS, bias=False, parametrization="collapsed").double())[
        "weight"
    ]
    size = y.shape[1] * x.shape[1]
    eye = torch.eye(size, dtype=torch.float64).reshape(size, y.shape[1], x.shape[1])
    covariance = torch.linalg.inv(law.precision_times(eye).reshape(size, size))
    features = torch.einsum("bn,om->bomn", x, torch.eye(y.shape[1], dtype=torch.float64)).flatten(0, 1).flatten(1)
    total = features @ covariance @ features.mT + 0.3 * torch.eye(y.numel(), dtype=torch.float64)
    return float(MultivariateNormal(torch.zeros_like(y).flatten(), total).log_prob(y.flatten()))


@pytest.mark.parametrize("ratio", [1.0, 1e4, 1e7])
@pytest.mark.parametrize("curvature", ["full", "layer", "kronecker"])
def test_linear_models_are_exact_in_both_parametrizations(curvature, ratio):
    data = examples(REPS[0].size, REPS[1].size)
    prior = RPPPrior(equivariant_variance=2.0, dense_variance=2.0 / ratio, scaling="none")
    found = [
        float(at_mode(model, data, curvature).log_evidence())
        for model in (linear_model(prior, "residual"), linear_model(prior, "collapsed"))
    ]
    assert abs(found[0] - found[1]) <= 1e-8
    assert abs(found[0] - exact(linear_model(prior), data)) <= 1e-6


def test_a_vanishing_dense_variance_gives_the_evidence_of_the_equivariant_network():
    data = examples(REPS[0].size, REPS[1].size)
    settings = {"equivariant_variance": 2.0, "scaling": "none"}
    strict = BayesianModel(EMLP(*REPS, SO(3), layers=0).double(), RPPPrior(**settings), Gaussian(noise_variance=0.3))
    residual = BayesianModel(
        RPPEMLP(*REPS, SO(3), layers=0).double(),
        RPPPrior(dense_variance=1e-10, **settings),
        Gaussian(noise_variance=0.3),
    )
    values = [float(at_mode(model, data, "full").log_evidence()) for model in (strict, residual)]
    assert abs(values[0] - values[1]) < 1e-5


@pytest.mark.parametrize("network", [RPPEMLP, EMLP, MLP])
@pytest.mark.parametrize("curvature", ["full", "layer", "diagonal"])
def test_at_a_mode_it_is_the_evidence_of_the_laplace_posterior(network, curvature):
    data = examples(REPS[0].size, REPS[1].size)
    net = network(*REPS, SO(3), channels=8, layers=1).double()
    model = BayesianModel(net, RPPPrior(dense_variance=0.1), Gaussian(noise_variance=0.3, learned=True))
    fitted = Laplace(curvature, draws=1, mode=MAP(epochs=300, batch_size=None)).fit(model, data, seed=0, progress=False)
    gaussian = fitted.approximation
    wanted = fitted.mode_log_joint + gaussian.dimension / 2 * math.log(2 * math.pi) - gaussian.log_determinant / 2
    found = Expansion.at(UnconstrainedDensity(model, data), gaussian.mean, curvature).log_evidence()
    assert abs(float(found - wanted)) < 1e-8


def dense_kronecker(model, data, z):
    """log det(I + Sigma K) by dense matrices: S (x) A for weights, S for biases, diagonals for the rest."""
    expansion = Expansion.at(UnconstrainedDensity(model, data), z, "kronecker")
    total = 0.0
    for block in expansion.blocks:
        priors = model.prior_distributions
        size = len(block.eigenvalues)
        covariance = torch.zeros(size, size, dtype=torch.float64)
        if block.whole is not None:
            covariance += priors[block.whole].dense_variances.expand(size).diag()
        for name, rows in block.structured.items():
            covariance += rows.mT * priors[name].dense_variances @ rows
        total += torch.logdet(torch.eye(size, dtype=torch.float64) + covariance @ torch.diag(block.eigenvalues))
    return total, expansion


@pytest.mark.parametrize("network", [RPPEMLP, EMLP, MLP])
def test_kronecker_determinants_are_those_of_dense_matrices(network):
    data = examples(REPS[0].size, REPS[1].size)
    model = BayesianModel(
        network(*REPS, SO(3), channels=8, layers=1).double(), RPPPrior(dense_variance=0.1), Gaussian(noise_variance=0.3)
    )
    density = UnconstrainedDensity(model, data)
    dense, expansion = dense_kronecker(model, data, density.initial([1])[0])
    found = expansion._log_determinant(model.prior_distributions, torch.ones((), dtype=torch.float64))
    assert abs(float(found - dense)) < 1e-8
    names = {name for block in expansion.blocks for name in block.names}
    assert names == set(model.prior_distributions)


def test_kronecker_factors_bound_the_exact_blocks_where_examples_agree():
    """With one example K is a Kronecker product, so each weight's block is exact."""
    data = tuple(part[:1] for part in examples(REPS[0].size, REPS[1].size))
    net = RPPEMLP(*REPS, SO(3), channels=8, layers=1, bilinear=False, parametrization="collapsed").double()
    model = BayesianModel(net, RPPPrior(dense_variance=0.1), Gaussian(noise_variance=0.3))
    density = UnconstrainedDensity(model, data)
    z = density.initial([1])[0]
    full = Expansion.at(density, z, "full")
    places = density.unpack(torch.arange(density.size))
    for block in Expansion.at(density, z, "kronecker").blocks:
        if block.whole is not None and block.whole.endswith(("weight", "bias")):
            place = places[block.whole].flatten()
            values = torch.linalg.eigvalsh(full.matrices[0][place][:, place])
            assert torch.allclose(values.clamp_min(0), block.eigenvalues.sort().values, atol=1e-9)


@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
def test_gradients_in_log_variances_and_noise_are_those_of_finite_differences(curvature, parametrization):
    data = examples(REPS[0].size, REPS[1].size)
    net = RPPEMLP(
        2 * Vector + Scalar, Vector + Scalar, [O(3), O2eR3()], channels=8, layers=1, parametrization=parametrization
    ).double()
    model = BayesianModel(net, RPPPrior(pathway_variances=[2.0, 0.5], dense_variance=0.1), Gaussian(noise_variance=0.3))
    density = UnconstrainedDensity(model, data)
    expansion = Expansion.at(density, density.initial([1])[0], curvature)
    given = model.prior_distributions

    def evidence(logs):
        scale = logs.exp()
        priors = {
            name: PathwayNormal(
                law.event_shape,
                law.dense_variance * (scale[0] if "beta" in name else scale[1]),
                law.bases,
                [variance * scale[0] for variance in law.pathway_variances],
            )
            for name, law in given.items()
        }
        return expansion.log_evidence(priors, noise_variance=0.3 * scale[2])

    logs = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(evidence(logs), logs)
    step = 1e-4 * torch.eye(3, dtype=torch.float64)
    differences = torch.stack([(evidence(logs + h) - evidence(logs - h)) / 2e-4 for h in step])
    assert torch.allclose(slope, differences.detach(), rtol=1e-5, atol=1e-5)


def test_the_noise_may_be_replaced_as_if_it_had_been_known():
    data = examples(REPS[0].size, REPS[1].size)
    net = RPPEMLP(*REPS, SO(3), channels=8, layers=1).double()
    models = [BayesianModel(net, RPPPrior(), Gaussian(noise_variance=noise)) for noise in (0.3, 0.8)]
    for curvature in CURVATURES:
        first, second = (
            Expansion.at(density, density.initial([1])[0], curvature)
            for density in (UnconstrainedDensity(m, data) for m in models)
        )
        replaced = first.log_evidence(noise_variance=torch.tensor(0.8, dtype=torch.float64))
        assert abs(float(replaced - second.log_evidence())) < 1e-8


def test_what_cannot_be_expanded_is_refused():
    data = examples(REPS[0].size, REPS[1].size)
    model = linear_model(RPPPrior())
    density = UnconstrainedDensity(model, data)
    z = density.initial([0])[0]
    with pytest.raises(ValueError, match="curvature must be one of 'full'"):
        Expansion.at(density, z, "kfac")
    with pytest.raises(TypeError, match="LogDensity"):
        Expansion.at(
            UnconstrainedDensity(LogDensity(lambda p: -p["z"].square().sum(), {"z": torch.zeros(2)}), None), z, "full"
        )
    learned = BayesianModel(model.network, RPPPrior(), Gaussian(noise_variance=0.3, learned=True))
    expansion = Expansion.at(
        UnconstrainedDensity(learned, data), UnconstrainedDensity(learned, data).initial([0])[0], "full"
    )
    with pytest.raises(ValueError, match="noise_variance can replace one known number"):
        expansion.log_evidence(noise_variance=torch.tensor(0.8))


class Twice(torch.nn.Module):
    """A network that applies one layer two times."""

    def __init__(self):
        super().__init__()
        self.layer = RPPLinear(Vector(SO(3)), Vector(SO(3)))
        self.rep_in = self.rep_out = Vector(SO(3))

    def forward(self, x):
        return self.layer(self.layer(x))


def test_a_layer_that_is_applied_twice_has_no_kronecker_factors():
    model = BayesianModel(Twice().double(), RPPPrior(), Gaussian(noise_variance=0.3))
    density = UnconstrainedDensity(model, examples(3, 3))
    with pytest.raises(ValueError, match="applied more than once"):
        Expansion.at(density, density.initial([0])[0], "kronecker")
    assert Expansion.at(density, density.initial([0])[0], "layer").log_evidence().isfinite()
