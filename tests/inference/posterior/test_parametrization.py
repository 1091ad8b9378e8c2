"""Draws of one parametrization as draws of the other: the same functions, and the exact law of the parts."""

import pytest
import torch

from bayes_rpp import (
    EMLP,
    MLP,
)
from inference import MAP, DeepEnsemble, Posterior, Snapshot
from inference.posterior import parametrization as module
from tests.scenarios.parametrizations import (
    NETWORKS,
    both,
    close,
    collapse,
    coordinates_of,
    make,
    moved,
    networks,
    numbers,
    prior_draws,
    recover,
    total_of,
)


@both
@networks
def test_the_function_of_every_draw_stays(case, here, there):
    model = make(case, here, learned=True)
    posterior = Posterior(model, prior_draws(model))
    other, samples = moved(model, posterior.samples, there)
    x = numbers(6, NETWORKS[case][1])
    close(Posterior(other, samples).outputs(x), posterior.outputs(x))
    assert [*samples] == [*make(case, there, learned=True).prior_distributions]
    for name in samples.keys() & posterior.samples.keys():
        assert torch.equal(samples[name], posterior.samples[name])
    assert "noise_variance" in samples
    assert (other.prior, other.likelihood, other.num_outputs) == (model.prior, model.likelihood, model.num_outputs)


@both
@networks
def test_predictions_in_single_precision_stay(case, here, there):
    model = make(case, here, torch.float32, equivariant=0.3, dense=3e-4)
    posterior = Posterior(model, prior_draws(model))
    other = Posterior(*moved(model, posterior.samples, there))
    assert {value.dtype for value in other.samples.values()} == {torch.float32}
    x = numbers(6, NETWORKS[case][1]).float()
    before, after = posterior.predict(x).samples, other.predict(x).samples
    assert (after - before).abs().max() < 1e-5 * before.abs().max()


@pytest.mark.parametrize("batch", [(2, 3), (1, 0), (1, 1)], ids=str)
@both
@networks
def test_any_number_of_draws_is_converted_and_pieces_change_nothing(case, here, there, batch, monkeypatch):
    model = make(case, here)
    samples = prior_draws(model, batch)
    for _ in range(2):
        other, found = moved(model, samples, there)
        laws = other.prior_distributions
        assert {n: v.shape for n, v in found.items()} == {n: (*batch, *law.event_shape) for n, law in laws.items()}
        whole = samples if there == "residual" else found
        again = collapse(other, found)[1] if there == "residual" else collapse(model, samples)[1]
        for name, value in whole.items():
            close(again[name], value)
        monkeypatch.setattr(module, "_NUMBERS_AT_ONCE", 60)


@networks
def test_a_round_trip_keeps_the_sums_and_draws_new_parts(case):
    model = make(case, "residual")
    samples = prior_draws(model)
    collapsed, sums = collapse(model, samples)
    residual, parts = recover(collapsed, sums, 0)
    for name, value in collapse(residual, parts)[1].items():
        close(value, sums[name], 1e-12)
    changed = [name for name in samples if not torch.equal(parts[name], samples[name])]
    assert changed == [n for n in samples if "beta" in n or ("dense" in n and coordinates_of(model, total_of(n)))]


class TestPosterior:
    def test_everything_is_converted_or_kept(self, make_small_model, bodies):
        fitted = DeepEnsemble(members=3, epochs=4, snapshots=2).fit(make_small_model(bodies), bodies.train, seed=0)
        fitted.sample_stats = {"lp": torch.zeros(3, 1), "energy": torch.ones(3, 1)}
        fitted.partial = [Posterior(fitted.model, {n: v[:1] for n, v in fitted.samples.items()}, {"chain": 3})]
        assert fitted.history
        x = bodies.test.x
        other = fitted.in_parametrization("collapsed")
        assert "network.0.linear.weight" in other.samples
        assert (other.chains, other.draws, other.stats) == (3, 1, fitted.stats)
        assert other.data is fitted.data
        assert {name: value.tolist() for name, value in other.sample_stats.items()} == {"energy": [[1.0]] * 3}
        assert [s.epoch for s in other.history] == [s.epoch for s in fitted.history]
        pairs = [(other, fitted), (other.partial[0], fitted.partial[0])]
        pairs += [(other.at(new), fitted.at(old)) for new, old in zip(other.history, fitted.history, strict=True)]
        for new, old in [*pairs, *((new.in_parametrization("residual"), old) for new, old in pairs)]:
            torch.testing.assert_close(new.outputs(x), old.outputs(x), rtol=1e-5, atol=1e-5)
        assert other.partial[0].stats == {"chain": 3}
        assert fitted.model.network.parametrization == "residual"

    @both
    @pytest.mark.parametrize("case", ["a chain", "a deep normalised network"])
    def test_saved_ones_come_back(self, case, here, there, tmp_path):
        model = make(case, here)
        samples = prior_draws(model)
        posterior = Posterior(model, samples, history=[Snapshot(2, samples)]).in_parametrization(there)
        loaded = Posterior.load(posterior.save(tmp_path / "run"))
        assert loaded.model.network.state_dict().keys() == posterior.model.network.state_dict().keys()
        assert [*loaded.samples] == [*posterior.samples]
        x = numbers(6, 7)
        assert all(torch.equal(loaded.samples[name], value) for name, value in posterior.samples.items())
        close(loaded.outputs(x), posterior.outputs(x))  # how memory is aligned may change the last bits
        close(loaded.at(loaded.history[0]).outputs(x), Posterior(model, samples).outputs(x))
        close(loaded.in_parametrization(here).outputs(x), posterior.outputs(x))

    def test_the_seed_is_that_of_the_parts(self):
        model = make("a chain", "collapsed")
        posterior = Posterior(model, prior_draws(model))
        first, again, other = (posterior.in_parametrization("residual", seed).samples for seed in (0, 0, 1))
        for name in first:
            assert torch.equal(first[name], again[name])
            assert not torch.equal(first[name], other[name])

    @pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
    def test_the_same_parametrization_is_the_posterior_itself(self, parametrization):
        model = make("a chain", parametrization)
        posterior = Posterior(model, prior_draws(model))
        assert posterior.in_parametrization(parametrization) is posterior

    def test_log_densities_are_refused(self, slope):
        posterior = MAP(epochs=1).fit(slope, None, seed=0)
        with pytest.raises(TypeError, match="needs a posterior of a BayesianModel"):
            posterior.in_parametrization("collapsed")

    @pytest.mark.parametrize("network", [EMLP, MLP])
    def test_networks_without_residual_layers_are_refused(self, network, make_small_model, bodies):
        model = make_small_model(bodies, network=network)
        posterior = Posterior(model, prior_draws(model))
        for parametrization in ("residual", "collapsed"):
            with pytest.raises(ValueError, match=f"{network.__name__} has no residual pathway layers"):
                posterior.in_parametrization(parametrization)

    def test_an_unknown_parametrization_is_refused(self):
        model = make("a chain", "residual")
        with pytest.raises(ValueError, match="must be 'residual' or 'collapsed', got 'both'"):
            Posterior(model, prior_draws(model)).in_parametrization("both")


@pytest.mark.parametrize("change", ["another", "fewer"])
def test_samples_of_other_parameters_are_refused(change):
    model = make("a group", "residual")
    samples = prior_draws(model)
    if change == "another":
        samples["network.0.gamma"] = torch.zeros(2, 3, 1)
    else:
        del samples["network.0.beta"]
    with pytest.raises(ValueError, match="differ in 'network.0.gamma'" if change == "another" else "'network.0.beta'"):
        collapse(model, samples)
