"""Reflections beside rotations: of functions that are known to keep some and not others."""

import pytest
import torch

from analysis import kept_components, kept_symmetry
from bayes_rpp import SL, SO, BayesianModel, Gaussian, O, RPPLinear, RPPPrior, Scalar, Vector
from bayes_rpp.datasets import inertia
from inference import Posterior
from tests.scenarios.numbers import numbers

GROUP = O(3)
AXIS = "(0.00, 0.00, 1.00)"
PLANES, ALONG, HALF_TURNS = (
    f"{words} {AXIS}" for words in ("reflections in planes through", "the reflection of", "half turns that reflect")
)


def components(f, x, rep_in, rep_out):
    reps = {"rep_in": rep_in(GROUP), "rep_out": rep_out(GROUP)}
    return kept_components(f, x, kept_symmetry(f, x, **reps), **reps)


def test_functions_keep_the_components_that_they_should():
    vectors = {
        "cross product": (lambda x: torch.linalg.cross(x[:, :3], x[:, 3:]), 2 * Vector, Vector, []),
        "sum": (lambda x: x[:, :3] + x[:, 3:], 2 * Vector, Vector, ["reflections"]),
        "height": (lambda x: x[:, :2].square().sum(1, keepdim=True) + x[:, 2:], Vector, Scalar, [PLANES]),
        "squared height": (lambda x: x[:, 2:].square(), Vector, Scalar, [PLANES, ALONG, HALF_TURNS]),
        "swirl": (
            lambda x: (x[:, 2] * (x[:, 0] * x[:, 4] - x[:, 1] * x[:, 3]))[:, None], 2 * Vector, Scalar, [HALF_TURNS],
        ),
        "odd": (lambda x: x @ torch.diag(torch.tensor([1.0, 2.0, 3.0])).double(), Vector, Vector, ["the inversion"]),
    }  # fmt: skip
    for name, (f, rep_in, rep_out, expected) in vectors.items():
        found = components(f, numbers(40, rep_in(GROUP).size), rep_in, rep_out)
        assert found.kept == expected, name
        assert found.group.d == 3
        assert len(found.group.generators) == len(expected)
    assert str(found) == "It keeps the inversion."


def test_modified_inertia_keeps_all_that_keep_its_axis():
    data, x = inertia(symmetry_breaking=0.3), inertia(test=50).test.x.double()
    reps = {"rep_in": data.rep_in, "rep_out": data.rep_out}
    found = kept_components(data.function, x, kept_symmetry(data.function, x, **reps), **reps)
    assert found.kept == [PLANES, ALONG, HALF_TURNS]


def test_draws_tell_a_kept_reflection_from_a_broken_one():
    rep = Vector(GROUP)
    network = RPPLinear(rep, rep, bias=False, parametrization="collapsed").double()
    weight = torch.tensor([[1.0, -0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 2.0]]) + 0.01 * numbers(1, 12, 3, 3)
    posterior = Posterior(BayesianModel(network, RPPPrior(), Gaussian(0.1)), {"weight": weight})
    x = numbers(60, 3)
    found = kept_components(posterior, x, kept_symmetry(posterior, x))
    assert len(found.kept) == 1
    assert found.kept[0].startswith("the reflection of (")
    assert found.errors.dims == ("chain", "draw", "component")
    assert "; not reflections in planes through" in str(found)


def test_rotations_of_a_part_of_a_larger_space_that_draws_keep():
    rep = Vector(O(4))
    network = RPPLinear(rep, rep, bias=False, parametrization="collapsed").double()
    weight = torch.diag(torch.tensor([1.0, 1.0, 1.0, 3.0])) + 0.01 * numbers(1, 12, 4, 4)
    posterior = Posterior(BayesianModel(network, RPPPrior(), Gaussian(0.1)), {"weight": weight})
    x = numbers(60, 4)
    found = kept_components(posterior, x, kept_symmetry(posterior, x))
    assert found.kept == ["reflections of W", "the inversion of K", "reflections of W with the inversion of K"]


def test_rotations_of_two_spaces_are_refused():
    def f(x):
        return x[:, :2].square().sum(1, keepdim=True) + x[:, 2:].square().sum(1, keepdim=True).sin()

    x, reps = numbers(60, 4), {"rep_in": Vector(O(4)), "rep_out": Scalar(O(4))}
    with pytest.raises(ValueError, match="needs all rotations of one space"):
        kept_components(f, x, kept_symmetry(f, x, **reps), **reps)
    with pytest.raises(TypeError, match=r"must be what kept_symmetry gives, got O"):
        kept_components(f, x, O(4), **reps)


def test_other_groups_than_rotations_are_refused():
    reps = {"rep_in": Vector(SL(3)), "rep_out": Vector(SL(3))}
    kept = kept_symmetry(lambda x: x, numbers(9, 3), **reps)
    with pytest.raises(ValueError, match=r"needs rotations, and SL\(3\) has other elements too"):
        kept_components(lambda x: x, numbers(9, 3), kept, rep_in=Vector(SO(3)), rep_out=Vector(SO(3)))
