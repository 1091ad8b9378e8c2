"""A Laplace approximation: its draws, and the linearised predictive."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jacrev, vmap

from bayes_rpp.types import Params, as_tensor
from inference.curvature.block_gaussian import GaussianApproximation
from inference.curvature.block_structure import Structure
from inference.curvature.gauss_newton import network_model
from inference.curvature.hessian_blocks import Precision
from inference.density.unconstrained import UnconstrainedDensity
from inference.memory import slices_that_fit
from inference.posterior.map_draws import Piece
from inference.posterior.posterior import Posterior
from inference.posterior.prediction import Prediction
from inference.posterior.predictive import moments, predictive

_COPIES = 3  # of a Jacobian: its parts by parameter, all of it, and its product with the covariance's root


@dataclass(repr=False, eq=False)
class LaplacePosterior(Posterior):
    """Draws of N(z*, H^-1), and what the Gaussian gives in closed form.

    ``save`` writes the draws alone: what is loaded again is a plain Posterior.

    Attributes
    ----------
    approximation : N(z*, H^-1) over the free coordinates, on the device of the fit, in float64.
    mode_log_joint : log p(y, z* | x) at the mode z*, a density over free coordinates, over the temperature. The
        evidence is ``approximation.log_integral(mode_log_joint)``.
    structure : which coordinates H couples.
    precision : H, the data's part and the prior's.
    density : the model as a density over free coordinates, in float64.
    """

    approximation: GaussianApproximation = field(kw_only=True)
    mode_log_joint: float = field(kw_only=True)
    structure: Structure = field(kw_only=True)
    precision: Precision = field(kw_only=True)
    density: UnconstrainedDensity = field(kw_only=True)

    @property
    def mode(self) -> Params:
        """The constrained parameters at the mode, in float64, on the device of the fit."""
        return self.density.params(self.approximation.mean)

    def linearized(self, x: Float[Tensor, "batch *input"]) -> Prediction:
        """The predictive of the network that is linear in its parameters around the mode (Immer, Korzepa & Bauer,
        AISTATS 2021).

            f(x; z) ~ f(x; z*) + J(x) (z - z*),    epistemic = diag(J H^-1 J^T)

        The draws of a curvature that neglects couplings scatter far from the mode, where the network itself is not the
        one that H describes; this one fits them.

        Returns
        -------
        Prediction as of ``predict``, whose ``samples`` are linearised outputs at this posterior's draws. Where the mean
        of an observation is the output itself, as for Gaussian noise, ``mean`` and ``epistemic`` are exact; otherwise
        all moments are those of the samples.

        Raises
        ------
        ValueError, TypeError
            As ``predict``.
        """
        likelihood, dtype = self.bayesian_model.likelihood, next(iter(self.samples.values())).dtype
        moves = self.density.free(self.samples)[0].to(self.approximation.mean) - self.approximation.mean
        exact: list[tuple[Tensor, Tensor]] = []

        def pieces() -> Iterator[tuple[Piece, Tensor]]:
            start = 0
            for mean, jacobian in self._jacobians(x):
                variance = self.approximation.project(jacobian).diagonal(dim1=-2, dim2=-1).reshape(mean.shape)
                exact.append((mean.to(dtype).cpu(), variance.to(dtype).cpu()))
                draws = mean + torch.einsum("boz,sz->sbo", jacobian, moves).reshape(-1, *mean.shape)
                rows = slice(start, start := start + len(mean))
                yield Piece(slice(0, len(moves)), rows, self.flat_samples), draws.to(dtype).cpu()

        prediction = predictive(likelihood, pieces(), self.samples, len(x))
        outputs, first = prediction.samples[0, 0], {name: value[0, 0] for name, value in self.samples.items()}
        if not torch.equal(moments(likelihood, outputs, first)[0], outputs):
            return prediction
        mean, epistemic = (torch.cat(parts) for parts in zip(*exact, strict=True))
        return replace(prediction, mean=mean, epistemic=epistemic)

    def functional_variance(self, x: Float[Tensor, "batch *input"]) -> Float[Tensor, "batch output output"]:
        """J(x) H^-1 J(x)^T, the covariance of the flattened outputs at each input, in float64.

        Raises as ``outputs``.
        """
        return torch.cat([self.approximation.project(jacobian) for _, jacobian in self._jacobians(x)]).cpu()

    @torch.no_grad()
    def _jacobians(self, x: Tensor) -> Iterator[tuple[Float[Tensor, "rows *output"], Float[Tensor, "rows flat size"]]]:
        """The outputs at the mode and their Jacobians in z, some rows at a time."""
        self.bayesian_model.check_inputs(x := as_tensor(x, "x").cpu())
        model, z = network_model(self.density, "a linearised network"), self.approximation.mean
        inputs = model.as_input(x).to(z.device)

        def output(v: Tensor, row: Tensor) -> Tensor:
            return model.output(self.density.params(v), row[None])[0]

        outputs = output(z, inputs[0]).numel() if len(inputs) else 1
        size = _COPIES * z.element_size() * self.density.size * outputs
        for some in slices_that_fit(slice(0, len(inputs)), size):
            rows = inputs[some]
            with torch.enable_grad():
                jacobian = vmap(jacrev(output), in_dims=(None, 0))(z, rows)
            yield model.output(self.density.params(z), rows), jacobian.reshape(len(rows), outputs, -1).detach()
