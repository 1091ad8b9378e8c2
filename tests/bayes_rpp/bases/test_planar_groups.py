"""Kernels that are equivariant under quarter turns and reflections, against the images that they act on."""

import itertools

import numpy as np
import pytest
import torch

from bayes_rpp.bases.convolutions.planar_groups import ORDERS, channel_images, planar_maps
from bayes_rpp.bases.convolutions.toeplitz import ToeplitzBasis
from bayes_rpp.representations.images import turned_positions
from tests.scenarios.numbers import numbers

FIELDS = [("scalar", "scalar"), ("scalar", "regular"), ("regular", "scalar"), ("regular", "regular")]
IMAGES = [
    {"image": (4, 4), "kernel": (3, 3), "padding": 1},
    {"image": (5, 5), "kernel": (3, 3), "padding": 1, "stride": 2},
    {"image": (4, 4), "kernel": (3, 3), "padding": 1, "padding_mode": "circular"},
    {"image": (2, 2), "kernel": (2, 2)},
]


def cases():
    for (fields, image), group in itertools.product(itertools.product(FIELDS, IMAGES), ORDERS):
        if group == "p4m" and fields == ("regular", "regular") and image is not IMAGES[1]:
            continue  # large, and no other than these in kind
        channels = [2 if field == "scalar" else ORDERS[group] for field in fields]
        yield fields, group, ToeplitzBasis(*channels, **image)


def images_of(group, field, channels, size, generator):
    """Where an element of the group takes every number of an image."""
    inside = turned_positions(size)[generator]
    return np.add.outer(channel_images(channels, field, group, generator) * len(inside), inside).ravel()


def moved(basis, fields, group, generator, maps):
    """Maps (m, n, *more) with images before and after them turned."""
    rows = images_of(group, fields[1], basis.out_channels, basis.image_out[0], generator)
    columns = images_of(group, fields[0], basis.in_channels, basis.image[0], generator)
    return maps[np.ix_(rows, columns)]


def test_its_maps_are_all_convolutions_that_commute_with_the_group():
    for fields, group, basis in cases():
        equivariant, rest = planar_maps(basis, group, *fields)
        m = basis.out_channels * basis.image_out[0] ** 2
        maps = basis.dense().reshape(m, -1, basis.rank)
        generators = range(1 if group == "p4" else 2)
        # The equivariant ones are the null space of Q_g - Q; every Q_g lies in the span of Q.
        differences = torch.cat(
            [(moved(basis, fields, group, g, maps) - maps).reshape(-1, basis.rank) for g in generators]
        )
        null = basis.rank - int(torch.linalg.matrix_rank(differences.mT @ differences, rtol=1e-9))
        assert equivariant.rank == null
        own = equivariant.dense().reshape(m, -1, equivariant.rank)
        for g in generators:
            torch.testing.assert_close(moved(basis, fields, group, g, own), own, rtol=0, atol=1e-12)
        both = torch.cat([equivariant.dense(), rest.dense()], dim=1)
        torch.testing.assert_close(both.mT @ both, torch.eye(basis.rank).double(), rtol=0, atol=1e-12)
        assert equivariant.rank + rest.rank == basis.rank


def test_a_pair_of_channels_has_3_maps_and_a_pair_of_p4m_fields_72():
    image = IMAGES[0]
    assert planar_maps(ToeplitzBasis(1, 1, **image), "p4m", "scalar", "scalar")[0].rank == 3
    assert planar_maps(ToeplitzBasis(8, 8, **image), "p4m", "regular", "regular")[0].rank == 72


def test_the_generators_are_those_of_the_dihedral_group():
    for size, compose in ((4, turned_positions(4)), (0, [channel_images(8, "regular", "p4m", g) for g in (0, 1)])):
        turn, reflection = compose
        everything = np.arange(size * size or 8)
        assert (turn[turn[turn[turn]]] == everything).all()
        assert (reflection[reflection] == everything).all()
        assert (reflection[turn[reflection[turn]]] == everything).all()
        assert (turn[turn] != everything).any()


def test_composed_operators_are_those_of_the_dense_twin():
    for fields, group, basis in cases():
        for part in planar_maps(basis, group, *fields):
            q, beta, vector = part.dense(), numbers(2, part.rank), numbers(2, part.size, seed=1)
            for actual, expected in (
                (part.expand(beta), beta @ q.mT),
                (part.coordinates(vector), vector @ q),
                (part.expand_onto(beta, vector), vector + beta @ q.mT),
                (torch.func.vjp(part.coordinates, vector)[1](beta)[0], beta @ q.mT),
            ):
                torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


def test_images_without_quarter_turns_are_refused_in_plain_words():
    for image, channels, message in (
        ({"image": (4, 5), "kernel": (3, 3), "padding": 1}, 8, "need square images, got 4 x 5"),
        ({"image": (4, 4), "kernel": (3, 1), "padding": 1}, 8, "need square kernels, got 3 x 1"),
        ({"image": (4, 4), "kernel": (3, 3), "padding": 1, "stride": 2}, 8, "a stride of 2 on an image of 4 padded"),
        ({"image": (4, 4), "kernel": (3, 3), "padding": 1}, 12, "12 channels are no whole number of fields of 8"),
    ):
        with pytest.raises(ValueError, match=message):
            planar_maps(ToeplitzBasis(channels, 8, **image), "p4m", "regular", "regular")
