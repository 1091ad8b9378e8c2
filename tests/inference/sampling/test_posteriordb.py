"""Posteriors that others wrote, against the reference draws of posteriordb: see posteriordb/README.md.

Each is written as its Stan program has it, with no change of coordinates, and drawn from with the default settings but
for numbers of chains and draws.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import arviz
import pytest
import torch
from torch import Tensor
from torch.distributions import HalfCauchy, HalfNormal, Normal, constraints

from bayes_rpp import LogDensity
from inference import HMC, NUTS
from tests.arviz_versions import ess
from tests.error_rate import effective_degrees, r_hat_limit, t_limit
from tests.seeds import shifted

FOLDER = Path(__file__).parent / "posteriordb"
BY_HMC, BY_NUTS = HMC(chains=16, warmup=200, draws=500), NUTS(chains=4, warmup=100, draws=500)


class Example(NamedTuple):
    """A target, and the reference's quantities from its draws: name -> (chain, draw)."""

    density: LogDensity
    derive: Callable[[dict[str, Tensor]], dict[str, Tensor]]


def columns(name, values):
    """Under Stan's names, counted from 1."""
    return {f"{name}[{i + 1}]": values[..., i] for i in range(values.shape[-1])}


def number(value):
    return torch.tensor(value, dtype=torch.float64)


def eight_schools(data):
    y, sigma = number(data["y"]), number(data["sigma"])
    of_theta, of_mu, of_tau = Normal(0.0, 1.0), Normal(0.0, 5.0), HalfCauchy(number(5.0))

    def log_density(p):
        prior = of_theta.log_prob(p["theta_trans"]).sum() + of_mu.log_prob(p["mu"])
        likelihood = Normal(p["mu"] + p["tau"] * p["theta_trans"], sigma).log_prob(y).sum()
        return prior + of_tau.log_prob(p["tau"]) + likelihood

    def derive(p):
        theta = p["mu"][..., None] + p["tau"][..., None] * p["theta_trans"]
        return {"mu": p["mu"], "tau": p["tau"], **columns("theta", theta)}

    example = {"theta_trans": torch.zeros(len(y), dtype=torch.float64), "mu": number(0.0), "tau": number(1.0)}
    return Example(LogDensity(log_density, example, {"tau": constraints.positive}), derive)


def regression(x, y, log_prior, names):
    """y ~ N(x beta, sd sigma)."""

    def log_density(p):
        return log_prior(p["beta"], p["sigma"]) + Normal(x @ p["beta"], p["sigma"]).log_prob(y).sum()

    def derive(p):
        return {"sigma": p["sigma"], **names(p["beta"])}

    example = {"beta": torch.zeros(x.shape[1], dtype=torch.float64), "sigma": number(1.0)}
    return Example(LogDensity(log_density, example, {"sigma": constraints.positive}), derive)


def kidscore(data):
    iq = number(data["mom_iq"])
    x = torch.stack([torch.ones_like(iq), iq], dim=1)
    return regression(
        x,
        number(data["kid_score"]),
        lambda beta, sigma: HalfCauchy(number(2.5)).log_prob(sigma),
        lambda beta: columns("beta", beta),
    )


def blr(data):
    def log_prior(beta, sigma):
        return Normal(0.0, 10.0).log_prob(beta).sum() + HalfNormal(number(10.0)).log_prob(sigma)

    return regression(number(data["X"]), number(data["y"]), log_prior, lambda beta: columns("beta", beta))


def autoregression(data):
    y, lags = number(data["y"]), data["K"]
    past = [torch.ones(len(y) - lags, dtype=torch.float64), *(y[lags - k : len(y) - k] for k in range(1, lags + 1))]

    def log_prior(beta, sigma):
        return Normal(0.0, 10.0).log_prob(beta).sum() + HalfCauchy(number(2.5)).log_prob(sigma)

    def names(beta):
        return {"alpha": beta[..., 0], **columns("beta", beta[..., 1:])}

    return regression(torch.stack(past, dim=1), y[lags:], log_prior, names)


POSTERIORS = {
    "eight_schools-eight_schools_noncentered": eight_schools,
    "kidiq-kidscore_momiq": kidscore,
    "sblrc-blr": blr,
    "arK-arK": autoregression,
}
# A gradient of NUTS is of one chain: it takes a hierarchical posterior and a regression, HMC all of them.
CASES = {f"{name}-HMC": (name, BY_HMC) for name in POSTERIORS}
CASES |= {f"{name}-NUTS": (name, BY_NUTS) for name in [*POSTERIORS][:2]}


def discrepancies(found, reference):
    """(ours - theirs) / the combined Monte Carlo error, of every mean and standard deviation."""
    assert set(found) == set(reference)
    result = {}
    for name, expected in reference.items():
        values = found[name].numpy()
        for statistic, ours in (("mean", values.mean()), ("sd", values.std(ddof=1))):
            error = float(arviz.mcse(values, method=statistic))
            combined = (error**2 + expected[f"mcse_{statistic}"] ** 2) ** 0.5
            result[f"{statistic} of {name}"] = (float(ours) - expected[statistic]) / combined
    return result


def least_effective(found):
    """Draws, of means, of tails and of distances from the median, which the folded R-hat is of: of antithetic draws, as
    HMC's, these are the fewest.
    """
    methods = ("bulk", "tail", "sd")
    return min(ess(value.numpy(), method) for value in found.values() for method in methods)


def limit(found):
    """Of the discrepancies of all means and standard deviations."""
    return t_limit(2 * len(found), effective_degrees(least_effective(found)))


def draw(name, engine):
    """What the reference has, from our draws, and the reference."""
    stored = json.loads((FOLDER / f"{name}.json").read_text())
    example = POSTERIORS[name](stored["data"])
    posterior = engine.fit(example.density, None, seed=shifted(1))
    return example.derive(posterior.samples), stored["reference"]


@pytest.mark.statistical
@pytest.mark.parametrize(("name", "engine"), CASES.values(), ids=CASES)
def test_moments_are_those_of_the_reference_draws(name, engine):
    found, reference = draw(name, engine)
    r_hat = max(float(arviz.rhat(value.numpy())) for value in found.values())
    assert r_hat < r_hat_limit(2 * len(found), 2 * engine.chains, least_effective(found))
    scores = discrepancies(found, reference)
    assert max(map(abs, scores.values())) < limit(found), scores


@pytest.mark.statistical
@pytest.mark.parametrize("name", ["kidiq-kidscore_momiq", "arK-arK"])
def test_draws_at_temperature_two_are_caught(name):
    found, reference = draw(name, dataclasses.replace(BY_HMC, draws=100, temperature=2.0))
    assert max(map(abs, discrepancies(found, reference).values())) > limit(found)
