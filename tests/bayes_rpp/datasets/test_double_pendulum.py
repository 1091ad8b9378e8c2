"""The double spring pendulum: its equations of motion, its symmetries, and what the wind breaks."""

import pytest
import torch

from bayes_rpp import O2eR3
from bayes_rpp.datasets import double_pendulum

REFLECTION = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))


def field_of(energy, z):
    """The equations of motion from the energy alone."""
    of_q, of_p = torch.func.grad(lambda z: energy(z).sum())(z).chunk(2, dim=-1)
    return torch.cat([of_p, -of_q], dim=-1)


def runge_kutta(energy, z, dt, steps):
    for _ in range(steps):
        k1 = field_of(energy, z)
        k2 = field_of(energy, z + dt / 2 * k1)
        k3 = field_of(energy, z + dt / 2 * k2)
        k4 = field_of(energy, z + dt * k3)
        z = z + dt * (k1 + 2 * k2 + 2 * k3 + k4) / 6
    return z


def test_the_motion_is_that_of_the_energy_and_keeps_it(subtests):
    for settings in ({}, {"wind": 0.01}, {"second_spring": 2.0, "wind": 0.05}):
        with subtests.test(msg=str(settings)):
            data = double_pendulum(train=20, test=5, seed=3, **settings)
            x = data.train.x.double()
            states = data.trajectory(data.function(x), x)
            levels = data.energy(states)
            assert float((levels - levels[:, :1]).abs().max()) < 1e-7
            moved = runge_kutta(data.energy, x, 0.01, 20)
            torch.testing.assert_close(moved, states[:, 1], rtol=0, atol=1e-7)
            torch.testing.assert_close(data.function(data.train.x), data.train.y, rtol=0, atol=2e-6)


def test_the_energy_is_the_formula():
    z = torch.tensor([[0.0, 0.0, -1.5, 0.0, 2.0, -1.5, 1.0, 0.0, 0.0, 0.0, 0.0, 2.0]], dtype=torch.float64)
    kinetic, first, second, height = 0.5 + 2.0, 0.5**2 / 2, 1.0**2 / 2, -3.0
    pushed = -0.1 * (-5.0) * 2.0  # -c w.(x_1 + x_2)
    assert float(double_pendulum(1, 0).energy(z)) == pytest.approx(kinetic + first + second + height)
    assert float(double_pendulum(1, 0, 0.1, second_spring=2.0).energy(z)) == pytest.approx(
        kinetic + first + 2 * second + height + pushed
    )


def test_the_group_about_the_vertical_is_kept_and_the_wind_breaks_it():
    still, windy = double_pendulum(30, 5), double_pendulum(30, 5, wind=0.05)
    x = still.train.x.double()
    assert still.group == O2eR3()
    assert (str(still.rep_in), str(still.rep_out)) == ("4*Vector", "16*Vector")
    for g in [*still.group.sample(4, seed=0), REFLECTION]:
        moved = still.rep_in.apply(g, x)
        torch.testing.assert_close(still.function(moved), still.rep_out.apply(g, still.function(x)), rtol=0, atol=1e-7)
        broken = windy.function(moved) - windy.rep_out.apply(g, windy.function(x))
        assert float(broken.abs().max()) > 1e-3


def test_the_same_seed_gives_the_same_starts_and_other_seeds_others():
    one, again, other = double_pendulum(6, 3, seed=1), double_pendulum(6, 3, seed=1), double_pendulum(6, 3, seed=2)
    for part, same, different in zip(one.train, again.train, other.train, strict=True):
        assert torch.equal(part, same)
        assert not torch.equal(part, different)
    assert one.test.x.shape == (3, 12)
    assert one.trajectory(one.test.y, one.test.x).shape == (3, 5, 12)
    assert torch.equal(one.trajectory(one.test.y, one.test.x)[:, 0], one.test.x)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"train": 0}, "train >= 1"), ({"test": -1}, "test >= 0"), ({"wind": float("nan")}, "finite")],
)
def test_bad_arguments_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        double_pendulum(**{"train": 3, "test": 1, **settings})
