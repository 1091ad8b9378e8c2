"""Which coordinates a curvature matrix couples, and whether it fits into memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bayes_rpp import BayesianModel
from inference.curvature.names import BlockCurvature, check_curvature
from inference.density.unconstrained import UnconstrainedDensity
from inference.memory import LARGEST_MATRIX, free_memory

_COPIES = 4  # of a matrix, at most at one time: the data's part, the prior's, their sum, its factor
_BYTES = 8  # float64


@dataclass(frozen=True)
class Structure:
    """The blocks of a matrix over free coordinates: the parameters and the coordinates of each. A layer is a module
    that has parameters; each variance with a hyperprior and each parameter of the likelihood counts as one, and so does
    each tensor of a LogDensity. The last layer is the module that holds the network's last parameter.
    """

    curvature: BlockCurvature
    names: tuple[tuple[str, ...], ...]
    spans: tuple[slice, ...]

    @classmethod
    def of(cls, density: UnconstrainedDensity, curvature: BlockCurvature) -> Structure:
        """The structure of a density; raises ValueError for an unknown curvature, or "last_layer" of a LogDensity."""
        check_curvature(curvature, BlockCurvature)
        groups: dict[str, list[str]] = {}
        if curvature in ("full", "diagonal"):
            groups = {"": list(density.shapes)}
        elif isinstance(density.model, BayesianModel):
            own = {*density.model.hyperpriors, *density.model.likelihood.constraints()}
            for name in density.shapes:
                key = f"the model's {name}" if name in own else name.rpartition(".")[0]
                groups.setdefault(key, []).append(name)
            if curvature == "last_layer":
                last = [name for name in density.shapes if name not in own][-1].rpartition(".")[0]
                groups = {last: groups[last]}
        elif curvature == "last_layer":
            raise ValueError("curvature='last_layer' needs a network; a LogDensity has no layers. Use 'full'.")
        else:
            groups = {name: [name] for name in density.shapes}
        names = tuple(tuple(group) for group in groups.values())
        spans = spans_of(density)
        return cls(curvature, names, tuple(slice(spans[g[0]].start, spans[g[-1]].stop) for g in names))

    @property
    def sizes(self) -> list[int]:
        """The numbers of coordinates of the blocks."""
        return [span.stop - span.start for span in self.spans]

    @property
    def bytes(self) -> int:
        """The size of one matrix."""
        return _BYTES * sum(size if self.curvature == "diagonal" else size**2 for size in self.sizes)

    def check_memory(self, density: UnconstrainedDensity) -> None:
        """Raise ValueError if the matrix would not fit, with its bytes, and what to use instead."""
        free, needed = free_memory(density.device), _COPIES * self.bytes
        if self._fits(free):
            return
        limit = f"the limit is {LARGEST_MATRIX:,}"
        if self.bytes <= LARGEST_MATRIX:
            limit = f"its computation needs {needed:,}, and {free:,} are free"
        others: list[BlockCurvature] = ["layer", "diagonal"]
        if isinstance(density.model, BayesianModel):
            others.append("last_layer")
        smaller = [other for name in others if (other := Structure.of(density, name))._fits(free)]
        instead = " and ".join(f"{other.bytes:,} as '{other.curvature}'" for other in smaller)
        raise ValueError(
            f"curvature={self.curvature!r} of {density.size:,} parameters needs a matrix of {self.bytes:,} bytes; "
            f"{limit}. " + (f"It would be {instead}." if smaller else "No other curvature would fit, either.")
        )

    def _fits(self, free: int | None) -> bool:
        return self.bytes <= LARGEST_MATRIX and (free is None or _COPIES * self.bytes <= free)


def spans_of(density: UnconstrainedDensity) -> dict[str, slice]:
    """The coordinates of every parameter."""
    spans, start = {}, 0
    for name, shape in density.shapes.items():
        spans[name] = slice(start, start + math.prod(shape))
        start += math.prod(shape)
    return spans
