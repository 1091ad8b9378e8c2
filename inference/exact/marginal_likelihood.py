"""A linear model and its data, reduced so that evidence and posterior are cheap at many variances."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyro
import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp import BayesianModel, PathwayNormal
from bayes_rpp.known_variances import has_learned_noise, model_at
from bayes_rpp.likelihoods import NOISE
from bayes_rpp.priors.hyperpriors import exact_hyperprior, typical_value
from inference.data import Data
from inference.exact.linear_gaussian import LinearGaussian
from inference.exact.linear_network import linear_gaussian

_MOST = 3  # variances: the lattice has that many dimensions


@dataclass(frozen=True)
class ReducedProblem:
    """log p(y, log v), with the data reduced to as many rows as there are parameters: with V^(-1/2) Phi = Q R, y enters
    by Q^T V^(-1/2) (y - f_0) and by the square of what is left of it.
    """

    model: BayesianModel
    known: BayesianModel  # the model at typical variances
    features: Float[Tensor, "row 1 size"]  # R
    residual: Float[Tensor, "row 1"]  # Q^T V^(-1/2) (y - f_0)
    left: Float[Tensor, ""]  # the square of what is left of the data
    rows_left: int  # the number of its rows
    log_noise: float  # log det V
    grams: dict[str, Float[Tensor, "row row"]]  # R C R^T of each variance v, where v C is its share of Sigma

    @classmethod
    def of(cls, model: BayesianModel, data: Data) -> ReducedProblem:
        """Reduce the data; raises as ``hierarchical_posterior``."""
        typical = {name: float(typical_value(law)) for name, law in variance_laws(model).items()}
        settings = model.prior.variances(model.network)
        known = model_at(model, {name: value for name, value in {**settings, **typical}.items() if name != NOISE})
        if NOISE in typical:
            known = model_at(known, {NOISE: 1.0})  # its own law scales it
        line, _ = linear_gaussian(known, data, device="cpu")
        scale = line.noise.sqrt()
        white, residual = (line.features / scale[:, None]).flatten(0, 1), (line.residual / scale).flatten()
        orthogonal, root = torch.linalg.qr(white)
        kept = orthogonal.mT @ residual
        left = (residual - orthogonal @ kept).square().sum()
        log_noise = len(line.features) * float(line.noise.log().sum())
        rows_left, grams = len(residual) - len(kept), _grams(known, root)
        return cls(model, known, root[:, None], kept[:, None], left, rows_left, log_noise, grams)

    @cached_property
    def _typical(self) -> dict[str, Any]:
        """Of every variance of the prior; to find which there are takes longer than a density."""
        return dict(self.known.prior.variances(self.model.network))

    def at(self, variances: dict[str, Tensor]) -> tuple[LinearGaussian, dict[str, PathwayNormal]]:
        """The reduced data and the prior of the weights, at variances."""
        noise = variances.get(NOISE, torch.ones((), dtype=torch.float64))
        given = self._typical | variances
        laws = self.model.parameter_priors
        shapes = {name: torch.Size(law.shape) for name, law in laws.items()}
        line = LinearGaussian(self.features, self.residual, noise[None], shapes)
        return line, {name: law.at(given) for name, law in laws.items()}

    def log_joint(self, variances: dict[str, Float[Tensor, " point"]]) -> Float[Tensor, " point"]:
        """log p(y | v) + log p(log v), in the space of functions: N(y; 0, sum_k v_k G_k + V)."""
        noise = variances.get(NOISE, torch.ones((), dtype=torch.float64)).reshape(-1, 1)
        known = self._typical | variances
        eye = torch.eye(len(self.residual), dtype=torch.float64)
        covariance = noise[..., None] * eye
        for name, gram in self.grams.items():
            covariance = covariance + torch.as_tensor(known[name], dtype=torch.float64).reshape(-1, 1, 1) * gram
        root, failed = torch.linalg.cholesky_ex(covariance)
        white = torch.linalg.solve_triangular(root, self.residual.expand(len(root), -1, 1), upper=False)
        misfit = white.square().sum((1, 2)) + self.left / noise[:, 0]
        determinant = 2 * root.diagonal(dim1=1, dim2=2).log().sum(1) + self.rows_left * noise[:, 0].log()
        observed = len(self.residual) + self.rows_left
        total = -0.5 * (misfit + determinant + self.log_noise + observed * math.log(2 * math.pi))
        for name, law in variance_laws(self.model).items():
            total = total + law.log_prob(variances[name]) + variances[name].log()
        return torch.where((failed == 0) & total.isfinite(), total, -math.inf)


def _grams(model: BayesianModel, root: Float[Tensor, "row size"]) -> dict[str, Float[Tensor, "row row"]]:
    """Phi C Phi^T of every variance of the prior."""
    laws = model.parameter_priors
    result: dict[str, Tensor] = {}
    columns = root.split([math.prod(law.shape) for law in laws.values()], dim=1)
    for law, own in zip(laws.values(), columns, strict=True):
        parts = [own, *(basis.coordinates(own) for basis in law.bases)]
        for share, part in zip((law.dense, *law.pathways), parts, strict=True):
            assert share.setting is not None  # factors of products are in no network that is linear in its weights
            result[share.setting] = result.get(share.setting, torch.zeros(())) + (part / share.divisor) @ part.mT
    return result


def has_learned_variances(model: BayesianModel) -> bool:
    """Whether a model has variances to integrate over."""
    return bool(model.hyperpriors) or (model.gaussian is not None and model.gaussian.learned)


def variance_laws(model: BayesianModel) -> dict[str, pyro.distributions.Distribution]:
    """The hyperpriors by name, in float64; that of a learned noise, too."""
    laws = dict(model.hyperpriors)
    if model.gaussian is not None and has_learned_noise(model):
        laws[NOISE] = model.gaussian.priors(model.num_outputs)[NOISE]
    if not 1 <= len(laws) <= _MOST:
        raise ValueError(
            f"hierarchical_posterior integrates over one to {_MOST} variances with hyperpriors, got {len(laws)}"
            + (f": {', '.join(laws)}. Take HMC or NUTS." if laws else "; of known variances, take exact_posterior.")
        )
    return {name: exact_hyperprior(law) for name, law in laws.items()}
