"""Every output piece of a layer keeps its scale, and with it every function that the default prior draws."""

import pytest
import torch

from bayes_rpp import (
    EMLP,
    MLP,
    RPPEMLP,
    SO,
    BayesianModel,
    D,
    Gaussian,
    O,
    O2eR3,
    Rep,
    RPPLinear,
    RPPPrior,
    S,
    Scalar,
    SO13p,
    T,
    Vector,
    Z,
    equivariant_basis,
    uniform_rep,
)
from bayes_rpp.bases.band_norms import band_norms
from bayes_rpp.bases.structured_maps import banded_maps, low_frequency_maps
from bayes_rpp.networks.layers.bilinear import EquivariantBilinear
from bayes_rpp.networks.layers.fan_in import direction_squares, input_mean_squares
from bayes_rpp.prior_draws import prior_draws
from tests.seeds import shifted

GROUPS = [O(3), SO(3), SO(2), S(4), Z(4), D(4), SO13p()]


def second_moment(rep, activated):
    """E x x^T of the inputs for which variances are divided: other mean squares along invariants than across them."""
    along, across = direction_squares(rep, input_mean_squares(rep, activated))
    blocks = []
    for run, a, b in zip(rep.runs, along, across, strict=True):
        q = equivariant_basis(Rep([(1, run.piece)], rep.bound_group)).dense()
        piece = b * torch.eye(run.piece_size).double() + (a - b) * q @ q.mT
        blocks += [piece] * run.multiplicity
    return torch.block_diag(*blocks)


def test_the_assumed_inputs_have_the_mean_squares_of_their_pieces(subtests):
    for group in GROUPS:
        rep = uniform_rep(40, group)
        for activated in (False, True):
            moment, squares = second_moment(rep, activated), input_mean_squares(rep, activated)
            with subtests.test(msg=f"{group}, {activated}"):
                for run, square in zip(rep.runs, squares, strict=True):
                    found = moment.diagonal()[run.start : run.stop].mean()
                    torch.testing.assert_close(found, square, rtol=1e-9, atol=0)


def test_each_pathway_adds_its_variance_to_every_output_piece_whatever_the_width(subtests):
    for channels in [10, 60]:
        for group in [*GROUPS, [O(3), O2eR3()]]:
            outer = group[0] if isinstance(group, list) else group
            rep_in, rep_out = uniform_rep(channels, outer), uniform_rep(30, outer)
            for activated in (False, True):
                layer = RPPLinear(rep_in, rep_out, False, group=group, activated=activated).double()
                moment = second_moment(layer.rep_in, activated)
                laws = RPPPrior(3.0, 0.7).distributions(layer)
                assert float(laws["dense"].dense_variance * moment.trace()) == pytest.approx(0.7)
                name, basis = layer.beta_names[0], layer.bases[0]
                maps = basis.dense().mT.unflatten(1, (rep_out.size, rep_in.size))
                rows = torch.einsum("j,jmn,np,jmp->m", laws[name].variance.double(), maps, moment, maps)
                with subtests.test(msg=f"{channels} channels of {group}, {activated}"):
                    for run in rep_out.runs:
                        of_piece = rows[run.start : run.stop].mean()
                        assert float(of_piece) == pytest.approx(3.0, rel=1e-6) or not of_piece


def test_a_bilinear_layer_adds_its_variance_to_every_output_piece(subtests):
    """y = B(x, x) with B drawn from the prior: E B(x, x')^2 over independent standard normal x and x'. Only the
    symmetric part of B can be seen, which has half of the square, and more, up to all, for products of a piece with
    itself.
    """
    for group, copies in (
        (O(3), 6 * Scalar + 6 * Vector + 6 * T(2)),
        (SO13p(), 6 * Scalar + 6 * Vector + 6 * Vector.dual),
    ):
        layer = EquivariantBilinear(copies(group)).double()
        variance = RPPPrior(3.0).distributions(layer)["weight"].variance.double()
        root = torch.eye(layer.rep.size).double()
        pairs = (root.repeat_interleave(len(root), 0), root.repeat(len(root), 1))
        squares, draws = torch.zeros(len(root)).double(), 20
        for noise in torch.randn(draws, len(variance), generator=torch.Generator().manual_seed(0)).double():
            layer.weight.data = noise * variance.sqrt()
            with torch.no_grad():
                first, second, both = layer(pairs[0]), layer(pairs[1]), layer(pairs[0] + pairs[1])
            squares += ((both - first - second) / 2).square().sum(0) / draws
        for run in layer.rep.runs:
            with subtests.test(msg=f"{group}, {run.piece}"):
                ratio = 2 * float(squares[run.start : run.stop].mean()) / 3.0
                assert 0.85 < ratio < 1.15 * (1 + 1 / 6)


def test_norms_in_bands_are_those_of_the_maps(subtests):
    bases = {f"{group}": RPPLinear(uniform_rep(9, group), uniform_rep(7, group)).basis for group in GROUPS}
    bases |= {"large": RPPLinear(uniform_rep(60, O(3)), uniform_rep(60, O(3))).basis}
    bases |= {"band": banded_maps(7, 9, 2), "cosines": low_frequency_maps(7, 9, 3)}
    for name, basis in bases.items():
        m, n = (60, 60) if name == "large" else (7, 9)
        maps = basis.dense().mT.unflatten(1, (m, n)).square()
        for rows, columns in (([m], [n]), ([2, m - 2], [n]), ([1, 3, m - 4], [4, 0, n - 4])):
            with subtests.test(msg=f"{name}, {rows}, {columns}"):
                expected = torch.stack([part.sum(1) for part in maps.split(rows, 1)], 1)
                expected = torch.stack([part.sum(2) for part in expected.split(columns, 2)], 2)
                torch.testing.assert_close(band_norms(basis, rows, columns), expected, rtol=1e-9, atol=1e-12)


CASES = {
    "O(3)": (O(3), 5 * Scalar + 5 * Vector, T(2)),
    "SO(3)": (SO(3), 2 * Vector, Vector),
    "S(4)": (S(4), Vector, Vector),
    "Z(4)": (Z(4), Vector, Vector),
    "SO13p": (SO13p(), 4 * Vector, Scalar),
    "D(4)": (D(4), Vector, Vector),
}


def scale_of_functions(kind, case, channels, layers, prior, draws=51):
    """The median over draws of the prior of the mean square of the network's outputs at standard normal inputs."""
    group, rep_in, rep_out = CASES[case]
    network = kind(rep_in, rep_out, group, channels=channels, layers=layers)
    model = BayesianModel(network, prior, Gaussian(1.0))
    x = torch.randn(64, network.rep_in.size, generator=torch.Generator().manual_seed(shifted(1)))
    params = prior_draws(model, draws, shifted(2))
    outputs = torch.func.vmap(lambda own: model.output(own, x))(params)
    return float(outputs.square().mean((1, 2)).median())


@pytest.mark.statistical
def test_functions_of_the_default_prior_are_of_order_one(subtests):
    """The table over widths up to 1024 is docs/results/prior_scale.md."""
    for case in CASES:
        for channels, layers in ((32, 1), (32, 3), (192, 2), (192, 3)):
            for kind in (RPPEMLP, EMLP, MLP):
                with subtests.test(msg=f"{case}, {channels} channels, {layers} layers, {kind.__name__}"):
                    assert 0.1 < scale_of_functions(kind, case, channels, layers, RPPPrior()) < 10


def test_functions_of_one_fan_in_for_a_layer_and_a_variance_of_ten_are_not():
    old = RPPPrior(10.0, 3e-4, scaling="layer_fan_in")
    assert scale_of_functions(RPPEMLP, "O(3)", 32, 3, old, draws=5) > 1e4
