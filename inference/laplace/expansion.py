r"""The Laplace approximation of the evidence, as a function of the prior variances and the noise.

    log p(y | x) ~ log p(y | x, z*) + log p(z*) + d/2 log 2 pi - 1/2 log det H
                 = log p(y | x, z*) + sum_p [log p(z*_p) - log p(0)] - 1/2 log det(I + Sigma K)

with K the Gauss-Newton matrix of the data at z*, and Sigma the covariance of the Gaussian priors of the weights
(MacKay, Neural Computation 1992; Immer, Bauer, Fortuin, Rätsch & Khan, ICML 2021). With z* and K held fixed it is
differentiable in the variances, and for a Gaussian likelihood in the noise variance, which divides K.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from pyro.distributions import Distribution
from torch import Tensor
from torch.distributions import biject_to

from bayes_rpp.likelihoods import NOISE, Likelihood
from bayes_rpp.types import Params
from bayes_rpp.validation import without_validation
from inference.curvature.block_structure import Structure, spans_of
from inference.curvature.gauss_newton import hessian_at_fixed_outputs, network_and_data, network_model
from inference.curvature.hessian_blocks import Blocks, data_precision, prior_precision
from inference.curvature.kronecker import kronecker_blocks
from inference.curvature.kronecker_blocks import CurvatureBlock
from inference.curvature.laplace_formula import laplace_evidence
from inference.curvature.log_determinant import log_determinant
from inference.curvature.names import EvidenceCurvature, check_curvature
from inference.density.unconstrained import UnconstrainedDensity


@dataclass(frozen=True)
class Expansion:
    """A model around one position: what its Laplace evidence needs, whatever the prior variances are."""

    density: UnconstrainedDensity  # over free coordinates, in float64
    z: Float[Tensor, " size"]  # the position
    outputs: Tensor  # of the network at z
    matrices: Blocks  # the data's Gauss-Newton matrix, by blocks of the structure; empty for factored curvatures
    structure: Structure | None  # None for factored curvatures
    blocks: list[CurvatureBlock]  # factored curvatures

    @classmethod
    def at(
        cls,
        density: UnconstrainedDensity,
        z: Float[Tensor, " size"],
        curvature: EvidenceCurvature,
        progress: bool = False,
        generator: torch.Generator | None = None,
    ) -> Expansion:
        """Compute the curvature at z; with a generator, factored ones by estimates, see ``kronecker_blocks``. Raises
        TypeError if the model is a LogDensity, and ValueError if the curvature is unknown, would not fit into memory,
        or does not suit the network.
        """
        check_curvature(curvature, EvidenceCurvature)
        model, x, _ = network_and_data(density, "the Laplace evidence in terms of the prior")
        with torch.no_grad():
            outputs = model.output(density.params(z), x)
        if curvature == "kronecker" or curvature == "symmetric":
            return cls(density, z, outputs, [], None, kronecker_blocks(density, z, curvature, generator))
        structure = Structure.of(density, curvature)
        structure.check_memory(density)
        return cls(density, z, outputs, data_precision(density, z[None], structure, progress), structure, [])

    @property
    def params(self) -> Params:
        """The constrained parameters at the position."""
        return self.density.params(self.z)

    def log_evidence(
        self, priors: Mapping[str, Distribution] | None = None, noise_variance: Float[Tensor, ""] | None = None
    ) -> Float[Tensor, ""]:
        """The Laplace evidence in nats, with these priors and this known Gaussian noise in place of the model's."""
        model, _, y = network_and_data(self.density, "the Laplace evidence")
        priors = {**model.prior_distributions, **(priors or {})}
        params, shrunk = self.params, self.z.new_ones(())
        likelihood: Likelihood = model.likelihood
        if noise_variance is not None:
            known = model.gaussian
            if known is None or known.learned or isinstance(known.noise_variance, tuple):
                raise ValueError(
                    f"noise_variance can replace one known number of a Gaussian likelihood, not {likelihood}."
                )
            shrunk = known.noise_variance / noise_variance
            likelihood = replace(known, learned=True, floor=0.5 * known.noise_variance)
            params = {**params, NOISE: noise_variance}
        with without_validation():
            result = likelihood.log_prob(self.outputs, y, params).sum()
            for name, value in self.params.items():
                own = name in model.likelihood.constraints()
                result = result + (self._own(name) if own else _log_density_ratio(priors[name], value))
            return result - 0.5 * self._log_determinant(priors, shrunk)

    def _own(self, name: str) -> Tensor:
        """What a parameter of the likelihood adds: a Laplace approximation of its own."""
        model = network_model(self.density, "the Laplace evidence")
        block = hessian_at_fixed_outputs(self.density, name, self.z)
        value, free = self.params[name], self.density.unpack(self.z)[name]
        jacobian = biject_to(model.constraints[name]).log_abs_det_jacobian(free, value).sum()
        log_density = model.prior_distributions[name].log_prob(value).sum() + jacobian
        return laplace_evidence(log_density, torch.logdet(block), len(block))

    def _log_determinant(self, priors: Mapping[str, Distribution], shrunk: Tensor) -> Tensor:
        """log det(I + Sigma K) over the weights."""
        if self.structure is None:
            blocks = [replace(block, eigenvalues=block.eigenvalues * shrunk) for block in self.blocks]
            return torch.stack([block.log_determinant(priors) for block in blocks]).sum()
        model = network_model(self.density, "the Laplace evidence")
        own = [spans_of(self.density)[name] for name in model.likelihood.constraints()]
        prior = prior_precision(self.density, self.z, self.structure, priors)
        total = self.z.new_zeros(())
        for block, data, precision in zip(self.structure.spans, self.matrices, prior, strict=True):
            kept = torch.ones(block.stop - block.start, dtype=torch.bool)
            for span in own:
                kept[max(span.start - block.start, 0) : max(span.stop - block.start, 0)] = False
            if kept.any():
                total = total + _log_determinant_of_ratio(data * shrunk, precision, kept)
        return total


def _log_density_ratio(prior: Distribution, value: Tensor) -> Tensor:
    """log p(z) - log p(0)."""
    return (prior.log_prob(value) - prior.log_prob(torch.zeros_like(value))).sum()


def _log_determinant_of_ratio(data: Tensor, prior: Tensor, kept: Tensor) -> Tensor:
    """log det(I + P^-1 K) = log det(P + K) - log det P, over the coordinates that are kept."""
    if data.ndim == 1:
        return (data[kept] / prior[kept]).log1p().sum()
    if not kept.all():
        data, prior = data[kept][:, kept], prior[kept][:, kept]
    return log_determinant(data + prior) - log_determinant(prior)
