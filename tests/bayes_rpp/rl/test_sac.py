"""Policies for soft actor-critic."""

from __future__ import annotations

import copy
import math
import sys

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import CombinedExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

from bayes_rpp import Z, rl
from bayes_rpp.rl import (
    EnvironmentSymmetry,
    RPPSACPolicy,
    SymmetricVecNormalize,
    environment_symmetry,
    sac_settings,
)
from bayes_rpp.rl.sac.pathway_adam import PathwayAdam
from bayes_rpp.rl.sac.policy import unsigned
from bayes_rpp.rl.sac.stacked_linear import StackedRPPLinear

from .test_symmetries import make

ENVIRONMENTS = ["Swimmer-v5", "Hopper-v5", "HalfCheetah-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5"]


def learner(env_id: str = "Walker2d-v5", env=None, net_arch=(16, 16), **policy_kwargs) -> SAC:
    policy_kwargs = {"symmetry": environment_symmetry(env_id), "net_arch": list(net_arch), **policy_kwargs}
    env = make(env_id) if env is None else env
    return SAC("RPPPolicy", env, policy_kwargs=policy_kwargs, seed=0, device="cpu", learning_starts=20, batch_size=32)


def errors(model: SAC, symmetry: EnvironmentSymmetry) -> tuple[float, float, float]:
    """How far mean actions, standard deviations and values are from equivariant, over all generators."""
    random = torch.Generator().manual_seed(0)
    s = torch.randn(64, symmetry.observation_size, generator=random)
    if symmetry.observation_size != symmetry.rep_state.size:
        s[:, 1:5] = nn.functional.normalize(s[:, 1:5], dim=-1)
    a = torch.rand(64, symmetry.rep_action.size, generator=random) * 2 - 1
    found = [0.0, 0.0, 0.0]
    with torch.no_grad():
        mean, log_std, _ = model.actor.get_action_dist_params(s)
        values = torch.stack(model.critic(s, a))
        for g in symmetry.group.generators:
            moved = symmetry.transform_observation(g, s)
            mean_moved, log_std_moved, _ = model.actor.get_action_dist_params(moved)
            differences = (
                mean_moved - symmetry.transform_action(g, mean),
                log_std_moved - unsigned(symmetry.rep_action).apply(g, log_std),
                torch.stack(model.critic(moved, symmetry.transform_action(g, a))) - values,
            )
            found = [max(old, float(new.abs().max())) for old, new in zip(found, differences, strict=True)]
    return tuple(found)


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_policies_start_equivariant_and_critics_invariant(env_id):
    symmetry = environment_symmetry(env_id)
    model = learner(env_id)
    assert max(errors(model, symmetry)) < 1e-5
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    assert min(errors(model, symmetry)) > 1e-3  # the dense part breaks it


def test_entries_start_as_large_as_pytorchs():
    symmetry = environment_symmetry("Walker2d-v5")
    layer = learner(net_arch=(256, 256)).actor.latent_pi.layers[1]
    assert float(layer.weight.detach().square().mean()) == pytest.approx(1 / (3 * 256), rel=0.05)
    assert symmetry.group.order == 2


def test_critics_of_a_stack_are_those_one_by_one():
    symmetry = environment_symmetry("Ant-v5")
    critic = learner("Ant-v5").critic
    x = torch.randn(5, symmetry.rep_state.size + symmetry.rep_action.size)
    for layer in critic.stack.layers[:1]:
        together = layer(x)
        for member in range(2):
            alone = nn.functional.linear(x, layer.weight[member], layer.bias[member])
            torch.testing.assert_close(together[member], alone)


def test_training_goes_on_after_saving_and_targets_move(tmp_path):
    model = learner()
    s, a = torch.randn(8, 17), torch.rand(8, 6)
    before = torch.stack(model.critic_target(s, a))
    model.learn(150)
    assert (torch.stack(model.critic_target(s, a)) - before).abs().min() > 0
    model.save(tmp_path / "model")
    again = SAC.load(tmp_path / "model", env=make("Walker2d-v5"), device="cpu")
    observation = np.ones(17)
    np.testing.assert_array_equal(
        again.predict(observation, deterministic=True)[0], model.predict(observation, deterministic=True)[0]
    )
    assert isinstance(again.actor.optimizer, PathwayAdam)
    again.learn(50, reset_num_timesteps=False)
    model.policy.save(tmp_path / "policy")
    policy = RPPSACPolicy.load(tmp_path / "policy", device="cpu")
    np.testing.assert_array_equal(policy.predict(observation, deterministic=True)[0].shape, (6,))


def test_it_is_an_ordinary_policy_of_the_library():
    """Several environments, callbacks, three critics, plain critics, and none but equivariant weights."""
    calls = []

    class Counter(BaseCallback):
        def _on_step(self) -> bool:
            calls.append(1)
            return True

    model = learner(env=DummyVecEnv([lambda: make("Walker2d-v5")] * 2), n_critics=3, decay=math.inf)
    model.learn(120, callback=Counter())
    assert calls
    assert len(model.critic(torch.randn(4, 17), torch.rand(4, 6))) == 3
    assert max(errors(model, environment_symmetry("Walker2d-v5"))) < 1e-5
    plain = learner(rpp_critic=False)
    plain.learn(60)
    assert not isinstance(plain.critic, type(model.critic))
    assert errors(plain, environment_symmetry("Walker2d-v5"))[2] > 1e-2


def test_dense_parts_decay_and_equivariant_parts_do_not():
    rep = (3 * environment_symmetry("Walker2d-v5").rep_action)(environment_symmetry("Walker2d-v5").group)
    layer = StackedRPPLinear(rep, rep, members=2)
    with torch.no_grad():
        layer.weight += torch.randn(layer.weight.shape)
    flat = layer.weight.detach().clone().flatten(1)
    kept = layer.basis.project(flat)
    optimizer = PathwayAdam(layer.parameters(), layers=[layer], decay=7.0, lr=1e-3)
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for _ in range(35):
        optimizer.step()
    expected = kept + (1 - 7.0 * 1e-3 * 10) ** 3 * (flat - kept)
    torch.testing.assert_close(layer.weight.detach().flatten(1), expected)


@pytest.mark.parametrize("env_id", ["Walker2d-v5", "Ant-v5"])
def test_symmetric_normalisation_commutes_with_the_symmetry_and_the_ordinary_does_not(env_id):
    symmetry, errors = environment_symmetry(env_id), {}
    for kind in (SymmetricVecNormalize, VecNormalize):
        arguments = (symmetry,) if kind is SymmetricVecNormalize else ()
        env = kind(DummyVecEnv([lambda: make(env_id)] * 2), *arguments)
        env.action_space.seed(0)
        env.seed(0)
        env.reset()
        for _ in range(50):
            s, *_ = env.step(np.array([env.action_space.sample() for _ in range(2)]))
        s = torch.as_tensor(env.get_original_obs(), dtype=torch.float64)
        g = symmetry.group.generators[0]

        def normalised(x, env=env):
            return torch.as_tensor(env.normalize_obs(x.numpy()), dtype=torch.float64)

        of = symmetry.features.of
        moved = symmetry.rep_state.apply(g, of(normalised(s)))
        difference = of(normalised(symmetry.transform_observation(g, s))) - moved
        errors[kind] = float(difference.abs().max())
    assert errors[SymmetricVecNormalize] < 1e-5
    assert errors[VecNormalize] > 0.1


def test_presets_are_settings_of_the_learner():
    settings = sac_settings("Walker2d-v5", "paper")
    model = SAC(RPPSACPolicy, make("Walker2d-v5"), device="cpu", **settings)
    assert model.tau == 0.004
    assert model.actor.optimizer.param_groups[0]["betas"] == (0.5, 0.999)
    plain = SAC(RPPSACPolicy, make("Walker2d-v5"), device="cpu", **sac_settings("Walker2d-v5"))
    assert plain.tau == 0.005
    ratio = model.actor.mu.layer.weight.detach().std() / plain.actor.mu.layer.weight.detach().std()
    assert float(ratio) == pytest.approx(0.01, rel=0.2)
    with pytest.raises(ValueError, match="preset must be"):
        sac_settings("Walker2d-v5", "best")


def test_the_count_of_steps_is_kept_with_the_state():
    """A copy, and a learner that was saved, decay when the one that goes on does."""
    policy = learner().policy

    def step(policy, count):
        for _ in range(count):
            for parameter in policy.actor.parameters():
                parameter.grad = torch.ones_like(parameter)
            policy.actor.optimizer.step()

    step(policy, 7)
    again = learner().policy
    again.load_state_dict(policy.state_dict())
    again.actor.optimizer.load_state_dict(policy.actor.optimizer.state_dict())
    others = [copy.deepcopy(policy), again]
    step(policy, 8)
    for other in others:
        step(other, 8)
        for name, value in policy.actor.state_dict().items():
            torch.testing.assert_close(value, other.actor.state_dict()[name], rtol=0, atol=1e-7)


def test_bad_input_says_what_would_be_right(monkeypatch):
    walker = environment_symmetry("Walker2d-v5")
    one_sided = gymnasium.wrappers.RescaleAction(
        make("Walker2d-v5"), np.array([0, -1, -1, -1, -1, -1.0], np.float32), np.ones(6, np.float32)
    )
    mixing = EnvironmentSymmetry.of_generators(
        Z(2),
        [torch.eye(17)],
        [torch.block_diag(torch.tensor([[0.6, 0.8], [0.8, -0.6]], dtype=torch.float64), torch.eye(4).double())],
    )
    cases = [
        (lambda: learner("Ant-v5", symmetry=environment_symmetry("Ant-v5", "SO(2)")), "finite group"),
        (lambda: learner("Ant-v5", env=make("Ant-v5", bodies=True)), "observations of 27 numbers"),
        (lambda: learner(env=one_sided), "must be symmetric"),
        (lambda: learner(symmetry=mixing), "signed permutations"),
        (
            lambda: SAC("RPPPolicy", make("Walker2d-v5"), use_sde=True, policy_kwargs={"symmetry": walker}),
            "use_sde=True is not offered",
        ),
        (lambda: learner(decay=-1.0), "decay must not be negative"),
        (lambda: learner(optimizer_class=torch.optim.SGD), "optimizer_class must be Adam"),
        (lambda: learner(features_extractor_class=CombinedExtractor), "features_extractor_class must be Flatten"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    for name in [name for name in sys.modules if name.startswith("bayes_rpp.rl.sac")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"pip install 'bayes_rpp\[rl\]'"):
        rl.RPPSACPolicy  # noqa: B018
