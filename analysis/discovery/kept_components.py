"""Reflections beside the rotations that are kept: the other components of a subgroup of O(n)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from analysis.discovery.element_distances import element_distances
from analysis.discovery.kept_algebra import KeptAlgebra
from analysis.discovery.limits import Criterion, points_and_limits
from analysis.discovery.subalgebra_names import vector_words
from analysis.in_words import InWords
from analysis.symmetry.binding import Function, bind, rebind
from bayes_rpp import Group, O, Rep
from bayes_rpp.seeding import seeded_generator
from inference import Posterior

_EACH = 4  # representatives of a component, since what is kept is kept approximately
_FIXED = 1e-6


@dataclass(frozen=True, repr=False)
class KeptComponents(InWords):
    """Which of the components that rotations leave open a posterior, or a function, keeps.

    Attributes
    ----------
    distances : (component,), with their names: the largest over some representatives of how many posterior standard
        deviations the mean of f(g x) - g f(x) is from 0; of a function, of its errors.
    errors : (chain, draw, component), or (component): the mean equivariance error, a ratio of norms.
    kept : the names of those that are kept.
    group : the rotations and one reflection of each component that is kept.
    """

    distances: xr.DataArray
    errors: xr.DataArray
    kept: list[str]
    group: Group

    def __str__(self) -> str:
        others = [str(name) for name in self.distances.component.values if name not in self.kept]
        words = f"It keeps {', '.join(self.kept) or 'no reflection'}"
        return f"{words}; not {', '.join(others)}." if others else f"{words}."


def kept_components(
    f: Posterior | Function,
    x: Float[Tensor, "batch size_in"],
    rotations: KeptAlgebra,
    *,
    rep_in: Rep | None = None,
    rep_out: Rep | None = None,
    tolerance: float | None = None,
    y: Float[Tensor, "batch *event"] | None = None,
    noise_variance: float | None = None,
) -> KeptComponents:
    """Which reflections are kept beside rotations that are: a Lie algebra sees none of them.

    The rotations mix the directions of a space W and leave those of its complement K alone. What is kept beside them
    maps W and K to themselves. Tried are a reflection in W (all are alike, up to rotations that are kept), the
    inversion of K, and both together; with W everything, only the first, and with nothing kept, the inversion of
    everything. Rotations in K, and finite subgroups where nothing is kept, are not looked for.

    Parameters
    ----------
    f, x, rep_in, rep_out, tolerance, y, noise_variance : see ``kept_symmetry``.
    rotations : of ``kept_symmetry`` among those of SO(n) or O(n).

    Raises
    ------
    ValueError
        If what is kept are not the rotations of a space.

    Examples
    --------
    >>> data = inertia(symmetry_breaking=0.3)
    >>> x, reps = data.test.x.double(), {"rep_in": data.rep_in, "rep_out": data.rep_out}
    >>> print(kept_components(data.function, x, kept_symmetry(data.function, x, O(3), **reps), **reps))
    It keeps reflections in planes through (0.00, 0.00, 1.00), the reflection of (0.00, 0.00, 1.00), half turns that
    reflect (0.00, 0.00, 1.00).
    """
    if not isinstance(rotations, KeptAlgebra):
        raise TypeError(f"rotations must be what kept_symmetry gives, got {type(rotations).__name__}.")
    matrices = rotations.subalgebra.matrices
    if rotations.group.factors != (rotations.group,) or (matrices + matrices.mT).norm() > _FIXED:
        raise ValueError(f"kept_components needs rotations, and {rotations.group} has other elements too.")
    if rotations.dimension:
        if rotations.known is None or not rotations.known.words.startswith("rotations"):
            raise ValueError("kept_components needs all rotations of one space; what is kept has no such name.")
        matrices = rotations.known.algebra.matrices  # exactly, without what draws leave of others
    whole = O(rotations.group.d)
    rep_in, rep_out, dims = bind(f, None, rep_in, rep_out, "kept_components")
    rep_in, rep_out = rebind(rep_in, whole), rebind(rep_out, whole)
    x, limits = points_and_limits(f, x, rep_in, Criterion(tolerance, y, noise_variance), "kept_components")
    components = _representatives(matrices, whole.d)
    found = element_distances(f, x, rep_in, rep_out, torch.cat(list(components.values())), limits.inflation)
    distances = found.distances.unflatten(0, (len(components), _EACH)).amax(1)
    errors = found.errors.unflatten(1, (len(components), _EACH)).mean(2)
    kept = [name for name, distance in zip(components, distances.tolist(), strict=True) if distance <= limits.of_mean]
    generators = [components[name][0] for name in kept]
    names = {"component": list(components)}
    return KeptComponents(
        xr.DataArray(distances.numpy(), names, ["component"]),
        xr.DataArray(errors.reshape((*found.shape, -1)).numpy(), names, [*dims, "component"]),
        kept,
        Group(matrices, torch.stack(generators) if generators else None, name=f"kept({whole})"),
    )


def _representatives(matrices: Float[Tensor, "r d d"], d: int) -> dict[str, Float[Tensor, "each d d"]]:
    """Some elements of each component, by its name."""
    one = torch.eye(d, dtype=torch.float64)
    if not len(matrices):
        return {"the inversion": -one.expand(_EACH, d, d)}
    left, sizes, _ = torch.linalg.svd(matrices.transpose(0, 1).flatten(1))
    mixed = left[:, : int((sizes > _FIXED * sizes[0]).sum())]
    directions = torch.randn(_EACH, mixed.shape[1], generator=seeded_generator(0), dtype=torch.float64) @ mixed.mT
    directions = torch.nn.functional.normalize(directions, dim=1)
    reflections = one - 2 * directions[:, :, None] * directions[:, None, :]
    if mixed.shape[1] == d:
        return {"reflections": reflections}
    inversion = (2 * mixed @ mixed.mT - one).expand(_EACH, d, d)
    names = "reflections of W", "the inversion of K", "reflections of W with the inversion of K"
    if d == 3:
        axis = vector_words(left[:, 2])
        names = f"reflections in planes through {axis}", f"the reflection of {axis}", f"half turns that reflect {axis}"
    return dict(zip(names, (reflections, inversion, reflections @ inversion), strict=True))
