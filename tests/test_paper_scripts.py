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


def test_policies_with_and_without_residual_pathways_are_trained_and_compared(script):
    curves = script("figure5_sac")
    results = measured(partial(curves.run, every=120), *(("Walker2d-v5", kind, "120", "0") for kind in curves.KINDS))
    assert all(len(row["returns"]) == 1 for row in results.values())
    assert len(rows(curves.report(results))) == 1
    assert len(curves.picture(results).axes) == 3
