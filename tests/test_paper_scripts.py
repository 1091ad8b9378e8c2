"""The scripts of the paper's figures, and of what goes beyond them: each measures, tabulates and draws, when tiny."""

from functools import partial

from bayes_rpp import RPPEMLP


def measured(run, *cases):
    return {"/".join(case): run(*case) for case in cases}


def few(make):
    """The same data with 20 examples to train and 20 to test."""
    return lambda train, test, *others, **named: make(20, 20, *others, **named)


def rows(text):
    return [line for line in text.splitlines() if line.startswith("| ")][2:]


def test_figure_2_has_a_row_for_every_network_and_chooses_by_what_was_left_out(script, monkeypatch):
    figure2 = script("figure2")
    size, results = figure2.Size(8, 8, 2), {}
    for name, panel in figure2.PANELS.items():
        data = partial(few(panel.data.func), *panel.data.args, **panel.data.keywords)
        monkeypatch.setitem(figure2.PANELS, name, panel._replace(data=data))
    for panel in ("inertia", "pendulum"):
        for dense in figure2.DENSE[:2]:
            key = f"{panel}/{figure2.HELD_OUT}/{dense}/100"
            results[key] = figure2.run(*key.split("/"), size=size, results=results)
        least = min(figure2.DENSE[:2], key=lambda d, p=panel: results[f"{p}/{figure2.HELD_OUT}/{d}/100"]["test_mse"])
        assert figure2.chosen_variance(results, panel) == least
        for kind in [*figure2.kinds_of(panel), *figure2.papers_kinds(panel)]:
            results[f"{panel}/{kind}/0"] = figure2.run(panel, kind, "0", size=size, results=results)
    assert len(rows(figure2.table(results))) == 3 + 6
    assert figure2.report(results).startswith("# Exact, approximate")
    assert len(figure2.picture(results).axes) == 6
    exact = [results[f"{panel}/EMLP/0"]["equivariance_error"] for panel in ("inertia", "pendulum")]
    assert max(exact) < 1e-5 < min(results[f"{panel}/MLP/0"]["equivariance_error"] for panel in ("inertia", "pendulum"))


def test_figure_3_left_follows_the_error_through_training(script):
    left = script("figure3_left")
    run = partial(left.run, size=left.Size(channels=8, epochs=12, members=2))
    results = measured(run, *((name, "0") for name in left.CASES))
    stages = left.errors_by_epoch(results, "approximate")
    assert len(stages) == left.STAGES + 1
    assert max(stages) == 12
    assert left.truth_of(results, "exact") < left.ZERO < left.truth_of(results, "approximate")
    assert left.report(results).count("| wrong |") > 2
    assert len(left.picture(results).axes) == 3


def test_figure_3_right_compares_criteria_over_a_grid(script, monkeypatch):
    right = script("figure3_right")
    small = lambda _, data, layers=1: RPPEMLP(data.rep_in, data.rep_out, data.group, channels=4, layers=1)  # noqa: E731
    monkeypatch.setattr(right, "network", small)
    results = measured(partial(right.run, quick=True), ("members", "0"), ("single", "0"))
    assert set(right.recorded(results, "members")["0"].sizes.values()) == {2}
    assert len(rows(right.report(results))) > 8


def test_rollouts_have_bands_and_drifts(script, monkeypatch):
    rollouts = script("pendulum_rollouts")
    monkeypatch.setattr(rollouts, "LONG", 6)
    monkeypatch.setattr(rollouts, "STARTS", 5)
    monkeypatch.setattr(rollouts, "double_pendulum", few(rollouts.double_pendulum))
    training = rollouts.Training(rollouts.Size(0, 8, 2), 2)
    cases = [(wind, kind, "0") for wind in rollouts.WINDS for kind in rollouts.KINDS]
    results = measured(partial(rollouts.run, training=training), *cases)
    row = results["calm/RPP/0"]
    assert len(row["drift"]) == len(row["band"]) == len(row["long_coverage"]) == 6
    assert len(rows(rollouts.report(results))) == len(cases)
    assert len(rollouts.picture(results).axes) == 6


def test_the_evidence_of_chains_is_compared_at_every_wind(script, monkeypatch):
    wind = script("pendulum_wind")
    monkeypatch.setattr(wind, "VARIANCES", wind.VARIANCES[:2])
    run = partial(wind.run, size=wind.Size(chunks=4, epochs=2, channels=2))
    results = measured(run, *(("0.05", chain, "0") for chain in wind.CHAINS))
    assert {row["variance"] for row in results.values()} <= set(wind.VARIANCES)
    assert len(rows(wind.report(results))) == 1
    assert len(wind.picture(results).axes) == 1


def test_policies_with_and_without_residual_pathways_are_trained_and_compared(script, tmp_path):
    curves, pages = script("learning_curves"), [script("figure5_sac"), script("figure6_policy_only")]
    run = partial(curves.run, every=120, transitions=tmp_path)
    results = measured(run, *(("Walker2d-v5", kind, "120", "0") for kind in pages[1].KINDS))
    assert all(len(row["returns"]) == 1 for row in results.values())
    assert len(list(tmp_path.glob("*.npz"))) == 3
    for page in pages:
        assert len(rows(page.report(results))) == 1
        assert len(curves.picture(results, page.KINDS).axes) == 3


def test_transition_models_of_both_kinds_are_compared(script, tmp_path):
    table3 = script("table3_transition_models")
    run = partial(table3.run, size=table3.Size(8, 2, 2, 100, 2), transitions=None, out=tmp_path / "none.json")
    results = measured(run, *(("Hopper-v5", kind, "0") for kind in ("RPP", "MLP")))
    assert len(rows(table3.report(results))) == 3  # and where nothing moves
    assert all(0 < error < 100 for row in results.values() for error in row["ensemble"] + row["one network"])
    assert results["Hopper-v5/RPP/0"]["equivariance_error"] < results["Hopper-v5/MLP/0"]["equivariance_error"]
    symmetry = table3.environment_symmetry("Ant-v5")
    for seed in (0, int(table3.TUNING_SEED)):
        data, tests = (table3.data_of("Ant-v5", symmetry, s, run.keywords["size"], None) for s in (seed, 0))
        states = [table3.states_of(*split, data.rep_state.size) for split in (data.train, data.test, tests.test)]
        assert len(states[0]) > 200
        assert states[0].isdisjoint(states[1] | states[2])
    tuned = {f"Hopper-v5/tuning/{d}/100": {"one network": [abs(d - 0.1) + 1]} for d in table3.DENSE}
    assert table3.chosen_variance(tuned, "Hopper-v5") == 0.1


def test_a_swimmer_plans_with_an_ensemble(script):
    planning = script("planning_swimmer")
    size = planning.Size(width=8, passes=5, between=20, rounds=1, candidates=12, horizon=4)
    results = measured(partial(planning.run, size=size), *((kind, "0") for kind in planning.KINDS))
    assert all(len(row["returns"]) == 2 for row in results.values())
    assert results["RPP/0"]["returns"][0] == results["MLP/0"]["returns"][0]  # before anything was learned
    assert len(rows(planning.report(results))) == 2
    assert len(planning.picture(results).axes) == 1
