"""Layers of images against torch's convolutions, their dense twins, and the group that they are to commute with."""

import numpy as np
import pytest
import torch
from torch import nn

from analysis import pathway_shares
from bayes_rpp import BayesianModel, Gaussian, RPPPrior
from bayes_rpp.bases.convolutions.planar_groups import channel_images
from bayes_rpp.networks.layers.convolution import EquivariantConv2d, RPPConv2d
from bayes_rpp.networks.reparametrize import reparametrized
from bayes_rpp.representations.images import turned_positions
from inference import Posterior
from inference.exact.exact_posterior import ExactSampling
from tests.error_rate import agrees
from tests.scenarios.layers import randomised
from tests.scenarios.numbers import numbers

CASES = {
    "plain": ((3, 2, 3), {"image": (5, 4), "padding": 1}),
    "strided": ((2, 3, (3, 2)), {"image": (6, 5), "padding": 1, "stride": 2}),
    "circular": ((2, 3, 3), {"image": 4, "padding": 1, "padding_mode": "circular"}),
    "no bias": ((2, 2, 1), {"image": 3, "bias": False}),
    "p4": ((1, 4, 3), {"image": 4, "padding": 1, "group": "p4", "fields": ("scalar", "regular")}),
    "p4m": ((8, 16, 3), {"image": 4, "padding": 1, "group": "p4m", "fields": ("regular", "regular")}),
}


def layers(kind=RPPConv2d, **more):
    for name, (arguments, options) in CASES.items():
        yield name, randomised(kind(*arguments, **options, **more))


def test_both_parametrizations_are_one_matrix_and_one_vector():
    for _, residual in layers():
        collapsed = reparametrized(residual, "collapsed")
        x = numbers(7, *residual.map.shape_in)
        flat = x.flatten(1) @ residual.effective_weight().mT
        flat = flat if residual.effective_bias() is None else flat + residual.effective_bias()
        for layer in (residual, collapsed, reparametrized(collapsed, "residual")):
            torch.testing.assert_close(layer(x), flat.reshape(7, *layer.map.shape_out), rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(layer(x.flatten(1)), flat, rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(layer(x[0].expand(2, 3, *x[0].shape))[1, 2], layer(x[0]), rtol=0, atol=1e-12)


def test_without_its_dense_part_it_is_torchs_convolution():
    for name, exact in layers(EquivariantConv2d):
        if exact.map.group is not None:
            continue
        c_in, c_out, kernel = CASES[name][0]
        options = {key: value for key, value in CASES[name][1].items() if key != "image"}
        torchs = nn.Conv2d(c_in, c_out, kernel, **options).double()
        with torch.no_grad():
            torchs.weight.copy_(exact.map.taps.kernels(exact.beta))
            if exact.bias_beta is not None:
                torchs.bias.copy_(exact.bias_beta / exact.map.positions**0.5)
        x = numbers(5, *exact.map.shape_in)
        torch.testing.assert_close(exact(x), torchs(x), rtol=1e-12, atol=1e-12)


def turned(images, field, group, generator):
    """Images of 4 x 4, with their fields, turned or reflected."""
    moved = torch.empty_like(images).flatten(2)
    places = channel_images(images.shape[1], field, group, generator), turned_positions(4)[generator]
    moved[(slice(None), *np.ix_(*places))] = images.flatten(2)
    return moved.reshape(images.shape)


def test_group_convolutions_commute_with_turns_and_reflections_and_others_do_not():
    for name, layer in layers(EquivariantConv2d):
        group, (field_in, field_out) = layer.map.group, layer.map.fields
        if group is None:
            continue
        x = numbers(5, *layer.map.shape_in)
        others = RPPConv2d(*CASES[name][0], **CASES[name][1]).double()
        for g in range(1 if group == "p4" else 2):
            expected = turned(layer(x), field_out, group, g)
            torch.testing.assert_close(layer(turned(x, field_in, group, g)), expected, rtol=0, atol=1e-10)
            nn.init.normal_(others.beta_1)
            difference = others(turned(x, field_in, group, g)) - turned(others(x), field_out, group, g)
            assert difference.abs().max() > 0.01


def test_prior_outputs_have_one_mean_square_whatever_the_image_and_each_pathway_its_own():
    prior = RPPPrior(pathway_variances=[2.0, 0.5], dense_variance=0.1)
    options = {"padding": 1, "padding_mode": "circular", "group": "p4m", "fields": ("scalar", "regular")}
    for size in (4, 8):
        layer = RPPConv2d(2, 8, 3, image=size, **options)
        for name, expected in (("beta_0", 2.0), ("beta_1", 0.5), ("dense", 0.1), ("bias_beta_0", 2.0)):
            squares = []
            for _ in range(60):
                with torch.no_grad():
                    for parameter in layer.parameters():
                        parameter.zero_()
                    layer.get_parameter(name).copy_(prior.distributions(layer)[name].sample())
                    squares.append(float(layer(torch.randn(5, *layer.map.shape_in)).square().mean()))
            assert agrees(torch.tensor(squares)[:, None].double(), expected)


def test_vmap_and_forward_derivatives_see_the_dense_twin():
    for _, layer in layers():
        params, x = {name: value.detach() for name, value in layer.named_parameters()}, numbers(3, layer.shape[1])

        def outputs(own, layer=layer, x=x):
            return torch.func.functional_call(layer, own, (x,))

        stacked = {name: torch.stack([value, 2 * value]) for name, value in params.items()}
        expected = torch.stack([outputs(params), outputs({name: 2 * value for name, value in params.items()})])
        torch.testing.assert_close(torch.func.vmap(outputs)(stacked), expected, rtol=1e-10, atol=1e-10)
        # The layer is linear in its parameters.
        slope = torch.func.jvp(outputs, (params,), (params,))[1]
        torch.testing.assert_close(slope, outputs(params), rtol=1e-10, atol=1e-10)


def test_a_fitted_layer_tells_where_its_weight_is(tmp_path):
    """By the exact posterior, of data without noise from a convolution, and from a map of no structure."""
    exact, without = EquivariantConv2d(1, 2, 3, image=4, padding=1), nn.Linear(16, 32)
    x = torch.randn(300, 1, 4, 4)
    for truth, within, shares_wanted in ((exact, 1e-4, 1.0), (nn.Sequential(nn.Flatten(), without), 0.2, 18 / 512)):
        y = truth(x).flatten(1).detach()
        network = nn.Sequential(nn.Flatten(), RPPConv2d(1, 2, 3, image=4, padding=1))
        model = BayesianModel(network, RPPPrior(), Gaussian(1e-6), 32)
        posterior = ExactSampling(draws=20).fit(model, (x, y), seed=0)
        shares = pathway_shares(posterior).sel(pathway="convolution")
        assert float(abs(shares - shares_wanted).max()) < within
    posterior.save(tmp_path / "run")
    loaded = Posterior.load(tmp_path / "run", model=posterior.model)
    assert torch.equal(loaded.predict(x).mean, posterior.predict(x).mean)


def test_images_that_do_not_fit_are_refused_in_plain_words():
    layer = RPPConv2d(3, 2, 3, image=(5, 4), padding=1)
    for shape in ((7, 3, 4, 5), (7, 59), (7, 1, 5, 4)):
        with pytest.raises(ValueError, match=r"but images \(\*batch, 3, 5, 4\) are wanted, or flattened ones"):
            layer(torch.randn(shape))
    with pytest.raises(TypeError, match=r"image must be one integer or two, \(height, width\), got 4.5"):
        RPPConv2d(1, 1, 3, image=4.5)
    with pytest.raises(ValueError, match="parametrization must be 'residual' or 'collapsed'"):
        RPPConv2d(1, 1, 3, image=4, parametrization="dense")
    with pytest.raises(ValueError, match="out_channels must be positive"):
        RPPConv2d(1, 0, 3, image=4)
