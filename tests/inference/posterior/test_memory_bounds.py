"""Results do not depend on how the work is cut, and moments are those of all draws."""

import numpy as np
import pytest
import torch

from analysis import equivariance_error, local_equivariance_error, pathway_shares
from analysis.symmetry.layer_errors import layer_equivariance_error
from bayes_rpp import BayesianModel, Categorical, Gaussian, LogDensity, Poisson, RPPPrior
from inference import Posterior, memory
from inference.posterior.streaming_moments import StreamingMoments
from tests.seeds import shifted

BUDGETS = (1, 50_000, 200_000)


@pytest.fixture
def posterior(make_small_model, bodies):
    """Two chains of two draws, around an initial state, with five examples."""

    def make(likelihood=None):
        model = make_small_model(bodies, likelihood, dtype=torch.float64)
        generator, samples = torch.Generator().manual_seed(0), {}
        for name, value in model.initial_params(0).items():
            samples[name] = value + 0.1 * value.abs() * torch.rand(2, 2, *value.shape, generator=generator).double()
        return Posterior(model, samples, data=tuple(part[:5].double() for part in bodies.train))

    return make


def everything(posterior):
    """Every number that is computed in pieces, by name."""
    x, y = posterior.data
    prediction, without = posterior.predict(x), posterior.predict(x, keep_samples=False)
    arviz = posterior.to_arviz()
    found = {"samples": prediction.samples, "outputs": posterior.outputs(x)}
    for name in ("mean", "epistemic", "aleatoric", "variance"):
        found[name] = getattr(prediction, name)
        assert torch.equal(found[name], getattr(without, name)), name
    found |= {"log likelihood": posterior.log_likelihood(x, y), "log joint": posterior.log_joint()}
    found |= {"replicates": arviz.posterior_predictive["y"].values, "shares": pathway_shares(posterior).values}
    for reduction in ("mean_of_ratios", "ratio_of_norms", "geometric_mean"):
        for options in ({}, {"per_element": True, "per_output": True}, {"per_column": True}):
            error = equivariance_error(posterior, x, reduction=reduction, elements=2, **options)
            found[f"{reduction} {options}"] = error.values
    for options in ({}, {"per_generator": True, "per_output": True}):
        found[f"local error {options}"] = local_equivariance_error(posterior, x, **options).values
    for kind in ("own", "cumulative"):
        found[f"layers, {kind}"] = layer_equivariance_error(posterior, x, kind=kind, elements=2).values
    chains = posterior.in_parametrization("collapsed").in_parametrization("residual")
    return found | {f"converted {name}": value for name, value in chains.samples.items()}


def test_the_budget_changes_no_result_and_the_same_budget_gives_the_same_bits(posterior, monkeypatch):
    for likelihood in (Gaussian(0.2, learned=True), None):
        draws = posterior(likelihood)
        whole = everything(draws)
        for budget in BUDGETS:
            monkeypatch.setattr(memory, "AT_ONCE", budget)
            parts = everything(draws)
            for name, value in whole.items():
                np.testing.assert_allclose(parts[name], value, rtol=1e-9, atol=1e-12, err_msg=f"{name}, {budget}")
        again = everything(draws)
        assert all(np.array_equal(again[name], parts[name]) for name in whole)
        monkeypatch.undo()


def test_labels_and_counts_and_log_densities_are_cut_alike(posterior, bodies, monkeypatch):
    x = posterior().data[0]
    labels, counts = torch.arange(len(x)) % 9, torch.ones(len(x), 9)
    for likelihood, y in ((Categorical(), labels), (Poisson(), counts)):
        draws = posterior(likelihood)
        draws.data = (x, y)
        whole = draws.predict(x), draws.log_joint(), draws.to_arviz().posterior_predictive["y"].values
        monkeypatch.setattr(memory, "AT_ONCE", 10_000)
        parts = draws.predict(x, keep_samples=False), draws.log_joint(), draws.to_arviz().posterior_predictive["y"]
        torch.testing.assert_close(parts[0].variance, whole[0].variance, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(parts[1], whole[1], rtol=1e-10, atol=0)
        assert np.array_equal(parts[2].values, whole[2])
        monkeypatch.undo()
    z = torch.arange(12.0).reshape(2, 3, 2)
    density = Posterior(LogDensity(lambda p: -p["z"].square().sum(), {"z": torch.zeros(2)}), {"z": z})
    for budget in (1, 100, 10_000):
        monkeypatch.setattr(memory, "AT_ONCE", budget)
        assert torch.equal(density.log_joint(), -z.square().sum(-1))


def test_samples_that_were_not_kept_say_so(posterior):
    draws = posterior()
    prediction = draws.predict(draws.data[0], keep_samples=False)
    with pytest.raises(ValueError, match=r"samples .* were not kept.*keep_samples=False.*outputs\(x\)"):
        _ = prediction.samples
    assert prediction.kept_samples is None
    assert draws.predict(draws.data[0]).samples.shape == (2, 2, 5, 9)


def test_streaming_moments_are_exact_beside_a_large_offset():
    """Whole numbers about 1e9, in float64, have moments in closed form; the textbook formula loses all digits there."""
    for count, sizes in ((1, [1]), (6, [1, 2, 3]), (1000, [1, 7, 492, 500])):
        whole = torch.arange(count, dtype=torch.float64)[:, None] * torch.tensor([1.0, -2.0], dtype=torch.float64)
        moments = StreamingMoments()
        for block in (1e9 + whole).split(sizes):
            moments.add(block)
        scale = torch.tensor([1.0, 4.0], dtype=torch.float64)
        torch.testing.assert_close(moments.variance, scale * (count**2 - 1) / 12, rtol=1e-14, atol=0)
        assert torch.equal(moments.mean, 1e9 + whole.mean(0))
    textbook = (1e9 + whole).square().mean(0) - (1e9 + whole).mean(0).square()
    assert ((textbook - moments.variance).abs() > 1).all()


def test_streaming_moments_do_not_depend_on_the_blocks_or_the_first_draw():
    generator = torch.Generator().manual_seed(shifted())
    draws = torch.randn(500, 4, generator=generator, dtype=torch.float64)
    draws[0] = 1e6  # an outlier, to which the others are relative
    for sizes in ([500], [1] * 500, [100, 1, 399]):
        moments = StreamingMoments()
        for block in draws.split(sizes):
            moments.add(block)
        torch.testing.assert_close(moments.mean, draws.mean(0), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(moments.variance, draws.var(0, correction=0), rtol=1e-12, atol=0)


class Offset(torch.nn.Module):
    """A foreign network with outputs about 1e9."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 3, dtype=torch.float64)

    def forward(self, x):
        return 1e9 + self.linear(x)


def test_predictions_beside_a_large_offset_have_their_variance():
    model, x = BayesianModel(Offset(), RPPPrior(), Gaussian(0.1), num_outputs=3), torch.zeros(4, 2).double()
    shift = torch.arange(8.0).double().reshape(2, 4, 1).expand(2, 4, 3)
    samples = {"linear.weight": torch.zeros(2, 4, 3, 2).double(), "linear.bias": shift}
    prediction = Posterior(model, samples).predict(x, keep_samples=False)
    torch.testing.assert_close(
        prediction.epistemic, torch.full((4, 3), 63 / 12, dtype=torch.float64), rtol=1e-14, atol=0
    )
    assert torch.equal(prediction.mean, torch.full((4, 3), 1e9 + 3.5, dtype=torch.float64))
