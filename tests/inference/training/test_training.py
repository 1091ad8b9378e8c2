"""Adam on a density of slope one moves by its learning rate in every step, which makes training's schedule exact."""

import logging

import pytest
import torch

from bayes_rpp import BayesianModel, Gaussian, LogDensity, RPPPrior
from inference import MAP, DeepEnsemble
from inference.training.minibatches import Minibatches
from inference.training.parameter_stack import joint_stack
from tests.seeds import shifted

LR = 0.01


def distance(posterior, density, seed=0):
    """How far z went from the initial state, which follows from the seed."""
    member_seed = int(torch.randint(2**62, (1,), generator=torch.Generator().manual_seed(seed)))
    return posterior.samples["z"][0, 0] - density.initial_params(member_seed)["z"]


def assert_moved(moved, expected):
    torch.testing.assert_close(moved, torch.full_like(moved, expected), rtol=1e-6, atol=0)


def test_constant_schedule_takes_steps_of_lr(slope):
    posterior = MAP(epochs=40, lr=LR, schedule="constant").fit(slope, None, seed=0)
    assert_moved(distance(posterior, slope), 40 * LR)


def test_cosine_schedule_goes_from_lr_to_zero(slope):
    """The sum of (1 + cos(pi s / n)) / 2 over s = 0..n-1 is (n + 1) / 2."""
    posterior = MAP(epochs=40, lr=LR, schedule="cosine").fit(slope, None, seed=0)
    assert_moved(distance(posterior, slope), 20.5 * LR)


def test_snapshots_are_the_states_after_as_many_epochs_as_they_say(slope):
    posterior = MAP(epochs=40, lr=LR, schedule="constant", snapshots=3).fit(slope, None, seed=0)
    assert [snapshot.epoch for snapshot in posterior.history] == [10, 20, 30]
    for snapshot in posterior.history:
        assert_moved(distance(posterior.at(snapshot), slope), snapshot.epoch * LR)


@pytest.mark.parametrize(("epochs", "snapshots"), [(7, 6), (10, 4), (3, 1)])
def test_as_many_snapshots_as_were_asked_for_in_order(slope, epochs, snapshots):
    history = MAP(epochs=epochs, snapshots=snapshots).fit(slope, None, seed=0).history
    when = [snapshot.epoch for snapshot in history]
    assert len(when) == snapshots
    assert when == sorted(set(when))
    assert 0 < when[0] <= when[-1] < epochs


def test_more_snapshots_than_there_are_epochs_between_are_refused():
    with pytest.raises(ValueError, match=r"snapshots.*4.*epochs"):
        MAP(epochs=4, snapshots=4)


def test_minibatch_gradients_average_to_the_full_gradient(make_linear_problem):
    """One epoch's losses -log joint / N, each scaled by N / batch, have the mean of the full batch's loss."""
    model, pair = make_linear_problem(num_data=30)
    stack = joint_stack(model, [11, 12], 30)

    def gradients(parts):
        losses = torch.stack([stack.losses(batch) for batch in parts]).mean(0)
        return losses, torch.autograd.grad(losses.sum(), list(stack.coordinates.values()))

    parts = list(Minibatches(pair, 10, [0, 1], "cpu"))
    assert [x.shape for x, _ in parts] == [(2, 10, 7)] * 3
    whole = [tuple(part.expand(2, *part.shape) for part in pair)]
    torch.testing.assert_close(gradients(parts), gradients(whole), rtol=1e-10, atol=1e-12)
    # A single minibatch's gradient is another one.
    assert not torch.allclose(gradients(parts[:1])[0], gradients(whole)[0], rtol=1e-3)


def test_every_member_sees_every_example_once_an_epoch_in_its_own_order():
    x = torch.arange(10.0)[:, None]
    seen = list(Minibatches((x, -x), 4, [0, 1, 2], "cpu"))
    assert [part.shape[1] for part, _ in seen] == [4, 3, 3]
    orders = torch.cat([part for part, _ in seen], dim=1)[..., 0]
    assert torch.equal(orders.sort(dim=1).values, x[:, 0].expand(3, -1))
    assert len({tuple(order.tolist()) for order in orders}) == 3
    assert all(torch.equal(part, -outputs) for part, outputs in seen)


def test_a_remainder_of_one_example_does_not_move_the_mode(make_linear_problem):
    """30 examples in batches of at most 29 are two halves; a batch of one would count for all thirty."""
    model, pair = make_linear_problem(num_data=30)
    exact = MAP(epochs=2000, batch_size=None, lr=0.02).fit(model, pair, seed=0, progress=False)
    split = MAP(epochs=2000, batch_size=29, lr=0.02).fit(model, pair, seed=0, progress=False)
    assert float(exact.log_joint() - split.log_joint()) < 0.01
    for fitted in (exact, split):  # the loss in the stats is that of all data
        assert fitted.stats["loss"] == pytest.approx([-float(fitted.log_joint()) / 30], rel=1e-6)


def test_a_parameter_without_dimensions_is_trained():
    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.scale = torch.nn.Linear(3, 1), torch.nn.Parameter(torch.tensor(0.3))

        def forward(self, x):
            return self.scale * self.linear(x)

    model, x = BayesianModel(Scaled(), RPPPrior(), Gaussian(0.1), num_outputs=1), torch.randn(20, 3)
    fitted = DeepEnsemble(members=2, epochs=2).fit(model, (x, x[:, :1]), seed=0, progress=False)
    assert fitted.samples["scale"].shape == (2, 1)


def test_orders_change_from_epoch_to_epoch():
    x = torch.arange(10.0)[:, None]
    minibatches = Minibatches((x, x), 5, [0], "cpu")
    first, second = (torch.cat([part for part, _ in minibatches], dim=1) for _ in range(2))
    assert not torch.equal(first, second)


def test_interrupt_keeps_what_was_trained(slope, caplog):
    """Ctrl-C in the fourth epoch leaves the state after three."""
    calls = []

    def interrupted(params):
        calls.append(None)
        if len(calls) == 1 + 4:  # once to check the example, then once an epoch
            raise KeyboardInterrupt
        return params["z"].sum()

    density = LogDensity(interrupted, slope.example)
    with caplog.at_level(logging.WARNING):
        posterior = MAP(epochs=10, lr=LR, schedule="constant").fit(density, None, seed=0)
    assert_moved(distance(posterior, density), 3 * LR)
    assert posterior.stats["epochs"] == 3
    assert "interrupted in epoch 4 of 10" in caplog.text


def cliff():
    """A density whose value is finite everywhere, but whose gradient is NaN for z < 0."""

    def log_density(params):
        return torch.where(params["z"] < 0, torch.zeros(()), params["z"].sqrt()).sum()

    return LogDensity(log_density, {"z": torch.ones(1)})


@pytest.mark.statistical
def test_a_member_that_the_last_step_breaks_is_left_out(caplog):
    """The loss before the last step is finite, but the parameters after it are not."""
    density = cliff()
    with caplog.at_level(logging.WARNING):
        posterior = DeepEnsemble(members=64, epochs=1).fit(density, None, seed=shifted())
    assert torch.isfinite(posterior.samples["z"]).all()
    assert 0 < len(posterior.stats["diverged"]) < 64
    assert "diverged" in caplog.text
