r"""Linear models whose variances have hyperpriors, by quadrature over the variances and in closed form given them.

p(y) = int p(y | v) p(v) dv,    p(theta | y) = int p(theta | y, v) p(v | y) dv
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pyro
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.evidence.lattice import Lattice, integrate
from analysis.evidence.linear_network import linear_gaussian
from bayes_rpp import BayesianModel, Gaussian, PathwayNormal
from bayes_rpp.hyperpriors import exact_law, typical_value
from bayes_rpp.likelihoods import NOISE
from inference import Posterior
from inference.data import Data, Pair, resolve_data
from inference.linear_gaussian import LinearGaussian
from inference.target import Target
from inference.varied_training import has_learned_noise, model_at

_MOST = 3  # variances: the lattice has that many dimensions
_NUMBERS_AT_ONCE = 2**22


@dataclass(frozen=True)
class HierarchicalPosterior:
    """A mixture of Gaussians, over variances.

    Attributes
    ----------
    model, pair : whose posterior it is; the data.
    names : of the variances that have hyperpriors; a learned noise variance is one of them.
    lattice : over their logarithms.
    problem : the closed form.
    """

    model: BayesianModel
    pair: Pair
    names: tuple[str, ...]
    lattice: Lattice
    problem: _Problem

    @property
    def log_evidence(self) -> float:
        """log p(y), the variances integrated out, in nats."""
        return self.lattice.log_integral

    @property
    def variances(self) -> dict[str, Float[Tensor, " point"]]:
        """Every variance at the points of the lattice."""
        return dict(zip(self.names, self.lattice.points.exp().unbind(1), strict=True))

    @property
    def probabilities(self) -> Float[Tensor, " point"]:
        """Of these points, for expectations of smooth functions of the variances."""
        return self.lattice.probabilities

    def draw(self, draws: int, seed: int) -> Posterior:
        """Independent draws of variances and weights, as one chain, in the type of the network."""
        generator = torch.Generator().manual_seed(seed)
        values = dict(zip(self.names, self.lattice.sample(draws, generator).exp().unbind(1), strict=True))
        target, vectors = Target(self.problem.known, self.pair), []
        for at in zip(*values.values(), strict=True):
            line, prior = self.problem.at(dict(zip(self.names, at, strict=True)))
            vectors.append(line.posterior(prior).sample(1, generator))
        samples = target.unpack(torch.cat(vectors)[None].to(target.dtype))
        samples |= {name: value[None].to(target.dtype) for name, value in values.items()}
        return Posterior(self.model, samples, {"engine": "exact, hierarchical", "seed": seed}, data=self.pair)


@torch.no_grad()
def hierarchical_posterior(model: BayesianModel, data: Data) -> HierarchicalPosterior:
    """Posterior and evidence of a linear model whose variances have hyperpriors, or whose noise is learned.

    What plugging in the best variances leaves out, their own uncertainty, is in it. The evidence is right to about
    1e-3 nats, see ``integrate``.

    Parameters
    ----------
    model : as for ExactEvidence, but up to three of its variances have hyperpriors; ``Gaussian(..., learned=True)``
        counts as one, and has the likelihood's own.
    data : (x, y) as tensors or arrays, or a Dataset of such pairs.

    Raises
    ------
    ValueError, TypeError
        If nothing has a hyperprior, or more than three variances have; the posterior of a variance is too narrow for a
        lattice; and as ``ExactEvidence.estimate``.

    Examples
    --------
    >>> prior = RPPPrior(dense_variance=HalfCauchy(0.01))
    >>> found = hierarchical_posterior(BayesianModel(linear_net, prior, Gaussian(0.2)), data.train)
    >>> interval(equivariance_error(found.draw(1000, seed=0), data.test.x))
    """
    problem, names = _Problem.of(model, data), tuple(_laws(model))

    def log_density(logs: Float[Tensor, "point variance"]) -> Float[Tensor, " point"]:
        chunks = logs.exp().split(max(1, _NUMBERS_AT_ONCE // len(problem.residual) ** 2))
        return torch.cat([problem.log_joint(dict(zip(names, some.unbind(1), strict=True))) for some in chunks])

    pair = resolve_data(model, data)
    assert pair is not None
    return HierarchicalPosterior(model, pair, names, integrate(log_density, len(names)), problem)


@dataclass(frozen=True)
class _Problem:
    """log p(y, log v), with the data reduced to as many rows as there are parameters.

    With V^(-1/2) Phi = Q R, y enters by Q^T V^(-1/2) (y - f_0) and by the square of what is left of it.
    """

    model: BayesianModel
    known: BayesianModel  # the same at typical variances
    features: Float[Tensor, "row 1 size"]
    residual: Float[Tensor, "row 1"]
    left: Float[Tensor, ""]
    rows_left: int
    log_noise: float  # the log determinant of V
    grams: dict[
        str, Float[Tensor, "row row"]
    ]  # of each variance, Phi C Phi^T with v C its share of the prior's covariance

    @classmethod
    def of(cls, model: BayesianModel, data: Data) -> _Problem:
        typical = {name: float(typical_value(law)) for name, law in _laws(model).items()}
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

    def at(self, variances: dict[str, Tensor]) -> tuple[LinearGaussian, dict[str, PathwayNormal]]:
        """The reduced data and the prior of the weights, at variances."""
        noise = variances.get(NOISE, torch.ones((), dtype=torch.float64))
        given = self.known.prior.variances(self.model.network) | variances
        prior = {name: law.at(given) for name, law in self.model.prior.laws(self.model.network).items()}
        shapes = {name: torch.Size(law.shape) for name, law in self.model.prior.laws(self.model.network).items()}
        return LinearGaussian(self.features, self.residual, noise[None], shapes), prior

    def log_joint(self, variances: dict[str, Float[Tensor, " point"]]) -> Float[Tensor, " point"]:
        """log p(y | v) + log p(log v), in the space of functions: N(y; 0, sum_k v_k G_k + V)."""
        noise = variances.get(NOISE, torch.ones((), dtype=torch.float64)).reshape(-1, 1)
        known = self.known.prior.variances(self.model.network) | variances
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
        for name, law in _laws(self.model).items():
            total = total + law.log_prob(variances[name]) + variances[name].log()
        return torch.where((failed == 0) & total.isfinite(), total, -math.inf)


def _grams(model: BayesianModel, root: Float[Tensor, "row size"]) -> dict[str, Float[Tensor, "row row"]]:
    """Phi C Phi^T of every variance of the prior."""
    laws = model.prior.laws(model.network)
    result: dict[str, Tensor] = {}
    columns = root.split([math.prod(law.shape) for law in laws.values()], dim=1)
    for law, own in zip(laws.values(), columns, strict=True):
        parts = [own, *(basis.coordinates(own) for basis in law.bases)]
        for share, part in zip((law.dense, *law.pathways), parts, strict=True):
            result[share.setting] = result.get(share.setting, torch.zeros(())) + part @ part.mT / share.divisor
    return result


def _laws(model: BayesianModel) -> dict[str, pyro.distributions.Distribution]:
    """The hyperpriors by name, in float64; that of a learned noise, too."""
    laws = dict(model.hyperpriors)
    if isinstance(model.likelihood, Gaussian) and has_learned_noise(model):
        laws[NOISE] = model.likelihood.priors(model.num_outputs)[NOISE]
    if not 1 <= len(laws) <= _MOST:
        raise ValueError(
            f"hierarchical_posterior integrates over one to {_MOST} variances with hyperpriors, got {len(laws)}"
            + (f": {', '.join(laws)}. Take HMC or NUTS." if laws else "; of known variances, take exact_posterior.")
        )
    return {name: exact_law(law) for name, law in laws.items()}
