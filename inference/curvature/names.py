"""The names of curvature structures: what a matrix H over the free coordinates couples, and who can use it.

| name           | couples                                                      | form of H                     |
|----------------|--------------------------------------------------------------|-------------------------------|
| "full"         | everything                                                   | a dense matrix                |
| "layer"        | the parameters of a layer, both pathways together            | a dense matrix for each layer |
| "kronecker"    | an effective weight                                          | Kronecker factors S (x) A     |
| "symmetric"    | an effective weight                                          | S, A averaged over the group  |
| "pathway"      | nothing along the pathways of a layer, constant off them     | eigenvalues on the pathways   |
| "diagonal"     | nothing                                                      | the diagonal                  |
| "last_layer"   | the parameters of the last layer; all others are fixed       | a dense matrix                |
| "identity"     | nothing; not a curvature at all                              | none                          |

Laplace approximations need blocks that have an inverse, evidences also take factors, which only have a determinant
together with the prior, and metrics need a square root.
"""

from __future__ import annotations

from typing import Literal, get_args

BlockCurvature = Literal["full", "layer", "diagonal", "last_layer"]  # of Laplace
FactoredCurvature = Literal["kronecker", "symmetric"]
EvidenceCurvature = Literal["full", "layer", "kronecker", "symmetric", "diagonal"]  # of LaplaceEvidence, EmpiricalBayes
MetricName = Literal["identity", "diagonal", "layer", "full", "pathway"]  # of samplers


def check_curvature(name: str, names: object) -> None:
    """Raise ValueError unless a name is among those of a Literal."""
    if name not in get_args(names):
        *others, last = map(repr, get_args(names))
        raise ValueError(f"curvature must be one of {', '.join(others)} or {last}, got {name!r}.")


def mode_curvature(curvature: EvidenceCurvature) -> BlockCurvature:
    """The curvature of the search for the mode: factors have no inverse, so that the diagonal is used instead."""
    return "diagonal" if curvature == "kronecker" or curvature == "symmetric" else curvature
