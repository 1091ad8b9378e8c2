"""What PathwayNormal refuses."""

import math

import pytest
import torch

from bayes_rpp import SO, PathwayNormal, Trivial, Vector, equivariant_basis, equivariant_maps

PLANE = Vector(SO(2))
BASIS = equivariant_maps(PLANE, PLANE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((2, 2), -1.0), "dense_variance must be positive and finite, got -1.0"),
        (((2, 2), 0.0), "dense_variance must be positive"),
        (((2, 2), math.nan), "dense_variance must be positive and finite, got nan"),
        (((2, 2), math.inf), "dense_variance must be positive and finite, got inf"),
        (((2, 2), torch.tensor([1.0, -2.0])), "dense_variance must be positive"),
        (((2, 2), 1.0, [BASIS], [-1.0]), "pathway_variances must be non-negative and finite, got -1.0"),
        (((2, 2), 1.0, [BASIS], [math.nan]), "pathway_variances must be non-negative and finite"),
        (((2, 3), 1.0, [BASIS], [1.0]), r"basis of size 4 does not fit the event shape \(2, 3\), which has 6"),
        (((2, 2), 1.0, [BASIS], []), "got 1 bases but 0 pathway_variances"),
    ],
)
def test_impossible_variances_and_bases_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PathwayNormal(*arguments)


def test_values_of_another_shape_or_nan_are_refused():
    ours = PathwayNormal((2, 2), 1.0, [BASIS], [1.0])
    for value in (torch.zeros(3, 3), torch.full((2, 2), math.nan)):
        with pytest.raises(ValueError, match=r"event_shape|within the support|torch\.Size"):
            ours.log_prob(value)


def test_a_basis_counts_for_a_single_number_too():
    line = equivariant_basis(Vector(Trivial(1)))
    ours, value = PathwayNormal((), 1.0, [line], [3.0]), torch.tensor([2.0, -1.0], dtype=torch.float64)
    torch.testing.assert_close(ours.log_prob(value), torch.distributions.Normal(0.0, 2.0).log_prob(value))
