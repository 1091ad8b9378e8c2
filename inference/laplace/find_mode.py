"""The search for the mode of U, by quasi-Newton steps that are preconditioned by the curvature.

    z <- z - t B grad U(z)

B starts as H^-1, so that the first step is a damped Gauss-Newton step, and learns from the gradients how
the curvature differs (L-BFGS: Nocedal & Wright, Numerical Optimization, algorithm 7.4, with H^-1 scaled to the last
step), until H is formed anew. t is halved until U falls enough (Armijo's rule). U includes the Jacobian of constrained
parameters: the mode is the one in free coordinates.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from inference.curvature.block_gaussian import GaussianApproximation
from inference.curvature.block_structure import Structure
from inference.curvature.covariance_root import NotPositiveDefiniteError
from inference.curvature.hessian_blocks import Blocks, Precision, precision_at
from inference.density.unconstrained import UnconstrainedDensity
from inference.progress import QUIET_SECONDS, ProgressBar

# How often H is formed, and the steps that are taken with each, at most. Large networks take the diagonal.
_BUDGET = {"full": (15, 150), "last_layer": (15, 150), "layer": (15, 150), "diagonal": (4, 240)}
_REMEMBERED = 20  # pairs of steps and changes of the gradient
_CONVERGED = 1e-8  # Newton decrement
_SHORTEST_STEP = 1e-8


@dataclass(frozen=True)
class Mode:
    """Where the search ended, with H and U there."""

    z: Float[Tensor, " size"]
    precision: Precision
    potential: float
    gradient_norm: float  # of U, over the coordinates that are not fixed
    decrement: float  # sqrt(g^T H^-1 g), g the gradient: the distance to the mode in posterior standard deviations
    steps: int


def find_mode(
    density: UnconstrainedDensity,
    z: Float[Tensor, " size"],
    structure: Structure,
    progress: bool,
    close: float = _CONVERGED,
) -> Mode:
    """Search from z over the coordinates of the structure, the others fixed, until the decrement is below ``close``.
    Raises RuntimeError if U or its slope is not finite at z.
    """
    search = _Search(density, z, structure, close)
    with ProgressBar(desc="mode", unit="step", progress=progress, delay=QUIET_SECONDS) as bar:
        rounds, steps = _BUDGET[structure.curvature]
        for round_ in range(rounds + 1):
            curvature = precision_at(density, search.z, structure, progress)
            search.precondition(curvature.total)
            if round_ == rounds or not search.descend(steps, bar):
                break
    gradient = search.gradient
    return Mode(search.z, curvature, search.value, float(gradient.norm()), search.decrement(gradient), search.steps)


class _Search:
    """A point, its gradient, and what is known of the curvature."""

    def __init__(self, density: UnconstrainedDensity, z: Tensor, structure: Structure, close: float) -> None:
        self.density, self.z, self.steps, self.close, self._spans = density, z, 0, close, structure.spans
        self._free = torch.zeros_like(z)
        for span in structure.spans:
            self._free[span] = 1.0
        self.value, self.gradient = self._evaluate(z)
        if not (math.isfinite(self.value) and self.gradient.isfinite().all()):
            raise RuntimeError(
                f"the log joint is {-self.value} at the start, or its slope is not finite: there is nothing to expand. "
                "Start elsewhere: another seed, or start=."
            )

    def _evaluate(self, z: Tensor) -> tuple[float, Tensor]:
        gradients, values = self.density.gradients(z[None])
        return float(values[0]), gradients[0] * self._free

    def precondition(self, blocks: Blocks) -> None:
        """Take a new H; where it is not positive definite, with a multiple of the identity added to it."""
        if not all(block.isfinite().all() for block in blocks):
            raise RuntimeError("the curvature holds NaN or infinite numbers. Start elsewhere: another seed, or start=.")
        self._pairs: deque[tuple[Tensor, Tensor]] = deque(maxlen=_REMEMBERED)
        scale, shift = max(float(block.abs().max()) for block in blocks) or 1.0, 0.0
        while True:
            try:
                shifted = [(span, _shift(block, shift)) for span, block in zip(self._spans, blocks, strict=True)]
                self._inverse = GaussianApproximation(self.z.double(), shifted)
                return
            except NotPositiveDefiniteError:
                shift = max(10 * shift, 1e-4 * scale)

    def decrement(self, gradient: Tensor) -> float:
        """sqrt(g^T H^-1 g), with the H that was taken last."""
        return max(float(gradient @ self._preconditioned(gradient)), 0.0) ** 0.5

    def _preconditioned(self, gradient: Tensor) -> Tensor:
        """H^-1 g."""
        return self._inverse.covariance_times(gradient.double()).to(gradient)

    def descend(self, most: int, bar: ProgressBar) -> bool:
        """Steps until the decrement is tiny or nothing is gained any more; returns whether there was a step."""
        before = self.steps
        for _ in range(most):
            # One tenth, so that a new H does not find the point just outside.
            if self.decrement(self.gradient) <= self.close / (10 if self.steps > before else 1):
                break
            direction = -self._quasi_newton()
            if not float(self.gradient @ direction) < 0:
                self._pairs.clear()
                direction = -self._preconditioned(self.gradient)
            if not self._step_along(direction):
                break
            bar.update()
        return self.steps > before

    # SciPy's L-BFGS-B, whitened by H, takes 7 evaluations for 2 on quadratics and ends at decrements of up to 4e-8.
    def _quasi_newton(self) -> Tensor:
        """B g, by the two loops of L-BFGS."""
        result, weights = self.gradient, []
        for step, change in reversed(self._pairs):
            weights.append((step @ result) / (step @ change))
            result = result - weights[-1] * change
        result = self._preconditioned(result)
        if self._pairs:  # far from the mode H may be far from the curvature along the last step: scale it to that
            step, change = self._pairs[-1]
            result = result * (step @ change) / (change @ self._preconditioned(change))
        for (step, change), weight in zip(self._pairs, reversed(weights), strict=True):
            result = result + (weight - (change @ result) / (step @ change)) * step
        return result

    def _step_along(self, direction: Tensor) -> bool:
        """Move as far as U falls enough; where its fall would be lost in rounding, as far as the decrement falls."""
        slope, decrement = float(self.gradient @ direction), self.decrement(self.gradient)
        resolution = 100 * torch.finfo(self.z.dtype).eps * (1 + abs(self.value))
        length = 1.0
        while length > _SHORTEST_STEP:
            z = self.z + length * direction
            value, gradient = self._evaluate(z)
            if math.isfinite(value) and gradient.isfinite().all():
                falls = value <= self.value + 1e-4 * length * slope
                if self.decrement(gradient) < decrement if -slope < resolution else falls:
                    step, change = z - self.z, gradient - self.gradient
                    if step @ change > 1e-10 * step.norm() * change.norm():
                        self._pairs.append((step, change))
                    self.z, self.value, self.gradient, self.steps = z, value, gradient, self.steps + 1
                    return True
            length /= 2
        return False


def _shift(block: Tensor, amount: float) -> Tensor:
    if not amount:
        return block
    return block + amount if block.ndim == 1 else block + amount * torch.eye(len(block)).to(block)
