"""The local equivariance error: by the Lie derivative, without a sample of the group."""

from __future__ import annotations

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from analysis.symmetry.binding import Function, bind, check_output, check_points
from analysis.symmetry.evaluation import Evaluation, PointSums
from analysis.symmetry.generator_names import generator_names
from analysis.symmetry.output_parts import OutputParts
from bayes_rpp import Group, Rep
from bayes_rpp.forward_mode import jvp
from inference import Posterior


def local_equivariance_error(
    f: Posterior | Function,
    x: Float[Tensor, "batch size_in"],
    group: Group | None = None,
    *,
    rep_in: Rep | None = None,
    rep_out: Rep | None = None,
    per_generator: bool = False,
    per_output: bool = False,
) -> xr.DataArray:
    r"""How fast a function leaves the symmetry along the directions of the Lie algebra.

    The Lie derivative along a Lie-algebra element a,

        L_a f(x) = d/dt rho_out(exp(t a)) f(rho_in(exp(-t a)) x) at t = 0
                 = drho_out(a) f(x) - Df(x)[drho_in(a) x],

    is 0 for every x and a if and only if f is equivariant under the identity component (Gruver, Finzi, Goldblum &
    Wilson, "The Lie derivative for measuring learned equivariance", ICLR 2023, who have the opposite sign). It takes
    one forward-mode derivative for each direction. The error along a is ||L_a f(x)|| / (2 ||f(x)||), the equivariance
    error for a small step: that of exp(t a) is t times this, as t goes to 0. It is not bounded by 1. Its root mean
    square over all directions of length 1,

        sqrt(sum_i ||L_{e_i} f(x)||^2 / k) / (2 ||f(x)||)   with an orthonormal basis e_1, ..., e_k,

    does not depend on the basis. The mean over the points is the result. Lengths are those of the inner product
    <a, b> = tr(a^T b) / 2 of d x d matrices: a rotation in a plane has length 1, so that the error is one a radian; and
    so has a boost, for which it is one a unit of rapidity. For a group of orthogonal matrices no element of the group
    changes lengths, b = g a g^-1; for other groups they depend on the coordinates in which the matrices are given.

    Discrete generators (reflections, permutations) have no Lie derivative: use ``equivariance_error`` for them. The
    attribute "not_seen" names them.

    Parameters
    ----------
    f : a posterior, measured draw by draw, or a function of batches, row by row, made of torch operations that
        ``torch.func.jvp`` can differentiate. What f detaches counts as constant.
    x, group, rep_in, rep_out, per_output : see ``equivariance_error``.
    per_generator : keep the elements of ``group.lie_algebra`` apart, each scaled to length 1.

    Returns
    -------
    DataArray with dims (chain, draw) for a posterior and none for a function; then "generator" if per_generator, with
    their names for coordinates, and last "output" if per_output. Infinite if f is 0 at a point and its Lie derivative
    is not.

    Raises
    ------
    ValueError
        If the group has no Lie algebra, or a representation or group is missing or does not fit.

    Examples
    --------
    >>> data = inertia(symmetry_breaking=0.3)
    >>> reps = {"rep_in": data.rep_in, "rep_out": data.rep_out}
    >>> error = local_equivariance_error(data.function, data.test.x, per_generator=True, **reps)
    >>> float(error.sel(generator="rotation in the plane of axes 0 and 1")) < 1e-6
    True
    """
    rep_in, rep_out, dims = bind(f, group, rep_in, rep_out, "local_equivariance_error")
    group = rep_in.bound_group
    if not len(group.orthonormal_algebra):
        raise ValueError(f"{group} has no Lie algebra, so no Lie derivative: use equivariance_error.")
    x = check_points(f, x, rep_in)
    x = x if x.is_floating_point() else x.to(torch.get_default_dtype())
    lengths = group.lie_algebra.flatten(1).norm(dim=1) / 2**0.5
    unit = group.lie_algebra / torch.where(lengths > 0, lengths, 1.0)[:, None, None]
    directions = unit if per_generator else 2**0.5 * group.orthonormal_algebra
    matrices = [(rep_in.drho(a).mT, rep_out.drho(a).mT) for a in directions]
    parts = OutputParts(rep_out, per_output)

    def measure(f: Function, x: Float[Tensor, "batch size_in"]) -> Float[Tensor, "rows *parts batch"]:
        """The norms of f, and of its Lie derivatives along the directions."""
        rows: list[Tensor] = []
        for inward, outward in matrices:
            value, derivative = jvp(f, (x,), (x @ inward.to(x),))
            check_output(value, rep_out)
            rows = rows or [parts.scales(value)]
            rows.append(parts.residuals(value @ outward.to(value) - derivative))
        return torch.stack(rows)

    evaluation = Evaluation(f, x)
    sums = PointSums(evaluation.draws)
    for piece in evaluation.pieces("local errors"):
        norms = evaluation.measured(piece, measure).double().movedim(0, -2)  # (rows, *parts, draw, some)
        speed = norms[1:] if per_generator else norms[1:].square().mean(0).sqrt()
        sums.add(piece.draws, torch.where(speed > 0, speed / (2 * norms[0]), 0.0).sum(-1))
    values = evaluation.by_chain(sums.total.movedim(-1, 0) / len(x))
    names, unseen = generator_names(group)[: len(directions)], generator_names(group)[len(group.lie_algebra) :]
    generators = {"generator": names} if per_generator else {}
    return xr.DataArray(
        values.numpy(),
        dims=[*dims, *generators, *parts.dims],
        coords=generators | parts.coords,
        name="local_equivariance_error",
        attrs={"group": str(group), "points": len(x), "inner_product": "tr(a^T b) / 2", "not_seen": unseen},
    )
