"""Convolutions as a basis: against torch's own, and against the dense twin."""

import itertools

import pytest
import torch
from torch.nn.functional import conv2d, pad

from bayes_rpp.bases.convolutions.toeplitz import ToeplitzBasis
from tests.scenarios.numbers import numbers

CASES = [
    {"image": (5, 4), "kernel": (3, 3), "padding": 1},
    {"image": (5, 4), "kernel": (3, 2), "padding": 0},
    {"image": (6, 5), "kernel": (3, 3), "padding": 1, "stride": 2},
    {"image": (1, 6), "kernel": (3, 3), "padding": 1},
    {"image": (2, 2), "kernel": (5, 5), "padding": 2},
    {"image": (4, 5), "kernel": (3, 3), "padding": 1, "padding_mode": "circular"},
    {"image": (3, 3), "kernel": (3, 3), "padding": 1, "padding_mode": "circular", "stride": 2},
]


def bases():
    for case, (c_in, c_out) in itertools.product(CASES, ((1, 1), (2, 3))):
        yield case, ToeplitzBasis(c_in, c_out, **case)


def convolved(x, kernels, case):
    padding = case.get("padding", 0)
    if case.get("padding_mode") == "circular":
        x, padding = pad(x, (padding,) * 4, mode="circular"), 0
    return conv2d(x, kernels, stride=case.get("stride", 1), padding=padding)


def test_maps_are_the_convolutions_by_the_kernels():
    for case, basis in bases():
        beta, x = numbers(basis.rank), numbers(7, basis.in_channels, *basis.image, seed=1)
        images = convolved(x, basis.kernels(beta), case)
        assert tuple(images.shape[2:]) == basis.image_out
        weight = basis.expand(beta).reshape(images[0].numel(), x[0].numel())
        torch.testing.assert_close(x.flatten(1) @ weight.mT, images.flatten(1), rtol=1e-12, atol=1e-12)


def test_taps_are_orthonormal_and_those_that_never_land_are_left_out():
    for case, basis in bases():
        q = basis.dense()
        torch.testing.assert_close(q.mT @ q, torch.eye(basis.rank).double(), rtol=0, atol=1e-12)
        kernels = torch.eye(basis.kernel[0] * basis.kernel[1]).double().reshape(-1, 1, 1, *basis.kernel)
        units = torch.eye(basis.image[0] * basis.image[1]).double().reshape(-1, 1, *basis.image)
        landed = sum(bool(convolved(units, kernel[None, 0], case).any()) for kernel in kernels)
        assert basis.rank == landed * basis.in_channels * basis.out_channels
    assert ToeplitzBasis(1, 1, image=(1, 6), kernel=(3, 3), padding=1).rank == 3


def test_its_operators_are_those_of_the_dense_twin_in_batches_and_backwards():
    for _, basis in bases():
        q, beta, vector = basis.dense(), numbers(2, 3, basis.rank), numbers(2, 3, basis.size, seed=1)
        for actual, expected in (
            (basis.expand(beta), beta @ q.mT),
            (basis.coordinates(vector), vector @ q),
            (basis.project(vector), vector @ q @ q.mT),
            (basis.expand_onto(beta, vector), vector + beta @ q.mT),
            (torch.func.vmap(basis.expand)(beta), beta @ q.mT),
            (torch.func.vjp(basis.coordinates, vector)[1](beta)[0], beta @ q.mT),
            (torch.func.jvp(basis.expand, (beta,), (2 * beta,))[1], 2 * beta @ q.mT),
            (basis.expand(beta.float()).double(), beta @ q.mT),
        ):
            torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)
    before = vector.clone()
    basis.expand_onto(beta, vector)
    assert torch.equal(vector, before)


def test_a_projection_is_the_nearest_convolution_of_a_dense_map():
    basis = ToeplitzBasis(2, 2, image=(4, 4), kernel=(3, 3), padding=1)
    weight = numbers(basis.size)
    nearest = torch.linalg.lstsq(basis.dense(), weight[:, None]).solution[:, 0]
    torch.testing.assert_close(basis.coordinates(weight), nearest, rtol=1e-10, atol=1e-10)


def test_what_is_no_convolution_is_refused_in_plain_words():
    good = {"image": (4, 4), "kernel": (3, 3), "padding": 1}
    for options, message in (
        ({"image": (0, 4)}, r"image\[0\] must be positive, got 0"),
        ({"kernel": (3, -1)}, r"kernel\[1\] must be positive, got -1"),
        ({"stride": 0}, "stride must be positive, got 0"),
        ({"padding": -1}, "padding must not be negative"),
        ({"kernel": (9, 3)}, r"a kernel of \(9, 3\) does not fit on an image of \(4, 4\) padded by 1"),
        ({"kernel": (5, 5), "padding_mode": "circular"}, "winds around a circular image"),
        (
            {"image": (1, 1), "kernel": (2, 2), "padding": 2, "stride": 4},
            "no tap of a kernel of .* with stride 4 lands on an image",
        ),
        ({"padding_mode": "reflect"}, "padding_mode must be 'zeros' or 'circular', got 'reflect'"),
    ):
        with pytest.raises(ValueError, match=message):
            ToeplitzBasis(1, 1, **good | options)
