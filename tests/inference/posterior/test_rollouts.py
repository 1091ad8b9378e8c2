"""Particles of transition models: which draws they follow, and their noise."""

import math

import pytest
import torch

from bayes_rpp import (
    MLP,
    RPPEMLP,
    BayesianModel,
    Categorical,
    D,
    Gaussian,
    LaplaceNoise,
    Regular,
    RPPPrior,
    Scalar,
    TransitionRollout,
    Vector,
    Z,
)
from inference import MAP, DeepEnsemble, Posterior
from tests.error_rate import agrees
from tests.scenarios.numbers import numbers
from tests.seeds import shifted

STATE, ACTION, STEPS = Vector + Scalar, Vector, 3


def posterior(members=3, likelihood=None, kind=RPPEMLP, epochs=1) -> Posterior:
    change = kind(STATE + ACTION, STATE, D(4), channels=2 * Regular, layers=1)
    model = BayesianModel(
        TransitionRollout(change.double(), ACTION, STEPS), RPPPrior(), likelihood or LaplaceNoise(0.1, learned=True)
    )
    data = numbers(20, 3 + 2 * STEPS), numbers(20, STEPS, 3)
    return DeepEnsemble(members=members, epochs=epochs).fit(model, data, seed=0, progress=False)


class Constant(torch.nn.Module):
    """The state, one number, grows by a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.group = Z(2)
        self.rep_in, self.rep_out = (2 * Scalar)(self.group), Scalar(self.group)
        self.change = torch.nn.Parameter(torch.zeros(1).double())

    def forward(self, x):
        return self.change.expand(*x.shape[:-1], 1)

    def roles(self):
        return {}


def growing(changes, likelihood=None) -> Posterior:
    """A posterior whose draws grow by these constants."""
    model = BayesianModel(TransitionRollout(Constant(), Scalar, 2), RPPPrior(), likelihood or Gaussian(0.01))
    changes = torch.tensor(changes).double()
    return Posterior(model, {"change.change": changes[:, None, None]})


def test_a_particle_of_a_fixed_member_is_that_members_trajectory():
    for kind in (RPPEMLP, MLP):
        fitted = posterior(kind=kind)
        state, actions = numbers(4, 3), numbers(4, 5, 2, seed=1)
        particles = fitted.rollout(state, actions, particles=7, noise=False, seed=3)
        x = torch.cat([state, actions.flatten(1)], dim=1)
        members = fitted.over(5).outputs(x)[:, 0].unflatten(-1, (5, 3))
        assert torch.equal(particles[:, :, 0], state.expand(7, -1, -1))
        away = (particles[:, None, :, 1:] - members).abs().flatten(2).amax(-1)  # (particle, member)
        followed = away.argmin(1)
        assert float(away.amin(1).max()) < 1e-12
        assert sorted(followed.bincount().tolist()) == [2, 2, 3]
        assert torch.equal(particles, fitted.rollout(state, actions, particles=7, noise=False, seed=3))


def test_few_particles_of_many_draws_follow_different_ones():
    fitted = growing([10.0**k for k in range(12)])
    ends = fitted.rollout(torch.zeros(2, 1), torch.zeros(2, 1, 1), particles=5, noise=False)[:, :, 1, 0]
    assert torch.equal(ends[:, 0], ends[:, 1])
    assert len(ends[:, 0].unique()) == 5


@pytest.mark.statistical
def test_random_members_are_drawn_anew_at_every_step_each_as_often():
    fitted, count, steps = growing([1.0, 100.0, 10000.0]), 3000, 6
    path = fitted.rollout(
        torch.zeros(2, 1), torch.zeros(2, steps, 1), particles=count, members="random", noise=False, seed=shifted(0)
    )
    taken = (path.diff(dim=2).squeeze(-1).log10() / 2).round().long()  # (particle, batch, step)
    is_taken = torch.nn.functional.one_hot(taken, 3).double()
    assert agrees(is_taken.flatten(1), 1 / 3)
    again = torch.einsum("pbsi,pbtj->pbstij", is_taken[:, :, :3], is_taken[:, :, 3:])
    assert agrees(again.flatten(1), 1 / 9)
    assert agrees((is_taken[:, 0] * is_taken[:, 1]).sum(-1), 1 / 3)  # states do not share members
    drawn = torch.stack(
        [fitted.sample(torch.zeros(1, 1), torch.zeros(1, 1), seed=s, noise=False)[0] for s in range(60)]
    )
    assert set(drawn[:, 0].tolist()) == {1.0, 100.0, 10000.0}


@pytest.mark.statistical
def test_noise_is_that_of_the_first_step_of_the_draw():
    first = {"shared": ([0.3, 2.0], 0.3, 2.0), "of each output": ([[0.3, 9.0], [2.0, 9.0]], 0.3, 2.0)}
    for name, (scales, *expected) in first.items():
        fitted = growing([0.0, 0.0], LaplaceNoise(1.0, learned=True, per_output=name != "shared"))
        fitted.samples["noise_scale"] = torch.tensor(scales).double()[:, None]
        particles = fitted.rollout(torch.zeros(1, 1), torch.zeros(1, 2, 1), particles=20_000, seed=shifted(0))
        moves = particles[:, 0].diff(dim=1)[..., 0].abs()  # |Laplace| has mean b
        ends = moves[0::2], moves[1::2]
        orders = [all(map(agrees, ends, order)) for order in (expected, expected[::-1])]
        assert sum(orders) == 1, name  # each draw has its own
    for likelihood, spread in (
        (Gaussian(4.0), math.sqrt(8 / math.pi)),
        (Gaussian((4.0, 9.0)), math.sqrt(8 / math.pi)),
        (LaplaceNoise((3.0, 1.0)), 3.0),
    ):
        ends = growing([0.0], likelihood).sample(torch.zeros(20_000, 1), torch.zeros(20_000, 1), seed=shifted(0))
        assert agrees(ends.abs(), spread)


def test_files_hold_transition_models_and_their_rollouts(tmp_path):
    fitted = posterior()
    state, actions = numbers(2, 3), numbers(2, 4, 2)
    loaded = Posterior.load(fitted.save(tmp_path / "saved"))
    assert torch.equal(loaded.rollout(state, actions, seed=1), fitted.rollout(state, actions, seed=1))
    before = torch.random.get_rng_state()
    fitted.sample(state, actions[:, 0], seed=0)
    assert torch.equal(before, torch.random.get_rng_state())


def test_many_rows_come_in_pieces_with_the_same_values(monkeypatch):
    fitted = posterior()
    state, actions = numbers(50, 3), numbers(50, 4, 2)
    whole = fitted.rollout(state, actions, members="random", noise=False)
    monkeypatch.setattr("inference.posterior.rollouts.AT_ONCE", 2**14)
    torch.testing.assert_close(
        fitted.rollout(state, actions, members="random", noise=False), whole, rtol=1e-12, atol=1e-12
    )


def test_what_does_not_fit_is_refused_in_plain_words():
    fitted, state, actions = posterior(members=1), torch.zeros(2, 3), torch.zeros(2, 4, 2)
    for given, options, message in (
        ((torch.zeros(3), actions), {}, r"state must have shape \(batch, 3\), got \(3,\)"),
        ((torch.zeros(0, 3), actions), {}, r"state must have shape \(batch, 3\), got \(0, 3\)"),
        ((state, torch.zeros(4, 2)), {}, r"actions must have shape \(2, time, 2\), got \(4, 2\)"),
        ((state, torch.full((2, 4, 2), torch.nan)), {}, "actions have NaN"),
        ((state, actions), {"particles": 10**12}, r"these trajectories need [\d,]+ bytes, and [\d,]+ are free"),
        ((state, actions), {"particles": 0}, "particles must be a positive integer, got 0"),
        ((state, actions), {"members": "all"}, "members must be 'fixed' or 'random', got 'all'"),
    ):
        with pytest.raises(ValueError, match=message):
            fitted.rollout(*given, **options)
    single = Posterior(fitted.model.to(dtype=torch.float32), {k: v.float() for k, v in fitted.samples.items()})
    with pytest.raises(ValueError, match=r"state has numbers that torch\.float32, .* cannot hold"):
        single.rollout(state.double() + 1e300, actions)
    with pytest.raises(ValueError, match=r"action must have shape \(2, m\), one for each state, got \(1, 2\)"):
        fitted.sample(state, actions[:1, 0], seed=0)
    plain = BayesianModel(MLP(Vector, Scalar, D(4), channels=4, layers=1), RPPPrior(), Gaussian(1.0))
    other = MAP(epochs=1).fit(plain, (torch.zeros(3, 2), torch.zeros(3, 1)), seed=0, progress=False)
    for call in (lambda: other.rollout(state, actions), lambda: other.over(3)):
        with pytest.raises(TypeError, match=r"ollout, got one of a MLP"):
            call()
    labels = BayesianModel(fitted.model.network, RPPPrior(), Categorical())
    weights = {name: value for name, value in fitted.samples.items() if "noise" not in name}
    with pytest.raises(TypeError, match="noise=False"):
        Posterior(labels, weights).rollout(state, actions)
