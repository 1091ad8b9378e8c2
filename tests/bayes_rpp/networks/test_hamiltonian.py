"""Rollouts of Hamiltonians against closed forms, and against the network unrolled by hand."""

import copy
import itertools
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from analysis import equivariance_error, log_evidence, prior_sweep
from analysis.evidence import LaplaceEvidence
from bayes_rpp import (
    EMLP,
    MLP,
    RPPEMLP,
    SL,
    SO,
    BayesianModel,
    Gaussian,
    HamiltonianRollout,
    InvariantLift,
    LiftedNetwork,
    NormalizedNetwork,
    O,
    O2eR3,
    PseudoScalar,
    RPPPrior,
    Scalar,
    T,
    Vector,
    parse_rep,
)
from inference import HMC, MAP, DeepEnsemble, Laplace, Posterior
from inference.memory import Cost
from tests.scenarios.numbers import numbers

REP = 2 * Vector


class Oscillator(nn.Module):
    """H = (|p|^2 + w^2 |q|^2) / 2."""

    def __init__(self, frequency=1.0):
        super().__init__()
        self.rep_in, self.rep_out = REP(O(3)), Scalar(O(3))
        self.frequency = nn.Parameter(torch.tensor(frequency, dtype=torch.float64))

    def forward(self, z):
        q, p = z.chunk(2, dim=-1)
        return (p.square().sum(-1, keepdim=True) + self.frequency**2 * q.square().sum(-1, keepdim=True)) / 2


def turned(z, angle, w):
    q, p = z.chunk(2, dim=-1)
    return torch.cat([q * math.cos(angle) + p * math.sin(angle) / w, p * math.cos(angle) - w * q * math.sin(angle)], -1)


def energies():
    lift = InvariantLift(REP, SO(3))
    return {
        "RPPEMLP": RPPEMLP(REP, Scalar, SO(3), channels=14, layers=2),
        "collapsed": RPPEMLP(REP, Scalar, SO(3), channels=14, layers=1, parametrization="collapsed"),
        "EMLP": EMLP(REP, Scalar, O(3), channels=14, layers=2, bilinear="full"),
        "MLP": MLP(REP, Scalar, O(3), channels=14, layers=2),
        "lifted": LiftedNetwork(RPPEMLP(lift.rep_out, Scalar, SO(3), channels=8 * Scalar, layers=1), lift),
        "normalised": NormalizedNetwork.fit(RPPEMLP(REP, Scalar, O(3), channels=14).double(), 3 * numbers(50, 6)),
    }


def unrolled(energy, z, steps, dt):
    """By autograd of the network itself, its weights summed anew at each evaluation."""

    def field(z):
        (gradient,) = torch.autograd.grad(energy(z).sum(), z, create_graph=True)
        of_q, of_p = gradient.chunk(2, dim=-1)
        return torch.cat([of_p, -of_q], dim=-1)

    states = []
    for _ in range(steps):
        k1 = field(z)
        k2 = field(z + dt / 2 * k1)
        k3 = field(z + dt / 2 * k2)
        k4 = field(z + dt * k3)
        z = z + dt * (k1 + 2 * k2 + 2 * k3 + k4) / 6
        states.append(z)
    return torch.cat(states, dim=-1)


def test_an_oscillator_turns_with_errors_of_fourth_order():
    z, w, errors = numbers(5, 6), 1.3, []
    for steps in (10, 20, 40):
        rollout = HamiltonianRollout(Oscillator(w), steps, 2.0 / steps)
        path = rollout.trajectory(z).detach()
        exact = torch.stack([turned(z, w * k * 2.0 / steps, w) for k in range(steps + 1)], dim=1)
        assert torch.equal(path[:, 1:].flatten(1), rollout(z).detach())
        errors.append(float((path - exact).abs().max()))
    assert errors[2] < 1e-5
    assert all(12 < coarse / fine < 20 for coarse, fine in itertools.pairwise(errors))
    assert rollout.trajectory(z, steps=3).shape == (5, 4, 6)


def test_rollouts_and_their_gradients_are_those_of_the_network_unrolled_by_hand(subtests):
    for name, energy in energies().items():
        with subtests.test(msg=name):
            torch.manual_seed(0)
            energy = energy.double()
            z = numbers(4, energy.rep_in.size).requires_grad_()
            rollout = HamiltonianRollout(energy, 3, 0.1)
            ours, by_hand = rollout(z), unrolled(energy, z, 3, 0.1)
            torch.testing.assert_close(ours, by_hand, rtol=1e-11, atol=1e-11)
            weights = [z, *energy.parameters()]
            gradients = [torch.autograd.grad(out.square().sum(), weights, allow_unused=True) for out in (ours, by_hand)]
            for own, expected in zip(*gradients, strict=True):
                assert (own is None) == (expected is None)
                if own is not None:
                    torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-9)


def test_rollouts_of_an_invariant_energy_are_equivariant_and_keep_the_energy(subtests):
    for energy in (EMLP(REP, Scalar, O(3), channels=14), EMLP(Vector + T(0, 1), Scalar, SL(2), channels=14)):
        with subtests.test(msg=str(energy.group)):
            rollout = HamiltonianRollout(energy.double(), 4, 0.02)
            z = 0.5 * numbers(6, energy.rep_in.size)
            for g in energy.group.sample(4, seed=1):
                moved = rollout(rollout.rep_in.apply(g, z))
                torch.testing.assert_close(moved, rollout.rep_out.apply(g, rollout(z)), rtol=1e-8, atol=1e-8)
            levels = energy(rollout.trajectory(z)).detach()
            assert float((levels - levels[:, :1]).abs().max()) < 1e-6


def test_the_phase_volume_shrinks_as_the_method_says():
    """det dz(dt)/dz(0) = |R(i w dt)|^2 for each of three pairs, R the method's stability function; 1 by Liouville."""
    for dt in (0.4, 0.1):
        rollout, x = HamiltonianRollout(Oscillator(1.3), 1, dt), 1.3 * dt
        found = torch.linalg.det(torch.func.jacrev(rollout)(numbers(6)).detach())
        assert float(found) == pytest.approx((1 - x**6 / 72 + x**8 / 576) ** 3, abs=1e-12)


def test_weights_are_those_of_the_moment_in_copies_types_and_threads():
    rollout = HamiltonianRollout(RPPEMLP(REP, Scalar, SO(3), channels=14, layers=1), 2, 0.1)
    z, before = numbers(5, 6), copy.deepcopy(rollout).double()
    same = rollout.double()(z)
    torch.testing.assert_close(before(z), same, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        for parameter in rollout.parameters():
            parameter.mul_(2)
    assert not torch.allclose(rollout(z), same)
    torch.testing.assert_close(before(z), same, rtol=1e-12, atol=1e-12)
    expected = [rollout(z[[row]]) for row in range(5)]
    with ThreadPoolExecutor(8) as pool:
        for row, found in enumerate(pool.map(lambda row: rollout(z[[row % 5]]), range(200))):
            assert torch.equal(found, expected[row % 5])


def quadratic_energy(kind=RPPEMLP):
    """Linear in the inner products, which hold the oscillator's energy."""
    lift = InvariantLift(REP, SO(3))
    return LiftedNetwork(kind(lift.rep_out, Scalar, SO(3), layers=0), lift)


def test_engines_and_evidences_find_the_oscillator_and_files_hold_it(tmp_path):
    x = numbers(20, 6)
    exact = HamiltonianRollout(Oscillator(), 2, 0.3)(x).detach()
    model = BayesianModel(HamiltonianRollout(quadratic_energy().double(), 2, 0.3), RPPPrior(), Gaussian(1e-4))
    data = x, exact.unflatten(1, (2, 6)) + 0.01 * numbers(20, 2, 6, seed=1)
    fitted = {
        "ensemble": DeepEnsemble(members=2, epochs=200, lr=0.1).fit(model, data, seed=0, progress=False),
        "laplace": Laplace("full", draws=20, mode=MAP(epochs=100, lr=0.1)).fit(model, data, seed=0, progress=False),
    }
    start = fitted["ensemble"]
    fitted["hmc"] = HMC(chains=1, warmup=20, draws=10).fit(model, data, seed=0, start=start, progress=False)
    for name, posterior in fitted.items():
        prediction = posterior.predict(x)
        assert float((prediction.mean - exact).abs().max()) < 0.03, name
        loaded = Posterior.load(posterior.save(tmp_path / name))
        assert torch.equal(loaded.predict(x).samples, prediction.samples)
        assert float(equivariance_error(posterior, x).max()) < 0.01, name
        longer = posterior.over(5)
        torch.testing.assert_close(longer.outputs(x)[..., :12], posterior.outputs(x), rtol=1e-12, atol=1e-12)
        further = HamiltonianRollout(Oscillator(), 5, 0.3)(x).detach()
        assert float((longer.predict(x).mean - further).abs().max()) < 0.1, name
        with pytest.raises(ValueError, match="steps must be a positive integer"):
            posterior.over(0)
    each = BayesianModel(model.network, RPPPrior(), Gaussian(0.1, learned=True, per_output=True))
    with pytest.raises(ValueError, match="one of 12 outputs, and 5 steps have 30: give it one noise"):
        MAP(epochs=1).fit(each, data, seed=0, progress=False).over(5)
    swept = prior_sweep(model, data, criteria=[LaplaceEvidence("full")], mode=MAP(epochs=5), dense_variance=[1e-6, 1.0])
    assert np.isfinite(swept.laplace_full).all()
    some, evidences = tuple(part[:10] for part in data), []
    for kind in (EMLP, MLP):
        rollout = HamiltonianRollout(quadratic_energy(kind).double(), 2, 0.3)
        model = BayesianModel(rollout, RPPPrior(), Gaussian(1e-4))
        full, factored = (LaplaceEvidence(name, mode=MAP(epochs=20, lr=0.1)) for name in ("full", "kronecker"))
        evidences.append(log_evidence(model, some, full, progress=False).value)
        with pytest.raises(ValueError, match="never applied"):
            log_evidence(model, some, factored, progress=False)
    assert evidences[0] > evidences[1] + 5


def test_many_steps_cost_memory_for_what_is_held_and_not_for_all_that_was():
    """Forty times the steps hold little more at a time: a cost that adds all up would cut rollouts into single rows."""
    x, net = numbers(30, 6), HamiltonianRollout(quadratic_energy().double(), 2, 0.01)
    short, long = (Cost.measured(torch.no_grad()(net.over(steps)), x) for steps in (2, 80))
    outputs = 8 * 6 * 80 * 12  # float64 states, with what is made of them
    assert long.draw + 30 * long.row < short.draw + 30 * (short.row + outputs)


def test_what_is_no_energy_or_no_phase_space_is_refused():
    good = MLP(REP, Scalar, O(3), channels=4)
    for given, error, message in (
        ((nn.Linear(6, 1), 2, 0.1), TypeError, "rep_in and rep_out"),
        ((MLP(REP, Vector, O(3), channels=4), 2, 0.1), ValueError, "one invariant number"),
        ((MLP(Vector, Scalar, O(3), channels=4), 2, 0.1), ValueError, "equal sizes"),
        ((MLP(REP, Scalar, SL(2), channels=4), 2, 0.1), ValueError, "Vector.dual"),
        ((MLP(REP, PseudoScalar, O(3), channels=4), 2, 0.1), ValueError, "invariant"),
        ((MLP(Vector + PseudoScalar * Vector, Scalar, O2eR3(), channels=4), 2, 0.1), ValueError, "positions"),
        ((good, 0, 0.1), ValueError, "steps"),
        ((good, True, 0.1), ValueError, "steps"),
        ((good, 2.0, 0.1), ValueError, "steps"),
        ((good, 2, -0.1), ValueError, "dt"),
        ((good, 2, math.nan), ValueError, "dt"),
    ):
        with pytest.raises(error, match=message):
            HamiltonianRollout(*given)
    rollout = HamiltonianRollout(good, 2, 0.1)
    with pytest.raises(ValueError, match="steps"):
        rollout.trajectory(torch.zeros(1, 6), steps=-1)
    good.network[1] = nn.Tanh()
    with pytest.raises(ValueError, match="replaced"):
        rollout(torch.zeros(1, 6))


def test_observed_states_are_flattened_only_if_they_are_states_in_rows_of_time():
    model = BayesianModel(HamiltonianRollout(MLP(REP, Scalar, O(3), channels=4), 4, 0.1), RPPPrior(), Gaussian(0.1))
    x, y = numbers(7, 6).float(), numbers(7, 4, 6).float()
    posterior = MAP(epochs=1).fit(model, (x, y), seed=0, progress=False)
    assert torch.equal(posterior.log_likelihood(x, y), posterior.log_likelihood(x, y.flatten(1)))
    with pytest.raises(ValueError, match="y has shape"):
        MAP(epochs=1).fit(model, (x, y.mT), seed=0, progress=False)


def test_a_rollout_under_a_product_group_is_equivariant():
    group = SO(3) * O(2)
    rep = parse_rep("2*Vector(SO(3)) + 2*Vector(O(2))")
    halves = parse_rep("Vector(SO(3)) + Vector(O(2)) + Vector(SO(3)) + Vector(O(2))")
    with pytest.raises(ValueError, match="positions"):
        HamiltonianRollout(EMLP(rep, Scalar, group, channels=4), 1, 0.1)
    rollout = HamiltonianRollout(EMLP(halves, Scalar, group, channels=12, layers=1).double(), 2, 0.1)
    z = numbers(3, 10)
    for g in zip(*group.sample(2, seed=0), strict=True):
        moved = rollout(rollout.rep_in.apply(g, z))
        torch.testing.assert_close(moved, rollout.rep_out.apply(g, rollout(z)), rtol=1e-8, atol=1e-8)
