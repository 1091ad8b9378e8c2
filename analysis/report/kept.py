"""The part of its group that a run keeps."""

from __future__ import annotations

from torch import Tensor

from analysis.discovery.kept_algebra import KeptAlgebra
from analysis.discovery.kept_subgroup import KeptSubgroup, kept_subgroup
from analysis.discovery.kept_symmetry import kept_symmetry
from bayes_rpp import Group, Trivial
from inference import Posterior


def kept_of(posterior: Posterior, x: Tensor, y: Tensor) -> KeptAlgebra | KeptSubgroup | str | None:
    """Which directions of the Lie algebra are kept, or which elements of a finite group; why nothing can be said; None
    where there is no group, or a single draw.
    """
    group = posterior.bayesian_model.network.group
    assert isinstance(group, Group)
    if isinstance(group, Trivial) or posterior.chains * posterior.draws < 2:
        return None
    search = kept_symmetry if len(group.orthonormal_algebra) else kept_subgroup
    try:
        return search(posterior, x, y=y)
    except ValueError as error:  # as of draws that are all alike, or a finite group that is too large
        return f"nothing can be said of what is kept: {error}"
