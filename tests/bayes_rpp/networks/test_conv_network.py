"""Networks for images: the three kinds, their symmetries, files, and an engine from end to end."""

import pytest
import torch

from analysis import equivariance_error, pathway_shares
from bayes_rpp import BayesianModel, Categorical, NormalizedNetwork, RPPConvNet, RPPPrior, image_rep
from inference import MAP, DeepEnsemble, Posterior

IMAGE = (1, 6, 6)
OPTIONS = {
    "plain": {},
    "pooled": {"pool_after": [1], "strides": [1, 2]},
    "mean": {"head": "mean", "padding_mode": "circular", "normalize": True},
    "p4m": {"head": "mean", "group": "p4m", "pool_after": [1]},
}


def network(case, kind="rpp", **more):
    channels = [1, 1] if "group" in OPTIONS[case] else [3, 4]
    return RPPConvNet(IMAGE, 3, channels, kind, **OPTIONS[case], **more)


def test_all_kinds_take_images_flat_or_not_and_have_the_same_sizes():
    x = torch.randn(5, *IMAGE)
    for case in OPTIONS:
        sizes = {}
        for kind in ("rpp", "conv", "mlp"):
            net = network(case, kind)
            assert net(x).shape == (5, 3)
            torch.testing.assert_close(net(x.flatten(1)), net(x))
            sizes[kind] = sum(parameter.numel() for parameter in net.parameters())
        assert sizes["rpp"] > sizes["mlp"] > sizes["conv"]


def test_exact_networks_keep_their_symmetries_and_dense_ones_do_not():
    x = torch.randn(20, 36, dtype=torch.float64)
    for case, group in (("mean", "shifts"), ("p4m", "p4m")):
        reps = {"rep_in": image_rep(IMAGE, group), "rep_out": None}
        for kind, low, high in (("conv", 0.0, 1e-6), ("rpp", 1e-7, 0.2), ("mlp", 0.1, 1.0)):
            net = network(case, kind).double()
            error = float(equivariance_error(net, x, **{**reps, "rep_out": net.rep_out}))
            assert low <= error < high
        assert float(equivariance_error(network(case, "conv").double(), x)) < 1e-6  # the default of the network


def test_an_ensemble_is_fitted_saved_and_read_from_its_files_alone(tmp_path):
    x = torch.randn(60, *IMAGE)
    y = (x[:, 0, 2, 2] > 0).long() + (x.mean((1, 2, 3)) > 0).long()
    for case, parametrization in (("plain", "residual"), ("p4m", "collapsed")):
        net = network(case, parametrization=parametrization)
        prior = RPPPrior(pathway_variances=[1.0, 0.1], dense_variance=1e-2)
        posterior = DeepEnsemble(members=2, epochs=3).fit(BayesianModel(net, prior, Categorical()), (x, y), seed=0)
        posterior.save(tmp_path / case)
        loaded = Posterior.load(tmp_path / case)
        assert torch.equal(loaded.predict(x).mean, posterior.predict(x).mean)
        shares = pathway_shares(loaded)
        torch.testing.assert_close(
            torch.tensor(shares.sum("pathway").values), torch.ones(2, 1, len(shares.layer)).double()
        )


def test_networks_that_do_not_fit_are_refused_in_plain_words():
    for options, message in (
        ({"kind": "cnn"}, "kind must be one of rpp, conv, mlp, got 'cnn'"),
        ({"head": "max"}, "head must be one of dense, mean, got 'max'"),
        ({"strides": [1]}, "got 1 strides for 2 layers"),
        ({"pool_after": [3]}, "pool_after names layer 3, but there are 2, numbered from 1"),
        ({"kernel_size": 4}, "kernel_size must be odd"),
        ({"pool_after": [1, 2], "strides": 2}, "the images are empty after layer 2"),
        ({"group": "p4", "strides": 2}, "no quarter turns"),
        ({"group": "p4", "image": (1, 5, 5), "pool_after": [1]}, "takes no account of quarter turns"),
        ({"group": "p4", "image": (1, 4, 5)}, "quarter turns need square images, got 4 x 5"),
        ({"image": (8, 8)}, r"image must be \(channels, height, width\), got \(8, 8\)"),
        ({"outputs": 0}, "outputs must be a positive integer"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            RPPConvNet(**{"image": (1, 4, 4), "outputs": 2, "channels": [2, 2]} | options)
    with pytest.raises(ValueError, match=r"takes images \(batch, 1, 6, 6\), or flattened ones, \(batch, 36\)"):
        network("plain")(torch.randn(5, 1, 8, 8))
    with pytest.raises(ValueError, match="group must be one of shifts, p4, p4m, got 'p6'"):
        image_rep(IMAGE, "p6")


def test_images_are_standardised_channel_by_channel_and_taken_in_any_form(tmp_path):
    images = torch.randint(256, (50, 2, 4, 6), dtype=torch.uint8)
    images[:, 1] //= 16
    net = RPPConvNet((2, 4, 6), 3, [2])
    wrapped = NormalizedNetwork.fit(net, images)
    pixels = images.double().movedim(1, 0).flatten(1)
    by_hand = (images - pixels.mean(1)[:, None, None]) / pixels.std(1, correction=0)[:, None, None]
    expected = net(by_hand.float())
    for form in (images, images.flatten(1), images.float(), images.float().flatten(1)):
        torch.testing.assert_close(wrapped(form), expected, rtol=1e-4, atol=1e-5)
    model = BayesianModel(wrapped, RPPPrior(), Categorical())
    posterior = MAP(epochs=1).fit(model, (images, torch.arange(50) % 3), seed=0)
    assert posterior.data[0].dtype == torch.uint8
    posterior.save(tmp_path / "run")
    assert torch.equal(Posterior.load(tmp_path / "run").predict(images).mean, posterior.predict(images).mean)
    errors = [float(equivariance_error(posterior, form).squeeze()) for form in (images, images.flatten(1))]
    assert errors[0] == errors[1] > 0
