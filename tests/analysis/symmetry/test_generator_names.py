"""Generators in words."""

import pytest

from analysis.symmetry.generator_names import generator_names
from bayes_rpp import SL, SO, D, Group, Lorentz, O, S


@pytest.mark.parametrize(
    ("group", "names"),
    [
        (O(2), ["rotation in the plane of axes 0 and 1", "reflection of axis 0"]),
        (S(4), ["axes 0 -> 1 -> 2 -> 3 -> 0", "axes 0 -> 1 -> 0"]),
        (D(4), ["rotation by 90 degrees in the plane of axes 0 and 1", "reflection of axis 0"]),
        (
            SL(2),
            [*(f"shear: axis {i} gains a multiple of axis {1 - i}" for i in (0, 1)), "stretch along axes 0, 1"],
        ),
        (SO(2) * SO(2), [f"rotation in the plane of axes 0 and 1 of SO(2) (factor {k})" for k in (0, 1)]),
        (SO(2) * S(2), ["rotation in the plane of axes 0 and 1 of SO(2)", *["axes 0 -> 1 -> 0 of S(2)"] * 2]),
        (Group(lie_algebra=[[[1.0, 2.0], [3.0, 4.0]]], generators=[[[2.0, 1.0], [1.0, 1.0]]]),
         ["Lie-algebra element 0", "discrete generator 0"]),
        (Lorentz(), [
            *(f"boost in the plane of axes 0 and {i}" for i in (1, 2, 3)),
            *(f"rotation in the plane of axes {i} and {j}" for i, j in ((1, 2), (1, 3), (2, 3))),
            "reflection of axes 1, 2, 3", "reflection of axis 0",
        ]),
        (Group(generators=[[[-1.0, 0.0], [0.0, -1.0]], [[1.0, 0.0], [0.0, 1.0]]]),
         ["inversion of all axes", "the identity"]),
    ],
    ids=str,
)  # fmt: skip
def test_generators_are_described(group, names):
    assert generator_names(group) == names
