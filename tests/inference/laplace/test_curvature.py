"""The curvature of nonlinear networks is the one that dense algebra gives."""

import dataclasses

import pytest
import torch

from bayes_rpp import RPPEMLP, SO, BayesianModel, Categorical, Gaussian, RPPPrior, Scalar, Vector
from inference import MAP, Laplace
from inference.curvature.block_structure import Structure, spans_of
from inference.density.unconstrained import UnconstrainedDensity

SHORT = MAP(epochs=20)


@pytest.fixture(scope="module")
def small():
    """A nonlinear RPPEMLP in float64 with data, for a likelihood."""

    def make(likelihood, parametrization="residual"):
        torch.manual_seed(3)
        outputs = 3 * Scalar if isinstance(likelihood, Categorical) else Vector
        net = RPPEMLP(Vector + Scalar, outputs, SO(3), channels=6, layers=1, parametrization=parametrization).double()
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(20, 4, generator=generator, dtype=torch.float64)
        if isinstance(likelihood, Categorical):
            y = torch.randint(3, (20,), generator=generator)
        else:
            y = x[:, :3] * x[:, 3:] + 0.3 * torch.randn(20, 3, generator=generator, dtype=torch.float64)
        return BayesianModel(net, RPPPrior(1.0, 0.1), likelihood), (x, y)

    return make


def brute_force(model, x, y, mode, temperature=1.0):
    """H from dense Jacobians, closed-form likelihood curvature, and inverted dense prior covariances."""
    own = model.likelihood.constraints()
    names = list(mode)
    jacobians = torch.func.jacrev(lambda p: model.output(p, x))(mode)
    outputs = model.output(mode, x)
    flat = [
        torch.zeros(*y.shape[:1], outputs.shape[1], mode[n].numel()).double()
        if n in own
        else jacobians[n].reshape(len(x), -1, mode[n].numel())
        for n in names
    ]
    jacobian = torch.cat(flat, dim=2)
    if isinstance(model.likelihood, Categorical):
        p = outputs.softmax(-1)
        bend = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    else:
        bend = (torch.eye(3).double() / model.likelihood.noise(mode, x)).expand(len(x), 3, 3)
    total = torch.einsum("noi,nop,npj->ij", jacobian, bend, jacobian)
    blocks = []
    for name in names:
        if name in own:
            residual = (y - outputs).square().sum()
            floor = model.likelihood.floor
            u = (mode[name] - floor).log().detach().requires_grad_()
            v = floor + u.exp()
            normal = (u - model.prior_distributions[name].base_dist.loc).square() / 8  # the Jacobian cancels
            slope = torch.autograd.grad(0.5 * y.numel() * v.log() + 0.5 * residual / v + normal, u, create_graph=True)[
                0
            ]
            blocks.append(torch.autograd.grad(slope, u)[0].reshape(1, 1))
            continue
        law = model.prior_distributions[name]
        covariance = law.dense_variances.double().expand(law.numel).diag()
        for basis, variance in zip(law.bases, law.coordinate_variances, strict=True):
            covariance = covariance + basis.dense() * variance @ basis.dense().mT
        blocks.append(torch.linalg.inv(covariance))
    return (total + torch.block_diag(*blocks)) / temperature


LIKELIHOODS = [Gaussian(0.1), Categorical(), Gaussian(0.1, learned=True)]


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=["gaussian", "categorical", "learned noise"])
@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
def test_blocks_of_every_structure_are_those_of_the_dense_matrix(small, likelihood, parametrization):
    model, data = small(likelihood, parametrization)
    start = MAP(epochs=400, lr=1e-2).fit(model, data, seed=0)
    full = Laplace(draws=2, temperature=2.0).fit(model, data, seed=0, start=start)
    dense = brute_force(model, *data, {n: v.clone() for n, v in full.mode.items()}, temperature=2.0)
    torch.testing.assert_close(full.precision.total[0], dense, rtol=1e-9, atol=1e-9 * float(dense.abs().max()))
    torch.testing.assert_close(full.approximation.log_determinant, torch.logdet(dense), rtol=1e-10, atol=0)
    assert full.stats["newton_decrement"] < 1e-7

    at_mode = dataclasses.replace(start, samples={name: value[None, None] for name, value in full.mode.items()})
    spans = spans_of(full.density)
    for curvature in ("layer", "diagonal", "last_layer"):
        other = Laplace(curvature, draws=2, temperature=2.0).fit(model, data, seed=0, start=at_mode)
        assert other.stats["steps"] <= 1
        torch.testing.assert_close(other.approximation.mean, full.approximation.mean, rtol=0, atol=1e-6)
        for names, place, block in zip(
            other.structure.names, other.structure.spans, other.precision.total, strict=True
        ):
            assert (place.start, place.stop) == (spans[names[0]].start, spans[names[-1]].stop)
            expected = dense[place, place]
            expected = expected.diagonal() if curvature == "diagonal" else expected
            torch.testing.assert_close(block, expected, rtol=1e-6, atol=1e-6 * float(dense.abs().max()))
    last = [name for name in model.prior_distributions if name.startswith("network.1.")]
    assert list(other.structure.names) == [tuple(last)]
    fixed = torch.ones(full.approximation.size, dtype=torch.bool)
    fixed[other.structure.spans[0]] = False
    assert (other.approximation.variances()[fixed] == 0).all()
    assert (other.approximation.variances()[~fixed] > 0).all()


def test_layers_keep_both_pathways_together_and_noise_apart(small):
    model, data = small(Gaussian(0.1, learned=True))
    names = Structure.of(UnconstrainedDensity(model, data), "layer").names
    assert names[-2:] == (("network.1.beta", "network.1.dense", "network.1.bias_dense"), ("noise_variance",))
    assert [name for group in names for name in group] == list(model.prior_distributions)


def test_noise_block_is_half_the_number_of_outputs(make_linear_problem):
    """At the mode of log v with v far from its floor, N D / 2 of the data and 1/4 of the prior."""
    model, data = make_linear_problem(likelihood=Gaussian(0.3, learned=True), num_data=2000)
    posterior = Laplace(mode=MAP(epochs=200, lr=1e-2), draws=2).fit(model, data, seed=0)
    noise = posterior.precision.total[0][-1, -1]
    assert posterior.stats["newton_decrement"] < 1e-7
    assert float(noise) == pytest.approx(2000 * 3 / 2, rel=2e-3)
    assert float(posterior.mode["noise_variance"]) == pytest.approx(0.09, rel=0.1)


def test_same_seed_same_bits_and_the_network_is_left_alone(small):
    model, data = small(Gaussian(0.1, learned=True))
    before = {name: value.detach().clone() for name, value in model.network.named_parameters()}
    model.network.float()
    network, engine = model.network, Laplace("last_layer", mode=SHORT, draws=3)
    first, again, other = (engine.fit(model, data, seed=seed).samples for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["network.1.dense"], other["network.1.dense"])
    assert model.network is network
    assert all(value.dtype == torch.float32 for value in first.values())
    for name, value in network.named_parameters():
        assert value.dtype == torch.float32
        assert value.grad is None
        assert torch.equal(value, before[name].float())
