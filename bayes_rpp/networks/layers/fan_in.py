"""Fan-ins: what a prior divides the variances of a layer's weights by, so that each output piece keeps its scale.

Coordinates beta_j of variance sigma^2 / f_j of orthonormal maps Phi_j add to an output piece P of size d_P, per axis,

    sigma^2 sum_j E||Phi_j x||^2 / (f_j d_P)

which is sigma^2 if f_j = F_P = sum_j E||Phi_j x||^2 / d_P, the sum over all maps into the piece. One F for all pieces
of a layer is right on average and wrong for each: pieces of high rank, into which few maps lead, would fade, and those
into which many lead would grow, from layer to layer.

E||Phi_j x||^2 is ||Phi_j||^2 times the mean square of x if the coordinates of x are uncorrelated. Those of pieces that
hold invariant vectors are not: scalars feed such pieces along these vectors, and are fed from there. Of n_R input
pieces of type R with i_R invariants among d_R coordinates of mean square q_R, a share s_R of the square lies along
the invariants. Since i_P i_R of the r_PR maps from R to P are maps between their invariants,

    d_P F_P = sum_R n_R q_R [i_P i_R s_R d_R / i_R + (r_PR - i_P i_R) (1 - s_R) d_R / (d_R - i_R)]

The share is that which a layer from the same pieces, uncorrelated, would leave: s_P = i_P sum_R n_R q_R i_R / sum_R n_R
q_R r_PR.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.bases.band_norms import band_norms
from bayes_rpp.bases.equivariant import EquivariantBasis, equivariant_basis, equivariant_maps
from bayes_rpp.networks.layers.gated import gates_itself
from bayes_rpp.representations.rep import Rep, Run

_GATED, ACTIVATED_SQUARE = 0.25, 0.5


def input_mean_squares(rep: Rep, activated: bool) -> Float[Tensor, " run"]:
    """The mean squares q_R of the coordinates of every run of pieces: 1, or what a gated nonlinearity leaves of 1. That
    is 1/4 of pieces with a gate of their own, sigmoid(g)^2 for a small gate g; and 1/2 of pieces that gate themselves,
    x sigmoid(x) for a large x.
    """
    left = [ACTIVATED_SQUARE if gates_itself(run, rep) else _GATED for run in rep.runs]
    return torch.tensor(left, dtype=torch.float64) if activated else torch.ones(len(rep.runs), dtype=torch.float64)


def dense_fan_in(rep_in: Rep, activated: bool) -> float:
    """sum_R n_R d_R q_R: every output takes one entry of a dense weight from each input coordinate."""
    sizes = torch.tensor([run.size for run in rep_in.runs], dtype=torch.float64)
    return float(sizes @ input_mean_squares(rep_in, activated)) or 1.0


def coordinate_fan_ins(
    basis: EquivariantBasis, rep_in: Rep, rep_out: Rep, activated: bool = False
) -> Float[Tensor, " rank"]:
    """f_j of every coordinate of a basis of maps from ``rep_in`` to ``rep_out``. A map into pieces of several types has
    the mean of theirs, weighted by the squared norms of its parts.
    """
    norms = band_norms(basis, [run.size for run in rep_out.runs], [run.size for run in rep_in.runs])
    squares = input_mean_squares(rep_in, activated)
    along, across = direction_squares(rep_in, squares)
    between = torch.outer(_invariants(rep_out), _invariants(rep_in)) * _copies(rep_out)[:, None] * _copies(rep_in)
    between = torch.minimum(between, norms.sum(0))  # a basis may lack some of the maps between invariants
    sizes = torch.tensor([run.size for run in rep_out.runs], dtype=torch.float64)
    of_runs = (between @ along + (norms.sum(0) - between) @ across) / sizes
    return norms.sum(-1) @ of_runs


def direction_squares(rep: Rep, squares: Float[Tensor, " run"]) -> tuple[Float[Tensor, " run"], Float[Tensor, " run"]]:
    """The mean squares along the invariant vectors of a piece of every run, q_R s_R d_R / i_R, and across them."""
    found, sizes = _invariants(rep), torch.tensor([run.piece_size for run in rep.runs], dtype=torch.float64)
    ranks = torch.tensor([[_rank(rep, rows, columns) for columns in rep.runs] for rows in rep.runs]).double()
    weights = _copies(rep) * squares
    shares = found * (weights @ found) / (ranks @ weights).clamp_min(1e-300) if len(rep.runs) else found
    along = squares * shares * sizes / found.clamp_min(1)
    across = squares * (1 - shares).clamp_min(0) * sizes / (sizes - found).clamp_min(1)
    return along, across


def layer_fan_in(basis: EquivariantBasis, rep_out: Rep) -> float:
    """How many coordinates a basis of maps has for each output, on average over the layer."""
    return max(basis.rank, 1) / max(rep_out.size, 1)


def _invariants(rep: Rep) -> Float[Tensor, " run"]:
    """i_R: how many invariant vectors a piece of every run has."""
    ranks = [equivariant_basis(_piece(rep, run)).rank for run in rep.runs]
    return torch.tensor(ranks, dtype=torch.float64)


def _copies(rep: Rep) -> Float[Tensor, " run"]:
    return torch.tensor([run.multiplicity for run in rep.runs], dtype=torch.float64)


def _rank(rep: Rep, rows: Run, columns: Run) -> int:
    return equivariant_maps(_piece(rep, columns), _piece(rep, rows)).rank


def _piece(rep: Rep, run: Run) -> Rep:
    return Rep([(1, run.piece)], rep.bound_group)
