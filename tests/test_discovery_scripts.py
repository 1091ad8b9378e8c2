"""The script that measures which symmetries are found: it measures and tabulates, when tiny."""

from functools import partial

import torch

from tests.test_paper_scripts import measured, rows


def test_known_symmetries_are_looked_for_and_tabulated(script, monkeypatch):
    which = script("which_symmetry")
    monkeypatch.setattr(script("exact_axes"), "COMPARED", 0)
    cases = [("axis", "300", "0", "0"), ("exact", "1000", "0", "0"), ("axis", "1000", "0.3", "0")]
    cases += [(kind, "500", "0", "0") for kind in which.LEARNED] + [("linear", "300", "0", "0")]
    cases += [("linear, axis", "300", "0.02", "0"), ("pendulum", "0.01", "0", "0")]
    cases += [(kind, str(train), "0", "0") for kind, train in which.TASKS.items()]
    results = measured(partial(which.run_any, size=which.QUICK), *cases)
    assert set(cases) <= set(which.cases())
    linear = results["linear/300/0/0"]["so"]
    assert linear["dimension"] == 1
    assert linear["angle"] < 3
    for kind in which.LEARNED:
        assert results[f"{kind}/500/0/0"]["error"] > 0
    results["linear/300/0/0"]["nats"] = {"kept(SO(3))": 0.0, "O(3)": 4000.0, "SO2eR3": 4000.0, "Trivial(3)": 60.0}
    assert len(rows(which.dimensions_table(results))) == 3
    assert "exact posterior" in which.axes_table(results)
    assert len(rows(which.evidence_table(results))) == 3
    assert len(rows(which.learned_table(results))) == 3
    assert "| 0, 0 of 1 |" in which.levels_table(results)  # none of them wrong
    assert "| 5.39 |" in which.pendulum_table(results)
    assert len(rows(which.tasks_table(results))) == 2
    assert "of 3 |" in which.learned_table(results)  # networks, by LieGG
    assert which.report(results).startswith("# Which symmetry is it?")


def test_singular_values_of_an_invariant_function_have_its_dimension(script):
    which, learned = script("which_symmetry"), script("learned_functions")
    assert which.largest_ratio([1e-3, 2e-3, 0.5, 0.6]) == 2
    x = torch.randn(50, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    points = x.requires_grad_()
    (gradient,) = torch.autograd.grad(learned.four_vectors(points).sum(), points)
    moved = gradient.unflatten(1, (2, 4))
    for a in learned.O13().lie_algebra:
        assert (moved * (x.unflatten(1, (2, 4)) @ a.T)).sum((1, 2)).abs().max() < 1e-12


def test_orbits_keep_their_energy_and_sevenths_their_turns(script):
    tasks = script("liegan_tasks")
    x, y = (part.double() for part in tasks.orbits(50, torch.Generator().manual_seed(0)))
    states = torch.cat([x.unflatten(1, (tasks.SEEN, 4, 2)), y.unflatten(1, (1, 4, 2))], dim=1)
    apart, momenta = states[:, :, 0] - states[:, :, 1], states[:, :, 2:]
    energy = momenta.square().sum((2, 3)) / 2 - 1 / apart.norm(dim=2)
    assert ((energy - energy[:, :1]) / energy).abs().max() < 1e-5
    assert (states[:, 1:] - states[:, :-1]).norm(dim=(2, 3)).min() > 0.1
    x, y = tasks.sevenths(50, torch.Generator().manual_seed(0))
    (turn,) = tasks.turns().generators.to(x)
    seventh = torch.linalg.matrix_power(turn, tasks.TURNS // tasks.KEPT_TURNS)
    angle = torch.atan2(*(x @ seventh.T)[:, :2].T.flip(0)) % (2 * torch.pi / tasks.KEPT_TURNS)
    torch.testing.assert_close((x[:, 2] / (1 + angle))[:, None], y)
