"""Draws of all parameters of a model from their prior."""

from __future__ import annotations

import torch

from bayes_rpp.bayesian_model import BayesianModel
from bayes_rpp.priors.hyperpriors import exact_hyperprior
from bayes_rpp.seeding import seeded
from bayes_rpp.types import Params
from bayes_rpp.validation import without_validation


def prior_draws(model: BayesianModel, count: int, seed: int) -> Params:
    """Independent draws of every parameter from its prior, name -> (draw, *shape), in the prior's type, on the CPU:
    variances with hyperpriors first, then weights, each draw's given its own variances.
    """
    each = torch.Size([count])
    with seeded(seed, torch.device("cpu")), without_validation(), torch.no_grad():
        hyper = {name: exact_hyperprior(law, "cpu").sample(each) for name, law in model.hyperpriors.items()}
        shapes = dict.fromkeys(model.hierarchical, torch.Size())
        laws = model.distributions(hyper).items()
        return {name: hyper[name] if name in hyper else law.sample(shapes.get(name, each)) for name, law in laws}
