"""Which part of a group a posterior keeps, or which of all linear symmetries: a Lie algebra, with an interval."""

from __future__ import annotations

from typing import Literal

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from analysis.discovery.kept_algebra import KeptAlgebra
from analysis.discovery.lie_forms import LieForms, lie_forms
from analysis.discovery.limits import Criterion, Limits, points_and_limits
from analysis.discovery.subalgebra import Subalgebra, leaving_the_span
from analysis.discovery.subspaces import mean_subspace
from analysis.symmetry.binding import Function, bind, rebind
from bayes_rpp import Group, Rep
from bayes_rpp.groups.group import ProductGroup
from inference import Posterior

_CLOSED = 1e-6  # brackets of matrices of length 1
_ROUNDING = 10  # machine epsilons that a local error may come from


def kept_symmetry(
    f: Posterior | Function,
    x: Float[Tensor, "batch size_in"],
    group: Group | None = None,
    *,
    algebra: Literal["gl"] | None = None,
    rep_in: Rep | None = None,
    rep_out: Rep | None = None,
    tolerance: float | None = None,
    y: Float[Tensor, "batch *event"] | None = None,
    noise_variance: float | None = None,
) -> KeptAlgebra:
    r"""Which Lie subalgebra of a group a posterior keeps, or which linear symmetries nobody has declared.

    The Lie derivative L_a f of a draw is 0 for the directions a that it keeps. With S the quadratic form of the mean
    Lie derivative of the draws, and N that of their spread around it (``analysis/discovery/lie_forms.py``), the
    generalised eigenvalues d_1^2 <= ... <= d_k^2 of S v = d^2 N v are the squared distances of the mean from 0 in
    posterior standard deviations. The kept algebra has as many dimensions as there are d_i <= 1.5. If the truth is to
    the draws as they are to each other, d is about sqrt(1 + 1 / draws) for what it keeps. In units of N, directions in
    which the posterior is unsure, as scalings, and those in which it is sure, as rotations, are compared alike.

    What is wrong with all draws alike is not in N, and looks like a broken symmetry: give held-out y, by which N is
    corrected. A posterior that knows nothing keeps everything: see ``KeptAlgebra.is_unsure``.

    Parameters
    ----------
    f : a posterior of at least two draws; or a function of batches, row by row, that ``torch.func.jvp`` can
        differentiate, for which N is the unit matrix.
    x : points, as for ``equivariance_error``; the symmetry is that of f near them.
    group : whose Lie algebra is searched; by default that of the representations. Discrete generators are not seen.
    algebra : "gl" searches all matrices of the group's dimension (of each factor of a direct product). Vectors and
        duals then differ even if the group is orthogonal, and tensors scale.
    rep_in, rep_out : see ``equivariance_error``; with "gl" they must be tensors.
    tolerance : for a function, the largest local error of what counts as kept; by default ten times the square root of
        the machine epsilon. Not for posteriors.
    y, noise_variance : for a posterior, observations at x that it was not fitted to, and the variance of their noise,
        by default what the model says (0 for values of the function itself). Members of an ensemble make errors in
        common, which their spread does not show; with y the spread is multiplied by the ratio of the mean prediction's
        error to it, if that is larger than 1.

    Raises
    ------
    ValueError
        If the group has no Lie algebra, a representation or group is missing or does not fit, a posterior has a single
        draw or a tolerance, or f is 0 at all points.

    Examples
    --------
    >>> data = inertia(symmetry_breaking=0.3)
    >>> x, reps = data.test.x.double(), {"rep_in": data.rep_in, "rep_out": data.rep_out}
    >>> print(kept_symmetry(data.function, x, SO(3), **reps))
    It keeps 1 of the 3 directions of SO(3): rotations about (0.00, 0.00, 1.00).
    >>> kept_symmetry(data.function, x, algebra="gl", **reps).known.words
    'rotations about (0.00, 0.00, 1.00), and scalings of all axes'
    """
    rep_in, rep_out, dims = bind(f, group, rep_in, rep_out, "kept_symmetry")
    if algebra is not None:
        every = _all_matrices(rep_in.bound_group, algebra)
        rep_in, rep_out = rebind(rep_in, every), rebind(rep_out, every)
    group = rep_in.bound_group
    if not len(group.orthonormal_algebra):
        raise ValueError(f"{group} has no Lie algebra, so no directions to keep: use equivariance_error.")
    x, limits = points_and_limits(f, x, rep_in, Criterion(tolerance, y, noise_variance), "kept_symmetry")
    directions = 2**0.5 * group.orthonormal_algebra
    if (defect := leaving_the_span(directions)) > _CLOSED:
        raise ValueError(
            f"the Lie algebra of {group} is not closed: brackets leave it by {defect:.2g}. Add what they give to it."
        )
    forms = lie_forms(f, x, rep_in, rep_out, directions)
    whitening = torch.eye(len(directions), dtype=torch.float64)
    if isinstance(f, Posterior):
        whitening = _whitening(limits.inflation**2 * forms.of_spread, _ROUNDING * torch.finfo(x.dtype).eps)
    return _kept(group, directions, forms, whitening, limits, dims)


def _kept(
    group: Group,
    directions: Float[Tensor, "k d d"],
    forms: LieForms,
    whitening: Float[Tensor, "k k"],
    limits: Limits,
    dims: list[str],
) -> KeptAlgebra:
    """The directions along which ``whitening^T S whitening`` is at most the limit, squared."""
    distances = torch.linalg.eigvalsh(whitening.mT @ forms.of_mean @ whitening).clamp_min(0).sqrt()
    dimension = int((distances <= limits.of_mean).sum())
    squares, vectors = torch.linalg.eigh(whitening.mT @ forms.of_draws @ whitening)
    bases = torch.linalg.qr(whitening @ vectors[:, :, :dimension]).Q
    basis = mean_subspace(bases)
    complement = torch.linalg.qr(basis, mode="complete").Q[:, dimension:]
    pooled = forms.of_draws.mean(0)
    along = torch.cat([_eigenvectors_inside(pooled, part) for part in (basis, complement)], dim=1)
    errors = torch.einsum("ki,dkl,li->di", along, forms.of_draws, along).clamp_min(0).sqrt()
    spread = torch.linalg.inv(whitening @ whitening.mT)
    own = [torch.einsum("ki,kl,li->i", along, form, along).clamp_min(0) for form in (forms.of_mean, spread)]
    agree = (squares <= limits.of_draw**2).sum(1) == dimension
    return KeptAlgebra(
        group=group,
        subalgebra=Subalgebra(directions, along[:, :dimension]),
        distances=xr.DataArray(distances.numpy(), dims=["direction"]),
        distances_along=xr.DataArray((own[0] / own[1]).sqrt().numpy(), dims=["direction"]),
        detectable=xr.DataArray((limits.of_mean * own[1].sqrt()).numpy(), dims=["direction"]),
        share=float(agree.double().mean()),
        local_errors=xr.DataArray(errors.reshape((*forms.shape, -1)).numpy(), dims=[*dims, "direction"]),
        along=torch.einsum("ki,kab->iab", along, directions),
        bases=bases,
        chance=forms.of_noise,
        inflation=limits.inflation,
    )


def _whitening(spread: Float[Tensor, "k k"], rounding: float) -> Float[Tensor, "k k"]:
    """W with W^T N W = 1, where N is spread and what rounding may do, a local error of ``rounding``."""
    values, vectors = torch.linalg.eigh(spread)
    return vectors * (values.clamp_min(0) + rounding**2).rsqrt()


def _eigenvectors_inside(form: Float[Tensor, "k k"], basis: Float[Tensor, "k r"]) -> Float[Tensor, "k r"]:
    """A basis of the subspace along the form's principal directions in it, from the smallest value on."""
    return basis @ torch.linalg.eigh(basis.mT @ form @ basis).eigenvectors


def _all_matrices(group: Group, algebra: str) -> Group:
    """GL(d), or for a direct product that of its factors."""
    if algebra != "gl":
        raise ValueError(f"algebra must be 'gl' or None, got {algebra!r}.")
    parts = [_general_linear(part.d) for part in group.factors]
    return parts[0] if len(parts) == 1 else ProductGroup(parts)


def _general_linear(d: int) -> Group:
    return Group(lie_algebra=torch.eye(d * d, dtype=torch.float64).unflatten(1, (d, d)), name=f"GL({d})")
