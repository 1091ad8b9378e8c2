"""The Laplace approximation: a Gaussian around a mode, with the curvature there.

    posterior ~ N(z*, H^-1),    H = sum_i J_i^T F_i J_i + prior precision

in free (unconstrained) coordinates, with J_i the Jacobian of the network's outputs and F_i the curvature of minus the
log likelihood in them (MacKay, Neural Computation 1992; Ritter, Botev & Barber, ICLR 2018; Daxberger et al., NeurIPS
2021). Exact for a linear network with a Gaussian likelihood. A LogDensity has the exact Hessian in place of the sum.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

import torch

from bayes_rpp.seeding import plain_seed
from inference.curvature.block_gaussian import GaussianApproximation
from inference.curvature.block_structure import Structure
from inference.curvature.covariance_root import NotPositiveDefiniteError
from inference.curvature.names import BlockCurvature, check_curvature
from inference.data import Data, Model, refuse_hyperpriors, resolve_data, resolve_device
from inference.density.unconstrained import float64_density
from inference.engine_fit import engine_fit
from inference.laplace.find_mode import Mode, find_mode
from inference.laplace.posterior import LaplacePosterior
from inference.posterior.draws import uninterrupted
from inference.posterior.posterior import Posterior
from inference.settings import chain_seeds, require_integers, require_positive
from inference.training.map import MAP

logger = logging.getLogger(__name__)

_TOO_LARGE = 0.1  # a Newton decrement that would show in the evidence: half its square, in nats


@dataclass(frozen=True)
class Laplace:
    """A Gaussian around a mode.

    Everything but the training of ``mode`` is done in float64, whatever the type of the network.

    Parameters
    ----------
    curvature : what H couples. "full": everything. "layer": the parameters of each layer, both pathways together.
        "diagonal": nothing. "last_layer": the parameters of the last layer; all others are fixed at the mode.
    draws : how many samples to draw, at least 1.
    mode : finds the mode, if ``start`` is not given; it is then improved in free coordinates, see ``find_mode``.
    temperature : of the whole joint, positive; 1 is the posterior.

    Examples
    --------
    >>> posterior = Laplace("layer", mode=MAP(epochs=500)).fit(model, data.train, seed=0)
    >>> posterior.linearized(data.test.x).variance.shape
    torch.Size([1000, 9])
    """

    curvature: BlockCurvature = "full"
    draws: int = 1000
    mode: MAP = field(default_factory=MAP)
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_curvature(self.curvature, BlockCurvature)
        require_integers(self, draws=1)
        if not isinstance(self.mode, MAP):
            raise TypeError(
                f"mode must be a MAP, got {self.mode!r}; a mode that was found before goes to fit's start=."
            )
        require_positive("temperature", self.temperature)

    @engine_fit
    def fit(
        self,
        model: Model,
        data: Data,
        *,
        seed: int,
        device: str | torch.device = "auto",
        progress: bool = True,
        start: Posterior | None = None,
    ) -> LaplacePosterior:
        """Find the mode, and expand around it. Ctrl-C is raised.

        Parameters
        ----------
        model : a BayesianModel, or a LogDensity with data=None.
        data : (x, y) as tensors or arrays, or a Dataset of such pairs.
        seed : of the mode's training and of the draws; the same seed gives the same bits.
        device : "auto" takes an accelerator if there is one.
        progress : whether to show progress bars, in a terminal.
        start : a posterior whose last draw (of its first chain) to take in place of training a mode.

        Returns
        -------
        LaplacePosterior with one chain of ``draws`` samples; ``stats`` has engine, seed, curvature, temperature,
        seconds, steps (of the search for the mode), gradient_norm (of -log joint / temperature) and newton_decrement,
        sqrt(g^T H^-1 g), at the mode that was found.

        Raises
        ------
        ValueError, TypeError
            If the data are missing or refused, H would not fit into memory, ``start`` is of another model, or variances
            have hyperpriors.
        RuntimeError
            If H is not positive definite at the point that was found.
        """
        refuse_hyperpriors("Laplace", model)
        seed, pair, began = plain_seed(seed), resolve_data(model, data), time.perf_counter()
        density = float64_density(model, pair, self.temperature, resolve_device(device))
        structure = Structure.of(density, self.curvature)
        structure.check_memory(density)
        if start is None:
            start = uninterrupted(self.mode.fit(model, data, seed=seed, device=device, progress=progress))
        mode = find_mode(density, density.latest(start, 1)[0], structure, progress)
        if mode.decrement > _TOO_LARGE:
            logger.warning(
                "the search ended %.2g posterior standard deviations from the mode, after %d steps: the mean and the "
                "evidence would be wrong. Train longer, mode=MAP(epochs=...), or on standardised data.",
                mode.decrement,
                mode.steps,
            )
        approximation = _expand(mode, structure)
        generator = torch.Generator().manual_seed(chain_seeds(seed, 1)[0][1])
        free = approximation.sample(self.draws, generator)
        example = model.initial_params(0)
        samples = {name: value[None].to(example[name].dtype).cpu() for name, value in density.params(free).items()}
        stats = {
            "engine": type(self).__name__,
            "seed": seed,
            "curvature": self.curvature,
            "temperature": self.temperature,
            "steps": mode.steps,
            "gradient_norm": mode.gradient_norm,
            "newton_decrement": mode.decrement,
            "seconds": round(time.perf_counter() - began, 3),
        }
        logger.info("Laplace: %(curvature)s, Newton decrement %(newton_decrement).2g, in %(seconds).1f s", stats)
        return LaplacePosterior(
            model=model,
            samples=samples,
            stats=stats,
            data=pair,
            approximation=approximation,
            mode_log_joint=-mode.potential,
            structure=structure,
            precision=mode.precision,
            density=density,
        )


def _expand(mode: Mode, structure: Structure) -> GaussianApproximation:
    try:
        return GaussianApproximation(mode.z.double(), list(zip(structure.spans, mode.precision.total, strict=True)))
    except NotPositiveDefiniteError as error:
        raise RuntimeError(
            f"this is no mode to expand around: {error} The search ended after {mode.steps} steps with a gradient of "
            f"norm {mode.gradient_norm:.3g}. Start elsewhere, by another seed or start=; or the density has no "
            "quadratic maximum, and needs a sampler."
        ) from error
