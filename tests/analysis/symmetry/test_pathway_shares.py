"""Pathway shares of chains and of pathways that overlap; those of one group are tested with the equivariance error."""

import numpy as np
import pytest
import torch
from torch import nn

from analysis import equivariance_error, pathway_shares
from bayes_rpp import (
    O13,
    RPPEMLP,
    SO13,
    BayesianModel,
    Gaussian,
    Group,
    O,
    O2eR3,
    RPPLinear,
    RPPPrior,
    Scalar,
    SO2eR3,
    SO13p,
    T,
    Trivial,
    Vector,
    banded_maps,
    equivariant_maps,
    low_frequency_maps,
    restrict,
)
from bayes_rpp.datasets import inertia
from inference import MAP, Posterior
from tests.seeds import shifted

CHAINS = {
    "rotations": (2 * Vector, Vector + T(2), [O(3), O2eR3(), SO2eR3()]),
    "Lorentz": (Vector + Vector.dual, Vector + Scalar, [O13(), SO13(), SO13p()]),
    "down to nothing": (Vector, Vector, [O(3), Trivial(3)]),
}
chains = pytest.mark.parametrize("case", CHAINS)


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(shifted(seed)), dtype=torch.float64)


def posterior_of(network, samples):
    return Posterior(BayesianModel(network, RPPPrior(), Gaussian(0.2)), samples)


def chain_network(case, parametrization):
    return RPPEMLP(*CHAINS[case], layers=0, parametrization=parametrization).double()


def norms_of_projections(groups, rep_in, rep_out, weight):
    """Cumulative square norms of the projections on the maps of every group, by their dense bases."""
    flat, result = weight.flatten(2), []
    for group in groups:
        rep_in, rep_out = restrict(rep_in, group), restrict(rep_out, group)
        q = equivariant_maps(rep_in, rep_out).dense()
        result.append((flat @ q @ q.mT).square().sum(-1))
    return torch.stack([*result, flat.square().sum(-1)], dim=-1)


@chains
def test_shares_of_a_chain_are_differences_of_projections(case):
    groups, network = CHAINS[case][2], chain_network(case, "collapsed")
    layer = network.network[0]
    weight = numbers(2, 3, *layer.weight.shape)
    shares = pathway_shares(posterior_of(network, {"network.0.weight": weight}))
    assert shares.pathway.values.tolist() == [*map(str, groups), "dense"]
    norms = norms_of_projections(groups, layer.rep_in, layer.rep_out, weight)
    expected = norms.diff(dim=-1, prepend=torch.zeros_like(norms[..., :1])) / norms[..., -1:]
    np.testing.assert_allclose(shares.sel(layer="network.0").values, expected, atol=1e-10)
    np.testing.assert_allclose(shares.sum("pathway"), 1.0, rtol=1e-10)


@chains
def test_the_parametrization_and_the_split_between_pathways_make_no_difference(case):
    collapsed, residual = chain_network(case, "collapsed"), chain_network(case, "residual")
    layer = residual.network[0]
    weight, samples, left = numbers(2, 2, *layer.dense.shape), {}, 0
    for k, basis in enumerate(layer.bases):
        if basis.rank:
            beta = numbers(2, 2, basis.rank, seed=k)
            samples[f"network.0.beta_{k}"] = beta
            left = left + basis.expand(beta)
    samples["network.0.dense"] = weight - torch.as_tensor(left).reshape(weight.shape)
    expected = pathway_shares(posterior_of(collapsed, {"network.0.weight": weight}))
    np.testing.assert_allclose(pathway_shares(posterior_of(residual, samples)), expected, atol=1e-10)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_weight_of_one_pathway_has_all_of_its_share_there(level):
    network = chain_network("rotations", "collapsed")
    layer = network.network[0]
    weight = layer.bases[level].expand(numbers(1, 1, layer.bases[level].rank)).reshape(1, 1, *layer.weight.shape)
    shares = pathway_shares(posterior_of(network, {"network.0.weight": weight})).values[0, 0, 0]
    np.testing.assert_allclose(shares, np.eye(4)[level], atol=1e-12)


class Wrapped(nn.Module):
    """A layer with pathways of a user, as a network."""

    def __init__(self, *layers):
        super().__init__()
        self.rep_in, self.rep_out, self.group = layers[0].rep_in, layers[-1].rep_out, O(2)
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)


REP = (2 * Vector)(O(2))
OVERLAPPING = [equivariant_maps(REP, REP), banded_maps(4, 4, 1), low_frequency_maps(4, 4, 2)]


@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
def test_overlapping_pathways_have_their_projections_and_the_rest_is_outside_all(parametrization):
    network = Wrapped(RPPLinear(REP, REP, pathways=OVERLAPPING, parametrization=parametrization)).double()
    weight = numbers(2, 2, 4, 4)
    if parametrization == "collapsed":
        samples = {"layers.0.weight": weight}
    else:
        betas = [numbers(2, 2, basis.rank, seed=k) for k, basis in enumerate(OVERLAPPING)]
        parts = sum(basis.expand(beta) for basis, beta in zip(OVERLAPPING, betas, strict=True))
        samples = {f"layers.0.beta_{k}": beta for k, beta in enumerate(betas)}
        samples["layers.0.dense"] = weight - parts.reshape(weight.shape)
    shares = pathway_shares(posterior_of(network, samples)).sel(layer="layers.0")
    flat, total = weight.flatten(2), weight.flatten(2).square().sum(-1)
    assert shares.pathway.values.tolist() == ["pathway 0", "pathway 1", "pathway 2", "dense"]
    for place, basis in enumerate(OVERLAPPING):
        q = basis.dense()
        expected = (flat @ q @ q.mT).square().sum(-1) / total
        np.testing.assert_allclose(shares.sel(pathway=f"pathway {place}"), expected, atol=1e-10)
    whole, singular, _ = torch.linalg.svd(torch.cat([basis.dense() for basis in OVERLAPPING], 1), full_matrices=False)
    whole = whole[:, singular > 1e-8]
    inside = (flat @ whole).square().sum(-1) / total
    np.testing.assert_allclose(shares.sel(pathway="dense"), 1 - inside, atol=1e-10)
    assert float(shares.sum("pathway").max()) > 1 + 1e-3


def test_layers_without_a_pathway_have_no_number_for_it():
    network = Wrapped(RPPLinear(REP, REP), RPPLinear(REP, REP, pathways=[banded_maps(4, 4, 1)])).double()
    samples = {f"layers.{k}.dense": numbers(1, 1, 4, 4, seed=k) for k in range(2)}
    samples |= {f"layers.{k}.beta": torch.zeros(1, 1, network.layers[k].basis.rank).double() for k in range(2)}
    shares = pathway_shares(posterior_of(network, samples))
    assert shares.pathway.values.tolist() == ["equivariant", "pathway 0", "dense"]
    assert np.isnan(shares.values[0, 0]).tolist() == [[False, True, False], [True, False, False]]
    np.testing.assert_allclose(shares.sum("pathway"), 1.0, rtol=1e-10)


@pytest.mark.parametrize("names", [(None, None), ("dense", "other"), ("O(3)", "O(3)")], ids=str)
def test_groups_of_one_name_are_told_apart(names):
    groups = [O(3), *(Group(part.lie_algebra, part.generators, name=name)
                      for part, name in zip((O2eR3(), SO2eR3()), names, strict=True))]  # fmt: skip
    network = RPPEMLP(Vector, Vector, groups, layers=0, parametrization="collapsed").double()
    weight = numbers(1, 1, 3, 3)
    shares = pathway_shares(posterior_of(network, {"network.0.weight": weight}))
    assert shares.sizes["pathway"] == 4
    assert len(set(shares.pathway.values.tolist())) == 4
    np.testing.assert_allclose(shares.sum("pathway"), 1.0, rtol=1e-10)


LINEAR = torch.diag(torch.tensor([1.0, 1.0, 2.0], dtype=torch.float64))


@pytest.mark.statistical
@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
def test_a_subgroup_that_the_data_keep_takes_the_weight_from_the_dense_pathway(parametrization):
    """y = diag(1, 1, 2) x is symmetric under O2eR3 alone: 8/9 of its weight lies in O(3), 1/9 in O2eR3."""
    x = numbers(100, 3)
    pair = x, x @ LINEAR
    prior = RPPPrior(pathway_variances=[1.0, 1.0], dense_variance=1e-2)
    fit = MAP(epochs=2000, lr=0.1, batch_size=None)

    def shares(group):
        network = RPPEMLP(Vector, Vector, group, layers=0, parametrization=parametrization).double()
        return pathway_shares(
            fit.fit(BayesianModel(network, prior, Gaussian(0.01)), pair, seed=shifted(), progress=False)
        )

    nested, alone = shares([O(3), O2eR3()])[0, 0, 0], shares(O(3))[0, 0, 0]
    np.testing.assert_allclose(nested.values, [8 / 9, 1 / 9, 0], atol=2e-3)
    assert float(nested.sel(pathway="dense")) < 1e-5
    assert float(alone.sel(pathway="dense")) > 0.05


@pytest.mark.statistical
def test_modified_inertia_prefers_the_pathway_of_its_true_symmetry():
    """Symmetric under O2eR3, not under O(3): a network that knows both keeps its dense weights small and its error
    under O2eR3 far below the one under O(3)."""
    data = inertia(train=200, test=50, symmetry_breaking=1.0, seed=shifted())
    network = RPPEMLP(data.rep_in, data.rep_out, [O(3), O2eR3()], channels=20, layers=1)
    prior = RPPPrior(pathway_variances=[10.0, 1.0], dense_variance=1e-4)
    model = BayesianModel(network, prior, Gaussian(0.05))
    posterior = MAP(epochs=150, lr=1e-2, batch_size=None).fit(model, data.train, seed=shifted(), progress=False)
    shares = pathway_shares(posterior)[0, 0].mean("layer")
    assert float(shares.sel(pathway="O2eR3")) > 20 * float(shares.sel(pathway="dense"))
    wide = float(equivariance_error(posterior, data.test.x, group=O(3)).mean())
    narrow = float(equivariance_error(posterior, data.test.x, group=O2eR3()).mean())
    assert narrow < wide / 3
