"""Margins of the statistical tests: correct code fails any of them by chance in one run of the suite in 10,000.

The suite makes about 600 statistical comparisons of estimates with what they should be; its error rate is divided among
1,000, so that there is room for more and for tails that are a little heavier than those of the normal distribution.
Within a comparison the rate is divided once more, by Bonferroni, among the statistics that it looks at.

A planted mistake must be found as surely: its effect is asked for where it is expected at twice the limit or more, so
that it is missed as rarely as correct code fails.
"""

import math

import torch
from scipy.stats import chi2, norm
from scipy.stats import t as student
from torch import Tensor

SUITE_ERROR_RATE, COMPARISONS = 1e-4, 1000
ERROR_RATE = SUITE_ERROR_RATE / COMPARISONS  # of one comparison


def z_limit(statistics: int = 1) -> float:
    """The value that the largest of so many standard normal |z| exceeds with probability ERROR_RATE."""
    return float(norm.isf(ERROR_RATE / 2 / statistics))


def t_limit(statistics: int, degrees: float) -> float:
    """The same of statistics whose standard errors are estimated with so many degrees of freedom."""
    return float(student.isf(ERROR_RATE / 2 / statistics, degrees))


def effective_degrees(effective: float) -> float:
    """Degrees of freedom of a standard error from so many effective draws of one chain.

    An autocorrelation time has the relative variance 2 (2 M + 1) / n when M lags are summed (Sokal, 1997, section 3),
    3 of them at least; a standard error that is known to a relative variance of 1 / 2k has k degrees of freedom.
    """
    return effective / 7


def r_hat_limit(statistics: int, halves: int, effective: float) -> float:
    """What the largest R-hat of so many halves of converged chains, with so many effective draws in all, exceeds.

    R-hat is sqrt(1 + (F - 1) / n) for n effective draws in each half, whose means vary F times as much as they should.
    """
    ratio = float(chi2.isf(ERROR_RATE / statistics, halves - 1)) / (halves - 1)
    return math.sqrt(1 + (ratio - 1) * halves / effective)


def excess(units: Tensor, expected: Tensor | float, allowance: float = 0.0) -> float:
    """The largest deviation of the means of independent units, (unit, statistic), over the limit of right ones.

    Student's t, with the cubic correction for skewness of Hall (Journal of the Royal Statistical Society B 1992),
    without which the tails of means of fourth powers or of importance weights would be taken for mistakes.
    """
    mean, spread, root = units.mean(0), units.std(0), math.sqrt(len(units))
    away = mean - torch.as_tensor(expected)
    t = away.sign() * (away.abs() - allowance).clamp_min(0) / spread * root
    a = ((units - mean) / spread).pow(3).mean(0) / (3 * root)
    scores = t + a * t.square() + a.square() * t.pow(3) / 3 + a / 2
    return float(scores.abs().max()) / t_limit(scores.numel(), len(units) - 1)


def agrees(units: Tensor, expected: Tensor | float, allowance: float = 0.0) -> bool:
    """Whether statistics of independent units, (unit, statistic), have these expectations, up to an allowance."""
    return excess(units, expected, allowance) < 1
