"""The verdict on chains, in words, for every kind of trouble."""

import arviz
import numpy as np
import pytest
import torch
from scipy.stats import norm

from analysis import convergence
from bayes_rpp import LogDensity
from inference import SGLD, Posterior
from tests.seeds import shifted

CHAINS, DRAWS = 4, 1000


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(shifted(seed)), dtype=torch.float64)


def density_posterior(samples, **fields):
    """A posterior of a log density with given draws."""
    example = {name: value[0, 0] for name, value in samples.items()}
    density = LogDensity(lambda params: -0.5 * sum(value.square().sum() for value in params.values()), example)
    return Posterior(density, samples, **fields)


@pytest.mark.statistical
@pytest.mark.parametrize(("draws", "few"), [(40, True), (400, False)])
def test_too_few_effective_draws_are_said(draws, few):
    """Every half of a chain holds the same values in another order, so that the R-hat is below 1."""
    quantiles = torch.as_tensor(norm.ppf((np.arange(draws // 2) + 0.5) / (draws // 2)))
    order = torch.rand(CHAINS, 2, draws // 2, generator=torch.Generator().manual_seed(shifted())).argsort(-1)
    found = convergence(density_posterior({"z": quantiles[order].flatten(1)}))
    assert "4 chains agree" in found.verdict
    assert ("Fewer than 400 effective draws are too few" in found.verdict) == few


@pytest.mark.statistical
def test_one_chain_is_judged_by_its_parts():
    chain = normal(1, 2000)
    found = convergence(density_posterior({"z": chain}))
    assert found.verdict.startswith("There is one chain: its parts agree (largest split R-hat ")
    assert "only other chains could show what it has missed" in found.verdict
    expected = arviz.rhat(chain.reshape(2, 1000).numpy())
    assert float(found.table.r_hat.sel(function="z")) == pytest.approx(expected, rel=1e-9)
    drifting = convergence(density_posterior({"z": chain + torch.linspace(-2, 2, 2000)}))
    assert drifting.verdict.startswith("The parts of the one chain do not agree: R-hat 1.")


@pytest.mark.parametrize(
    ("chains", "draws", "verdict"),
    [
        (10, 1, "10 members of one draw each are no chains: R-hat says nothing."),
        (1, 1, "One draw is no chain: R-hat says nothing."),
        (4, 3, "4 chains of 3 draws: too short for R-hat, which needs 4 draws."),
        (1, 7, "1 chain of 7 draws: too short for R-hat, which needs 8 draws."),
    ],
)
def test_draws_that_are_no_chains_have_no_r_hat(chains, draws, verdict):
    found = convergence(density_posterior({"z": normal(chains, draws, 2)}))
    assert found.verdict == verdict
    assert found.table.r_hat.isnull().all()
    longer = convergence(density_posterior({"z": normal(chains, 8, 2)}))
    assert longer.table.r_hat.notnull().all()


def test_an_ensemble_is_no_chain(fit_small, bodies):
    assert convergence(fit_small(bodies)).verdict == "3 members of one draw each are no chains: R-hat says nothing."


@pytest.mark.statistical
def test_constant_functions_are_named_and_chains_that_stand_still_do_not_agree():
    z = normal(CHAINS, DRAWS)
    own = {
        "one": lambda _: torch.ones(CHAINS, DRAWS),
        "third": lambda _: 1 / 3 + 0 * z,
        "count": lambda _: 0 * z.long(),
    }
    found = convergence(density_posterior({"z": z}), functions=own)
    assert found.verdict.startswith("The same in every draw: one, third, count. 4 chains agree")
    stuck = torch.arange(4.0)[:, None].expand(4, DRAWS)
    found = convergence(density_posterior({"z": z}), functions={"stuck": lambda _: stuck})
    assert float(found.table.r_hat.sel(function="stuck")) == np.inf
    assert found.verdict.startswith("The chains do not agree: R-hat inf of stuck")
    still = convergence(density_posterior({"z": 0 * z}))
    assert still.verdict == "The same in every draw: log density, z. No function varies, so that R-hat says nothing."


@pytest.mark.statistical
def test_values_that_are_not_finite_are_named_and_not_judged():
    z = normal(CHAINS, DRAWS, 2)
    for bad in (np.nan, -np.inf):
        broken = z.clone()
        broken[1, 5, 0] = bad
        found = convergence(density_posterior({"z": z}), functions={"broken": lambda _, values=broken: values})
        assert found.verdict.startswith("Not finite in some draws, and not judged there: broken. 4 chains agree")
        assert found.table.r_hat_element.sel(function="broken").item() == "broken[1]"


def test_divergences_and_lost_chains_are_said():
    z = normal(CHAINS, DRAWS)
    diverging = torch.zeros(CHAINS, DRAWS, dtype=torch.bool)
    clean = convergence(density_posterior({"z": z}, sample_stats={"diverging": diverging}, stats={"diverged": {}}))
    assert "diverged" not in clean.verdict
    diverging[1, :12] = True
    lost = [density_posterior({"z": z[:1, :5]}, stats={"chain": 2, "diverged": 57})]
    fields = {"sample_stats": {"diverging": diverging}, "partial": lost}
    found = convergence(density_posterior({"z": z}, stats={"diverged": {"2": 57, "5": 1}}, **fields))
    assert "12 of 4000 draws came from a step that diverged" in found.verdict
    assert found.verdict.endswith("2 chains of 6 diverged and are left out (chain 2 in step 57, chain 5 in step 1).")
    assert "1 chain of 5 diverged" in convergence(density_posterior({"z": z}, **fields)).verdict


@pytest.mark.statistical
def test_the_chains_that_a_sampler_lost_are_said_with_their_steps():
    """A quartic density: a step from too far out leads further out, and three chains start there."""
    density = LogDensity(lambda params: -0.25 * params["z"].pow(4).sum(), {"z": torch.zeros(1)})
    start = Posterior(None, {"z": torch.tensor([0.0, 100.0] * 3)[:, None, None]})
    engine = SGLD(step_size=0.01, chains=6, warmup=0)
    posterior = engine.fit(density, None, seed=shifted(), progress=False, start=start)
    lost = posterior.stats["diverged"]
    assert list(lost) == ["1", "3", "5"]
    verdict = convergence(posterior).verdict
    assert f"{len(lost)} chain{'s' * (len(lost) > 1)} of 6 diverged and" in verdict
    for chain, step in lost.items():
        assert f"chain {chain} in step {step}" in verdict


def test_draws_of_an_approximation_are_not_judged_as_chains():
    posterior = Posterior(
        LogDensity(lambda p: -0.5 * p["z"].square().sum(), {"z": torch.zeros(2)}),
        {"z": torch.randn(1, 500, 2, generator=torch.Generator().manual_seed(0))},
        {"engine": "Laplace"},
    )
    words = convergence(posterior).verdict
    assert words == "Draws of Laplace are independent: R-hat cannot tell how good the approximation is."
