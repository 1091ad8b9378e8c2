"""Networks whose groups and representations are text."""

import pytest
import torch

from bayes_rpp import EMLP, MLP, RPPEMLP, SO, O, Scalar, Vector


def test_networks_of_text_are_those_of_objects():
    for network in (RPPEMLP, EMLP, MLP):
        text, objects = (
            network("2*Scalar + Vector", "Vector", "O(3)", 8, 1),
            network(2 * Scalar + Vector, Vector, O(3), 8, 1),
        )
        objects.load_state_dict(text.state_dict())
        x = torch.randn(4, 5)
        assert torch.equal(text(x), objects(x))
        assert (text.rep_in, str(text.group)) == (objects.rep_in, "O(3)")
    assert [str(group) for group in RPPEMLP("Vector", "Scalar", ["O(3)", SO(3)], 8, 1).chain] == ["O(3)", "SO(3)"]


def test_text_that_means_nothing_is_marked():
    for arguments, message in (
        (("Vektor", "Scalar", "O(3)"), "unknown representation 'Vektor'"),
        (("Vector", "Scalar", "U(3)"), "unknown group 'U'"),
        (("Vector", "Scalar", ["O(3)", "U(3)"]), "unknown group 'U'"),
    ):
        with pytest.raises(ValueError, match=message):
            RPPEMLP(*arguments)
