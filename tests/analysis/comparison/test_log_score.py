"""Log scores from few draws, against the predictive density in closed form."""

import math

import pytest
import torch
from torch.distributions import Normal

from analysis.comparison.log_score import log_scores
from tests.error_rate import agrees
from tests.seeds import shifted

SPREAD, NOISE = 1.0, 0.5  # of the posterior of the mean, and of an observation
RUNS, DRAWS = 4_000, 20


def likelihoods(draws, y):
    """log N(y_i; theta_s, NOISE^2) of draws (run, draw), (run, draw, example)."""
    return Normal(draws[..., None], NOISE).log_prob(y)


def scores_of_runs(y):
    generator = torch.Generator().manual_seed(shifted())
    each = likelihoods(SPREAD * torch.randn(RUNS, DRAWS, generator=generator, dtype=torch.float64), y)
    corrected, errors = zip(*(log_scores(run[None]) for run in each), strict=True)
    return each.logsumexp(1) - math.log(DRAWS), torch.stack(corrected), torch.tensor(errors)


@pytest.mark.statistical
def test_the_bias_of_few_draws_is_taken_out_and_the_rest_is_in_the_error():
    """Of Jensen's bias, 0.02 to 0.09 nats an example, a sixth of the mean is left at most. The jackknife's variance is
    too large by what is left of its own, here by less than a factor of three.
    """
    y = torch.linspace(-1.5, 1.5, 7, dtype=torch.float64)
    truth = Normal(0.0, math.hypot(SPREAD, NOISE)).log_prob(y)
    plain, corrected, errors = scores_of_runs(y)
    bias = float((truth - plain.mean(0)).mean())
    assert bias > 0.02
    assert not agrees(plain, truth)
    assert agrees(corrected, truth, allowance=bias / 6)
    squares, stated = (corrected - truth).mean(1).square(), errors.square()
    assert agrees((squares - stated / 1.5)[:, None], 0.0, allowance=float(stated.mean()) / 3)


def test_members_are_the_predictive_distribution_themselves():
    each = likelihoods(torch.randn(6, 1, dtype=torch.float64), torch.zeros(3).double())
    scores, error = log_scores(each)
    torch.testing.assert_close(scores, each[:, 0].exp().mean(0).log())
    assert error == 0.0


def test_correlated_draws_have_a_larger_error():
    """Every draw ten times over: no more is known, and the error is that of the draws themselves."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(1, 20, generator=generator, dtype=torch.float64)
    once, often = (log_scores(likelihoods(d, torch.zeros(3).double())) for d in (draws, draws.repeat_interleave(10, 1)))
    torch.testing.assert_close(often[0], once[0])
    assert math.isclose(often[1], once[1], rel_tol=1e-9)


def test_no_score_is_above_the_best_draw_where_that_has_nearly_all_of_the_likelihood():
    """The jackknife alone would say +938 nats of the first example, and +inf of the second."""
    each = torch.full((1, 100, 3), -1000.0)
    each[..., 1:] = -math.inf  # as of a rate that overflows
    each[0, 3, :2] = -1.0
    scores, error = log_scores(each)
    assert scores.tolist() == pytest.approx([0.5 - 1 - math.log(100)] * 2 + [-math.inf])
    assert error == math.inf
    assert log_scores(each[..., :1])[1] > 100
