"""Symmetries that nobody declared, of linear data, whose posteriors and evidences are exact."""

import math

import pytest
import torch

from analysis import Confirmation, discover_symmetry
from analysis.discovery.subspaces import principal_angles
from analysis.evidence import ExactEvidence, ExactSampling
from bayes_rpp import MLP, SO, Gaussian, Poisson, Trivial, Vector
from inference import DeepEnsemble
from tests.scenarios.numbers import numbers

VECTOR = Vector(Trivial(3))
EXACT = Confirmation(ExactSampling(draws=50), ExactEvidence(), layers=0)


def linear_network():
    return MLP(VECTOR, VECTOR, VECTOR.group, layers=0)


def test_an_axis_in_any_direction_is_found_and_confirmed():
    turn = SO(3).sample(1, seed=0)[0]
    about_z = torch.tensor([[1.0, -0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 2.0]], dtype=torch.float64)
    weight, x = turn @ about_z @ turn.T, numbers(200, 3)
    y = x @ weight.T + 0.1 * numbers(200, 4)[:, 1:]
    options = {"network": linear_network().double(), "likelihood": Gaussian(0.01), "engine": ExactSampling(draws=50)}
    found = discover_symmetry((x, y), VECTOR, VECTOR, [SO(3)], **options, confirmation=EXACT, progress=False)
    # Linear maps commute with all polynomials in themselves: here with rotations about the axis and two scalings.
    powers = torch.stack([torch.linalg.matrix_power(weight, k) for k in range(3)])
    coordinates = torch.einsum("kij,pij->kp", found.kept.subalgebra.directions, powers) / 2
    assert found.kept.dimension == 3
    assert math.degrees(principal_angles(torch.linalg.qr(coordinates).Q, found.kept.subalgebra.basis)[0]) < 5
    assert found.probability > 0.95
    assert found.comparison.dataset.model.values.tolist() == ["kept(GL(3))", "SO(3)", "Trivial(3)"]
    assert found.comparison.dataset.log_bayes_factor.sel(model="SO(3)") < -100
    assert "By the evidence it is confirmed:" in str(found)
    assert not found.cannot_tell
    assert found.fit_error < 0.15


def test_without_a_fit_nothing_is_said_of_the_symmetry():
    x = numbers(60, 3)
    y, engine = x[:, [1, 2, 0]] ** 3, DeepEnsemble(members=3, epochs=1)
    found = discover_symmetry((x, y), VECTOR, VECTOR, engine=engine, likelihood=Gaussian(0.01), progress=False)
    assert found.cannot_tell
    assert found.found is None
    assert math.isnan(found.probability)
    assert "too poor or too unsure to tell" in str(found)


def test_what_would_fail_after_training_is_refused_before():
    x = numbers(60, 3)
    for pair, options, error, message in (
        ((x[:9], x[:9]), {}, ValueError, "needs 20 examples or more, got 9"),
        ((x, 0 * x), {}, ValueError, "no constant output"),
        ((x, x), {"likelihood": Poisson()}, ValueError, "one of noise around f: .* got Poisson"),
        ((x, x), {"candidates": SO(3)}, TypeError, r"must be a list of groups, as \[SO\(3\)\], got SO\(3\)"),
        ((x, x), {"candidates": [SO(2)]}, ValueError, r"groups of 3 x 3 matrices, and not trivial, got SO\(2\)"),
    ):
        with pytest.raises(error, match=message):
            discover_symmetry(pair, VECTOR, VECTOR, **options)
