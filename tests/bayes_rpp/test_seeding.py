"""One rule for seeds, wherever one is taken."""

import re

import numpy as np
import pytest
import torch

from analysis import equivariance_error, verify_symmetry
from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, LogDensity, RPPPrior, Vector, Z
from bayes_rpp.datasets import inertia
from bayes_rpp.prior_draws import prior_draws
from bayes_rpp.seeding import later_seed, seeded, seeded_generator

SMALLEST, LARGEST = -(2**63), 2**64 - 1


def test_seeds_that_torch_does_not_take_are_refused_wherever_one_is_given():
    model = BayesianModel(RPPEMLP(Vector, Vector, SO(3), channels=4, layers=1), RPPPrior(), Gaussian(0.1))
    density = LogDensity(lambda params: params["z"].sum(), {"z": torch.zeros(2)})
    x, reps = torch.eye(3), {"rep_in": Vector(SO(3)), "rep_out": Vector(SO(3))}
    takers = {
        "Group.sample": lambda seed: SO(3).sample(2, seed),
        "inertia": lambda seed: inertia(train=2, seed=seed),
        "BayesianModel.initial_params": model.initial_params,
        "LogDensity.initial_params": density.initial_params,
        "prior_draws": lambda seed: prior_draws(model, 2, seed),
        "equivariance_error": lambda seed: equivariance_error(model.network, x, seed=seed),
        "verify_symmetry": lambda seed: verify_symmetry(model.network, x, **reps, seed=seed),
        "seeded": lambda seed: seeded(seed, torch.device("cpu")).__enter__(),
    }
    for taken in (SMALLEST, LARGEST, np.int32(3)):
        for name, take in takers.items():
            if name != "seeded":
                take(taken)
    for refused, kind in [(SMALLEST - 1, ValueError), (LARGEST + 1, ValueError), (1.0, TypeError), (True, TypeError)]:
        for take in takers.values():
            with pytest.raises(kind, match=rf"seed must be an integer.*, got {re.escape(str(refused))}"):
                take(refused)


def test_later_seeds_go_round_and_the_largest_is_no_dead_end():
    assert [later_seed(seed, 2) for seed in (3, -2, LARGEST)] == [5, 0, 1]
    assert torch.equal(
        torch.rand(3, generator=seeded_generator(-1)), torch.rand(3, generator=seeded_generator(LARGEST))
    )
    group = Z(2)  # half of its elements are drawn anew, from later seeds
    error = equivariance_error(lambda x: x, torch.ones(40, 2), group, rep_in=Vector, rep_out=Vector, seed=LARGEST)
    assert float(error) < 1e-6
