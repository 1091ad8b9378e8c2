"""Declared symmetries of environments against their simulators."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch

from bayes_rpp import SO, Z
from bayes_rpp.rl import EnvironmentSymmetry, QuaternionFeatures, environment_symmetry, signed_permutation

WITHOUT = {
    "Ant-v5": ["cfrc_ext"],
    "Humanoid-v5": ["cfrc_ext", "cinert", "cvel", "qfrc_actuator"],
}
EXACT = [
    ("Swimmer-v5", "Z(2)"),
    ("Swimmer-v4", "Z(2)"),
    ("Walker2d-v5", "Z(2)"),
    ("Ant-v5", "D(4)"),
    ("Ant-v5", "Z(4)"),
    ("Ant-v5", "SO(2)"),
    ("Ant-v4", "D(4)"),
]
APPROXIMATE = [  # the largest median of an error
    ("Swimmer-v5", "Z(2) * Z(2)", 1.0),
    ("Hopper-v5", "Z(2)", 2.0),
    ("HalfCheetah-v5", "Z(2)", 0.4),
    ("Walker2d-v4", "Z(2)", 0.1),
    ("Walker2d-v5", "Z(2) * Z(2)", 2.0),
    ("Humanoid-v5", "Z(2)", 0.02),
    ("Humanoid-v5", "SO(2)", 1e-6),
]


def make(env_id: str, bodies: bool = False) -> gymnasium.Env:
    options = {} if bodies else {f"include_{name}_in_observation": False for name in WITHOUT.get(env_id, [])}
    if bodies and env_id == "Ant-v4":
        options = {"use_contact_forces": True}
    return gymnasium.make(env_id, **options)


@pytest.fixture(autouse=True)
def _quiet(recwarn):
    """Version 4 warns that it is old."""


def with_wrong_sign(symmetry: EnvironmentSymmetry, coordinate: int) -> EnvironmentSymmetry:
    """Of the state, or of the action after it."""
    (g,) = symmetry.group.generators
    state, action = symmetry.rep_state.rho(g), symmetry.rep_action.rho(g)
    if coordinate < len(state):
        state[coordinate] *= -1
    else:
        action[coordinate - len(state)] *= -1
    return EnvironmentSymmetry.of_generators(symmetry.group, [state], [action], features=symmetry.features)


@pytest.mark.parametrize(("env_id", "group"), EXACT)
def test_exact_symmetries_are_exact_in_the_simulator(env_id, group):
    report = environment_symmetry(env_id, group).verify(make(env_id))
    assert report.exact, str(report)
    assert "exact" in str(report)


@pytest.mark.parametrize(("env_id", "group", "largest"), APPROXIMATE)
def test_approximate_symmetries_have_the_errors_that_are_said(env_id, group, largest):
    report = environment_symmetry(env_id, group).verify(make(env_id))
    assert not report.exact
    assert (report.errors["median"] < largest).all(), str(report)
    assert "approximate" in str(report)


def test_numbers_for_each_body_transform_too():
    for env_id, group in (("Ant-v5", "D(4)"), ("Ant-v4", "D(4)"), ("Humanoid-v5", "Z(2)"), ("Humanoid-v4", "SO(2)")):
        env = make(env_id, bodies=True)
        symmetry = environment_symmetry(env_id, group, bodies=True)
        assert len(symmetry.names) == symmetry.observation_size == env.observation_space.shape[0]
        errors = symmetry.verify(env).errors
        assert (errors["median"] < (1e-6 if group != "Z(2)" else 0.02)).all()


def test_humanoids_knees_are_what_breaks_its_mirror_image():
    report = environment_symmetry("Humanoid-v5").verify(make("Humanoid-v5"))
    assert set(report.blamed(report.errors.index[0])[:2]) == {"left_knee velocity", "right_knee velocity"}


@pytest.mark.parametrize("env_id", ["Swimmer-v5", "Walker2d-v5"])
def test_a_wrong_sign_is_caught_and_its_coordinate_named(env_id):
    symmetry, env = environment_symmetry(env_id), make(env_id)
    (g,) = symmetry.group.generators
    alone = torch.block_diag(symmetry.rep_state.rho(g), symmetry.rep_action.rho(g)).diagonal().nonzero().flatten()
    names = [*symmetry.verify(env).coordinates.index, *(f"action[{k}]" for k in range(symmetry.rep_action.size))]
    for k in alone.tolist():
        report = with_wrong_sign(symmetry, k).verify(env)
        (generator,) = report.errors.index
        assert not report.exact
        assert report.blamed(generator)[0] == names[k], (names[k], str(report))
        assert report.wrong_signs[generator][names[k]] < 1e-6
        assert "A wrong sign?" in str(report)
    assert not any(environment_symmetry("Hopper-v5").verify(make("Hopper-v5")).wrong_signs.values())


def test_a_wrong_sign_on_coordinates_that_change_places_is_named():
    symmetry, env = environment_symmetry("Walker2d-v5"), make("Walker2d-v5")
    (g,) = symmetry.group.generators
    for rows, name in (((2, 5), "thigh_joint and thigh_left_joint"), ((11, 14), "thigh_joint velocity")):
        state = symmetry.rep_state.rho(g)
        state[list(rows)] *= -1
        wrong = EnvironmentSymmetry.of_generators(symmetry.group, [state], [symmetry.rep_action.rho(g)])
        report = wrong.verify(env)
        assert report.blamed(report.errors.index[0])[0].startswith(name), str(report)
    action = symmetry.rep_action.rho(g)
    action[[0, 3]] *= -1
    report = EnvironmentSymmetry.of_generators(symmetry.group, [symmetry.rep_state.rho(g)], [action]).verify(env)
    assert report.blamed(report.errors.index[0])[0] == "action[0] and action[3]"


def test_states_that_do_not_come_back_from_their_observations_are_refused():
    """Wrappers that change observations, a setter that does nothing or forgets, and what stands still."""
    wrappers = gymnasium.wrappers
    pole = EnvironmentSymmetry.of_generators(Z(2), [-torch.eye(4)], [-torch.eye(1)])
    inverted = gymnasium.make("InvertedPendulum-v5")
    turned = wrappers.TransformObservation(inverted, lambda o: o[[2, 3, 0, 1]], inverted.observation_space)
    swimmer = make("Swimmer-v5")
    scaled = wrappers.TransformObservation(swimmer, lambda o: 3 * o, swimmer.observation_space)
    spin = EnvironmentSymmetry.of_generators(
        Z(2), [torch.diag(torch.tensor([1.0, -1.0, -1.0]))], [-torch.eye(1)], set_observation=lambda env, o: None
    )
    frozen = wrappers.TransformObservation(make("Swimmer-v5"), lambda o: 0 * o, swimmer.observation_space)
    for symmetry, env, message in (
        (pole, turned, "does not go on as before"),
        (environment_symmetry("Walker2d-v5"), wrappers.NormalizeObservation(make("Walker2d-v5")), "wrappers"),
        (environment_symmetry("Swimmer-v5"), scaled, "does not go on as before"),
        (spin, gymnasium.make("Pendulum-v1"), "set_observation"),
        (environment_symmetry("Swimmer-v5"), frozen, "does not move"),
        (
            environment_symmetry("Swimmer-v5"),
            wrappers.RescaleAction(make("Swimmer-v5"), np.float32(0), np.float32(1)),
            "must be symmetric",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            symmetry.verify(env)
    with pytest.raises(TypeError, match=r"gymnasium\.make"):
        pole.verify("InvertedPendulum-v5")


def test_images_are_a_group_action_whose_quaternions_stay_unit():
    symmetry = environment_symmetry("Ant-v5")
    s = torch.as_tensor(make("Ant-v5").reset(seed=0)[0])
    s[1:5] = torch.nn.functional.normalize(torch.tensor([0.4, -0.2, 0.7, 0.5]).double(), dim=0)
    g, h = symmetry.group.sample(2, seed=1)
    twice = symmetry.transform_observation(g, symmetry.transform_observation(h, s))
    once = symmetry.transform_observation(g @ h, s)
    torch.testing.assert_close(twice, once, rtol=0, atol=1e-12)
    assert float(once[1:5].norm()) == pytest.approx(1.0, abs=1e-12)
    action = torch.arange(8.0).double()
    torch.testing.assert_close(
        symmetry.transform_action(g, symmetry.transform_action(h, action)), symmetry.transform_action(g @ h, action)
    )


def test_quaternions_and_their_negatives_have_the_same_features_and_come_back():
    features = QuaternionFeatures(start=1)
    x = torch.randn(50, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[0, 1:5] = torch.tensor([0.0, 1.0, 0.0, 0.0])  # half a turn, where a trace gives no w
    x[:, 1:5] = torch.nn.functional.normalize(x[:, 1:5], dim=-1)
    negative = x.clone()
    negative[:, 1:5] *= -1
    of = features.of(x)
    torch.testing.assert_close(of, features.of(negative), rtol=0, atol=0)
    rotation = of[:, 1:10].unflatten(-1, (3, 3))
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).double().expand(50, 3, 3), rtol=0, atol=1e-12)
    back = features.observation(of)
    torch.testing.assert_close(features.of(back), of, rtol=0, atol=1e-12)
    assert len(features.names([str(k) for k in range(7)])) == features.size(7) == of.shape[-1]


def test_an_environment_of_ones_own_is_declared_in_a_few_lines():
    def put(env, observation):
        position, sines, cosines, velocities, _ = np.split(observation, [1, 3, 5, 8])
        env.unwrapped.set_state(np.concatenate([position, np.arctan2(sines, cosines)]), velocities)

    env = gymnasium.make("InvertedDoublePendulum-v5")
    mirror = signed_permutation(range(9), negated=[0, 1, 2, 5, 6, 7, 8])
    declared = EnvironmentSymmetry.of_generators(Z(2), [mirror], [-torch.eye(1)], set_observation=put)
    errors = declared.verify(env).errors  # its gravity is 1e-5 off the vertical
    assert (errors["largest"] < 1e-5).all()
    wrong = signed_permutation(range(9), negated=[0, 1, 2, 3, 5, 6, 7, 8])  # a cosine keeps its sign
    report = EnvironmentSymmetry.of_generators(Z(2), [wrong], [-torch.eye(1)], set_observation=put).verify(env)
    assert report.blamed(report.errors.index[0]) == ["observation[3]"]


def test_bad_input_says_what_would_be_right():
    swimmer = environment_symmetry("Swimmer-v5")
    cases = [
        (lambda: environment_symmetry("CartPole-v1"), "no symmetry is declared for 'CartPole-v1'.*of_generators"),
        (lambda: environment_symmetry("Ant-v5", "O(3)"), r"group must be one of 'D\(4\)', 'Z\(4\)', 'SO\(2\)'"),
        (lambda: environment_symmetry("Ant-v5").verify(make("Ant-v5", bodies=True)), "27 numbers.*include_cfrc_ext"),
        (lambda: swimmer.verify(gymnasium.make("CartPole-v1")), r"shape \(4,\)"),
        (lambda: swimmer.verify(gymnasium.make("MountainCar-v0")), r"shape \(2,\)"),
        (
            lambda: EnvironmentSymmetry.of_generators(Z(2), [-torch.eye(4)], [-torch.eye(1)]).verify(
                gymnasium.make("CartPole-v1")
            ),
            "continuous actions",
        ),
        (
            lambda: EnvironmentSymmetry.of_generators(Z(2), [-torch.eye(3)], [-torch.eye(1)]).verify(
                gymnasium.make("Pendulum-v1")
            ),
            "no MuJoCo environment: give set_observation",
        ),
        (
            lambda: EnvironmentSymmetry.of_generators(Z(2), [-torch.eye(9)], [-torch.eye(1)]).verify(
                gymnasium.make("InvertedDoublePendulum-v5")
            ),
            "3 positions and 3 velocities",
        ),
        (lambda: environment_symmetry("Walker2d-v5", bodies=True), "leave bodies=False"),
        (lambda: signed_permutation([0, 0]), "each of 0 to 1 once"),
        (lambda: signed_permutation([0, 1], negated=[2]), "coordinates from 0 to 1"),
        (lambda: EnvironmentSymmetry.of_generators(Z(2), [2 * torch.eye(2)], [torch.eye(1)]), "no representation"),
        (lambda: EnvironmentSymmetry.of_generators(SO(2), [torch.eye(2)], [torch.eye(1)]), "must hold"),
        (lambda: swimmer.verify(make("Swimmer-v5"), states=0), "at least 1"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
