r"""Linear models whose variances have hyperpriors, by quadrature over the variances and in closed form given them.

    p(y) = int p(y | v) p(v) dv,    p(theta | y) = int p(theta | y, v) p(v | y) dv

The integrals over v are sums over a lattice, see ``integrate``; the draws of v are exact, by rejection.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp import BayesianModel
from bayes_rpp.seeding import seeded_generator
from inference import Posterior
from inference.data import Data, Pair, resolve_data
from inference.density.unconstrained import UnconstrainedDensity
from inference.exact.marginal_likelihood import ReducedProblem, variance_laws
from inference.exact.quadrature import Lattice, integrate

_NUMBERS_AT_ONCE = 2**22


@dataclass(frozen=True)
class HierarchicalPosterior:
    """The posterior of a ``model`` and its data, ``pair``: a mixture of Gaussians over variances.

    Attributes
    ----------
    names : of the variances that have hyperpriors; a learned noise variance is one of them.
    lattice : over their logarithms.
    problem : the evidence and the posterior at given variances.
    """

    model: BayesianModel
    pair: Pair
    names: tuple[str, ...]
    lattice: Lattice
    problem: ReducedProblem

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
        generator = seeded_generator(seed)
        values = dict(zip(self.names, self.lattice.sample(draws, generator).exp().unbind(1), strict=True))
        density, vectors = UnconstrainedDensity(self.problem.known, self.pair), []
        for at in zip(*values.values(), strict=True):
            line, prior = self.problem.at(dict(zip(self.names, at, strict=True)))
            vectors.append(line.posterior(prior).sample(1, generator))
        samples = density.unpack(torch.cat(vectors)[None].to(density.dtype))
        samples |= {name: value[None].to(density.dtype) for name, value in values.items()}
        return Posterior(self.model, samples, {"engine": "exact, hierarchical", "seed": seed}, data=self.pair)


@torch.no_grad()
def hierarchical_posterior(model: BayesianModel, data: Data) -> HierarchicalPosterior:
    """Posterior and evidence of a linear model whose variances have hyperpriors, or whose noise is learned.

    It includes the uncertainty of the variances. The evidence is right to about 1e-3 nats, see ``integrate``.

    Parameters
    ----------
    model : as for ExactEvidence, but up to three of its variances have hyperpriors; ``Gaussian(..., learned=True)``
        counts as one, and has the likelihood's own.

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
    problem, names = ReducedProblem.of(model, data), tuple(variance_laws(model))

    def log_density(logs: Float[Tensor, "point variance"]) -> Float[Tensor, " point"]:
        chunks = logs.exp().split(max(1, _NUMBERS_AT_ONCE // len(problem.residual) ** 2))
        return torch.cat([problem.log_joint(dict(zip(names, some.unbind(1), strict=True))) for some in chunks])

    pair = resolve_data(model, data)
    assert pair is not None
    return HierarchicalPosterior(model, pair, names, integrate(log_density, names), problem)
