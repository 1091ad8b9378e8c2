"""The log score of test examples from the draws of a posterior."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

_MOST_BLOCKS = 20
_LARGEST_CORRECTION = 0.5  # nats: then the mean of the likelihoods is no larger than its own standard deviation


def log_scores(log_likelihood: Float[Tensor, "chain draw example"]) -> tuple[Float[Tensor, " example"], float]:
    """log p(y_i | D) of every example, and the standard error of their mean that a finite number of draws leaves.

    The log of a mean of S likelihoods is too small by about Var(w) / 2S, where w are the likelihoods over their
    mean: up to 0.1 nats an example with few draws, alike for every seed (Jensen). Draws of a posterior are
    therefore put into up to 20 blocks of neighbours, and the bias is taken out by the jackknife (Quenouille,
    Biometrika 1956), which sees their correlation; what is left is of the order of 1 / S^2. Where one block has
    nearly all of the likelihood, as of an outlier, that expansion fails, and would give scores above the likelihood
    of every draw: no more than 0.5 nats are added to the score of an example, and the score of an outlier is still
    too small. Members of an ensemble, chains of one draw, are the predictive distribution themselves: their score
    is the log of their mean, and has no such error.
    """
    draws = log_likelihood.shape[1]
    each = log_likelihood.flatten(0, 1).double()
    plain = each.logsumexp(0) - math.log(len(each))
    if draws == 1:
        return plain, 0.0
    blocks = each.tensor_split(min(_MOST_BLOCKS, len(each)))
    sums, count = torch.stack([block.logsumexp(0) for block in blocks]), len(blocks)
    without = torch.stack(
        [
            torch.cat([sums[:k], sums[k + 1 :]]).logsumexp(0) - math.log(len(each) - len(block))
            for k, block in enumerate(blocks)
        ]
    )
    variance = (count - 1) * float(without.mean(1).var(correction=0))
    correction = ((count - 1) * (plain - without.mean(0))).nan_to_num(nan=0.0).clamp(max=_LARGEST_CORRECTION)
    return plain + correction, math.inf if math.isnan(variance) else math.sqrt(variance)
