"""Kronecker-factored curvature under structured priors, against dense twins."""

import pytest
import torch

from bayes_rpp import EMLP, MLP, RPPEMLP, SO, BayesianModel, Gaussian, O, O2eR3, RPPLinear, RPPPrior, Scalar, Vector
from bayes_rpp.bases.equivariant import equivariant_maps
from bayes_rpp.networks.layers.pathway_sums import linear_map
from inference import Posterior
from inference.curvature import kronecker
from inference.curvature.kronecker import kronecker_blocks
from inference.curvature.layer_statistics import layer_statistics
from inference.density.unconstrained import UnconstrainedDensity
from tests.error_rate import agrees
from tests.seeds import shifted

IN, OUT = 2 * Vector + Scalar, Vector + Scalar


def problem(net, count=24):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 7, generator=generator, dtype=torch.float64)
    y = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    model = BayesianModel(net.double(), RPPPrior(dense_variance=0.1), Gaussian(noise_variance=0.3))
    density = UnconstrainedDensity(model, (x, y))
    return density, density.initial([1])[0]


def linear_layers(network):
    return {name: layer for name, layer in network.named_modules() if linear_map(layer) is not None}


def sizes_out(layers):
    return {name: linear_map(layer).size_out for name, layer in layers.items()}


def averaged(matrix, rep):
    return equivariant_maps(rep, rep).project(matrix.flatten()).reshape(matrix.shape)


def dense_log_determinant(density, z, average):
    """log det(I + Sigma S (x) A) over the weights and biases of RPP layers, by dense matrices."""
    model = density.model
    layers = linear_layers(model.network)
    inputs, gradients = layer_statistics(density, z, sizes_out(layers), None)
    total = 0.0
    for name, layer in layers.items():
        outer, inner = gradients[name].mT @ gradients[name], inputs[name].mT @ inputs[name] / len(inputs[name])
        if average:
            outer, inner = averaged(outer, layer.rep_out), averaged(inner, layer.rep_in)
            runs = [run.size for run in layer.rep_out.runs]
            outer = outer * torch.block_diag(*[torch.ones(size, size) for size in runs])  # no coupling between types
        for kind, curvature, bases in (
            ("", torch.kron(outer, inner), layer.bases),
            ("bias_", outer, layer.bias_bases),
        ):
            priors = model.prior_distributions
            covariance = priors[f"{name}.{kind}dense"].dense_variance * torch.eye(len(curvature)).double()
            for level, basis in enumerate(bases):
                beta = f"{name}.{kind}beta" + (f"_{level}" if len(bases) > 1 else "")
                if basis.rank:
                    covariance = covariance + basis.dense() * priors[beta].variance @ basis.dense().mT
            total += torch.logdet(torch.eye(len(curvature)).double() + covariance @ curvature)
    return total


def of_layers(density, z, kind):
    return sum(
        block.log_determinant(density.model.prior_distributions)
        for block in kronecker_blocks(density, z, kind)
        if not any(name.endswith(("swish", "bilinear.weight", "bilinear.combinations")) for name in block.names)
    )


@pytest.mark.parametrize("group", [SO(3), [O(3), O2eR3()]])
@pytest.mark.parametrize("kind", ["kronecker", "symmetric"])
def test_determinants_are_those_of_dense_matrices(kind, group):
    density, z = problem(RPPEMLP(IN, OUT, group, channels=8, layers=1))
    dense = dense_log_determinant(density, z, average=kind == "symmetric")
    assert abs(float(of_layers(density, z, kind) - dense)) < 1e-8


@pytest.mark.parametrize("kind", ["kronecker", "symmetric"])
def test_both_parametrizations_agree(kind):
    density, z = problem(RPPEMLP(IN, OUT, SO(3), channels=8, layers=1))
    draw = {name: value[None, None] for name, value in density.params(z).items()}
    same = Posterior(density.model, draw, data=density.pair).in_parametrization("collapsed")
    other = UnconstrainedDensity(same.bayesian_model, density.pair)
    values = [float(of_layers(density, z, kind)), float(of_layers(other, other.latest(same, 1)[0], kind))]
    assert abs(values[0] - values[1]) < 1e-8


@pytest.mark.parametrize("kind", ["kronecker", "symmetric"])
@pytest.mark.parametrize("network", [RPPEMLP, EMLP, MLP])
def test_every_parameter_is_in_one_block(kind, network):
    density, z = problem(network(IN, OUT, SO(3), channels=8, layers=1))
    names = [name for block in kronecker_blocks(density, z, kind) for name in block.names]
    assert sorted(names) == sorted(density.shapes)


@pytest.mark.statistical
def test_the_average_over_the_group_is_that_of_transformed_data():
    """S and A of the data in all orientations, of an equivariant network: those of one layer, averaged."""
    density, _ = problem(EMLP(IN, OUT, SO(3), channels=8, layers=0))
    (layer,) = linear_layers(density.model.network).values()
    x, _ = density.pair
    group = SO(3)
    elements = group.sample(4_000, seed=shifted()).double()
    rotated = layer.rep_in.apply(elements[:, None], x)
    expected = averaged(x.mT @ x / len(x), layer.rep_in)
    found = (rotated.mT @ rotated / len(x)).flatten(1)
    moved = found.std(0) > 1e-12  # the products of invariants are the same for every element
    assert agrees(found[:, moved], expected.flatten()[moved])
    assert torch.allclose(found.mean(0)[~moved], expected.flatten()[~moved])


@pytest.mark.statistical
def test_estimated_statistics_are_right_on_average():
    density, z = problem(RPPEMLP(IN, OUT, SO(3), channels=8, layers=1))
    layers = linear_layers(density.model.network)
    exact = {name: g.mT @ g for name, g in layer_statistics(density, z, sizes_out(layers), None)[1].items()}
    generator, runs = torch.Generator().manual_seed(shifted()), 400
    estimates = [layer_statistics(density, z, sizes_out(layers), generator)[1] for _ in range(runs)]
    for name, wanted in exact.items():
        found = torch.stack([one[name].mT @ one[name] for one in estimates])
        inside = found.std(0) > 1e-11
        assert inside.any()
        assert agrees(found[:, inside], wanted[inside])


def test_shares_of_large_bases_are_estimated(monkeypatch):
    density, z = problem(RPPEMLP(IN, OUT, SO(3), channels=24, layers=1, bilinear=False))
    exact = of_layers(density, z, "symmetric")
    monkeypatch.setattr(kronecker, "_EXACT_SHARES", 1_000)
    estimated = of_layers(density, z, "symmetric")
    assert float(exact) != float(estimated)
    assert abs(float(estimated / exact) - 1) < 0.02


def test_pathways_of_a_user_have_no_group_to_average_over():
    basis = equivariant_maps(Vector(SO(3)), Vector(SO(3)))
    net = RPPLinear(Vector(SO(3)), Vector(SO(3)), pathways=[basis]).double()
    model = BayesianModel(net, RPPPrior(), Gaussian(noise_variance=0.3))
    density = UnconstrainedDensity(model, (torch.randn(5, 3).double(), torch.randn(5, 3).double()))
    with pytest.raises(ValueError, match="Use curvature='kronecker'"):
        kronecker_blocks(density, density.initial([0])[0], "symmetric")
