"""Pyro distributions over weights that lie close to a subspace."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints, register_kl
from torch.distributions.utils import _standard_normal

from bayes_rpp.bases.equivariant import EquivariantBasis
from bayes_rpp.bases.joint_span import JointSpan, are_orthogonal
from bayes_rpp.priors.checked_variances import check_variances
from bayes_rpp.priors.conditional import draw_coordinates
from bayes_rpp.priors.spectrum import Eigenvalues, leverage
from bayes_rpp.priors.woodbury import JointCovariance


class PathwayNormal(TorchDistribution):
    r"""N(0, sum_k v_k Q_k D_k Q_k^T + v_b I) over a parameter of any shape; the covariance is never formed.

    This is the law of a sum of pathways, W = sum_k Q_k beta_k + B with beta_k ~ N(0, v_k D_k) and B ~ N(0, v_b I)
    (Finzi, Benton & Wilson, NeurIPS 2021, section 3.2, where D_k = I). D_k = diag(d_k) holds the relative variances of
    the coordinates. With orthonormal and mutually orthogonal Q_k of rank r_k, and P the projector on what they leave,
    the covariance is sum_k Q_k (v_k D_k + v_b I) Q_k^T + v_b P, its square root sqrt(v_b) I + sum_k Q_k [(v_k D_k +
    v_b I)^(1/2) - sqrt(v_b) I] Q_k^T, and its log determinant sum_k sum_j log(v_k d_kj + v_b) + (n - sum_k r_k) log
    v_b. Without bases it is N(0, v_b I), or N(0, v_b D). Bases that are not mutually orthogonal go through the Gram
    matrix of their union, at a cost cubic in their total rank.

    Parameters
    ----------
    event_shape : the parameter's shape, (m, n) or (m,) say, with n coordinates in all.
    dense_variance : v_b > 0, a number or a tensor of the batch shape.
    bases : orthonormal bases Q_k of size n.
    pathway_variances : v_k >= 0, one for each basis, each a number or a tensor of the batch shape.
    relative_variances : d_k > 0 of shape (r_k,), one for each basis; without bases a single one, d of shape (n,). None
        in place of one, or of all, stands for ones.

    Raises
    ------
    ValueError
        If a variance is not positive and finite, a basis or relative variances do not fit, or bases that are not
        mutually orthogonal have too large a total rank.

    Examples
    --------
    >>> basis = equivariant_maps(Vector(SO(3)), Vector(SO(3)))
    >>> PathwayNormal((3, 3), 1e-4, [basis], [1.0]).sample().shape
    torch.Size([3, 3])
    """

    support: constraints.Constraint = constraints.real
    has_rsample = True
    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  (checked in __init__, with better messages)

    def __init__(
        self,
        event_shape: Sequence[int],
        dense_variance: float | Tensor,
        bases: Sequence[EquivariantBasis] = (),
        pathway_variances: Sequence[float | Tensor] = (),
        relative_variances: Sequence[Float[Tensor, " rank"] | None] | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if len(bases) != len(pathway_variances):
            raise ValueError(
                f"got {len(bases)} bases but {len(pathway_variances)} pathway_variances; need one for each."
            )
        given = (dense_variance, *pathway_variances)
        dtypes = [v.dtype for v in given if isinstance(v, Tensor)]
        # Numbers stay exact: a float64 scalar adopts the type of what it meets. Samples have the given tensors' type.
        self._dtype = functools.reduce(torch.promote_types, dtypes) if dtypes else torch.get_default_dtype()
        tensors = [torch.as_tensor(v, dtype=self._dtype if dtypes else torch.float64) for v in given]
        self.dense_variance, *pathways = torch.broadcast_tensors(*tensors)
        self.pathway_variances = tuple(pathways)
        self.bases = tuple(bases)
        relative = (None,) * max(1, len(bases)) if relative_variances is None else tuple(relative_variances)
        if len(relative) != max(1, len(bases)):
            raise ValueError(f"got {len(relative)} relative_variances for {len(bases)} bases; need one for each.")
        self.relative_variances = relative
        self.numel = math.prod(event_shape)
        self.support = constraints.independent(constraints.real, len(event_shape))
        if validate_args is not False:
            check_variances(
                event_shape, self.dense_variance, self.bases, self.pathway_variances, self.relative_variances
            )
        orthogonal = len(self.bases) < 2 or are_orthogonal(self.bases)
        self._joint = (
            None
            if orthogonal
            else JointCovariance(JointSpan(self.bases), self.dense_variance, self.pathway_variances, relative)
        )
        self._half_precisions = [-0.5 / part.variance for part in self._spectrum()]
        self._log_normalizer = -0.5 * (self._log_determinant() + self.numel * math.log(2 * math.pi))
        super().__init__(self.dense_variance.shape, torch.Size(event_shape), validate_args=validate_args)

    def __repr__(self) -> str:
        pathways = "".join(f", rank {basis.rank:,} of {basis.size:,}" for basis in self.bases)
        variance = self.dense_variance
        dense = f"batch {tuple(self.batch_shape)}" if variance.ndim else f"dense variance {float(variance):.3g}"
        return f"PathwayNormal({tuple(self.event_shape)}{pathways}, {dense})"

    @property
    def dense_variances(self) -> Float[Tensor, "*batch coordinate"]:
        """v_b of every coordinate: (*batch, n) with relative variances; else (*batch, 1), or () without a batch."""
        return self._spread(self.dense_variance, None if self.bases else self.relative_variances[0])

    @property
    def coordinate_variances(self) -> list[Float[Tensor, "*batch coordinate"]]:
        """v_k d_k of every basis: (*batch, r_k) with relative variances; else (*batch, 1), or () without a batch."""
        pairs = zip(self.pathway_variances, self.relative_variances, strict=False)
        return [self._spread(variance, relative) for variance, relative in pairs]

    @property
    def mean(self) -> Tensor:
        """Zero, of shape (*batch, *event)."""
        return self.dense_variance.new_zeros(self._extended_shape(), dtype=self._dtype)

    @property
    def variance(self) -> Float[Tensor, "*batch_and_event"]:
        """The diagonal of the covariance, v_b + sum_k v_k (Q_k Q_k^T)_ii; takes O(n r) time."""
        result = self.dense_variances.expand(*self.batch_shape, self.numel)
        for basis, variance, relative in zip(self.bases, self.pathway_variances, self.relative_variances, strict=False):
            result = result + self._spread(variance) * leverage(basis, relative)
        return result.reshape(self._extended_shape()).to(self._dtype)

    def log_prob(self, value: Float[Tensor, "*sample_batch_event"]) -> Float[Tensor, "*sample_batch"]:
        """The log density; float32 is safe even where v_b is 1e-7 of v_k, since the residual is formed explicitly."""
        if self._validate_args:
            self._validate_sample(value)
        normalizer, *factors = (term.to(value.dtype) for term in (self._log_normalizer, *self._half_precisions))
        if not (self.event_shape or self.bases):
            return value.square() * factors[0] + normalizer
        residual = flat = self._flat(value)
        if self._joint is not None:
            return normalizer - 0.5 * self._joint.mahalanobis(flat)
        result, (outer, *inner) = normalizer, self._spectrum()
        for basis, part, factor in zip(self.bases, inner, factors[1:], strict=True):
            coordinates = basis.coordinates(flat)
            residual = residual - basis.expand(coordinates)
            result = result + part.sum(coordinates.square(), factor)
        return outer.sum(residual.square(), factors[0]) + result

    def rsample(self, sample_shape: torch.Size | Sequence[int] = ()) -> Float[Tensor, "*sample_batch_event"]:
        """Draw by the square root of the covariance, differentiably in the variances."""
        shape = self._extended_shape(torch.Size(sample_shape))
        return self.color(_standard_normal(shape, self._dtype, self.dense_variance.device))

    def color(self, noise: Float[Tensor, "*sample_batch_event"]) -> Float[Tensor, "*sample_batch_event"]:
        """S e with S S^T = Sigma: a draw, if e is standard normal; differentiable in the variances."""
        flat = self._flat(noise)
        if self._joint is not None:
            return self._shaped(self._joint.color(flat))
        narrow = self.dense_variances.sqrt()
        result = narrow * flat
        for basis, variance in zip(self.bases, self.coordinate_variances, strict=True):
            gain = (variance + narrow.square()).sqrt() - narrow
            result = result + basis.expand(gain * basis.coordinates(flat))
        return self._shaped(result)

    def whiten(self, value: Float[Tensor, "*sample_batch_event"]) -> Float[Tensor, "*sample_batch_event"]:
        """S^-1 W, the inverse of ``color``."""
        solved = self.precision_times(value)
        return torch.func.vjp(self.color, solved)[1](solved)[0]  # S^T Sigma^-1 W

    def precision_times(self, value: Float[Tensor, "*sample_batch_event"]) -> Float[Tensor, "*sample_batch_event"]:
        """Sigma^-1 v, which is minus the slope of the log density, differentiably in the variances."""
        residual = flat = self._flat(value)
        if self._joint is not None:
            return self._shaped(self._joint.solve(flat))
        parts = zip(self._half_precisions, self._spectrum(), strict=True)
        precision, *precisions = [
            (-2 * half if part.elementwise else self._spread(-2 * half)).to(value) for half, part in parts
        ]
        inside = torch.zeros_like(flat)
        for basis, factor in zip(self.bases, precisions, strict=True):
            coordinates = basis.coordinates(flat)
            residual = residual - basis.expand(coordinates)
            inside = inside + basis.expand(factor * coordinates)
        for basis in self.bases:  # again: what rounding has left in the span would be divided by v_b
            residual = residual - basis.project(residual)
        return self._shaped(precision * residual + inside)

    def split(
        self,
        value: Float[Tensor, "*sample_batch_event"],
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> tuple[list[Float[Tensor, "*sample_batch rank"]], Float[Tensor, "*sample_batch_event"]]:
        r"""Draw the pathways given their sum W = ``value``: beta_k and B from p(beta, B | sum_k Q_k beta_k + B = W).

        It is exact for any bases, by Matheron's rule. With one basis beta_j ~ N(s_j (Q^T W)_j, s_j v_b), s_j = v_a d_j
        / (v_a d_j + v_b). All in float64; B is what the rounded coordinates leave of W.

        Parameters
        ----------
        value : W, of shape (*sample, *batch, *event).
        generator : of the noise; torch's global one by default.
        temperature : T, for the law proportional to p(beta, B | W)^(1/T); 0 gives its mode.

        Returns
        -------
        The coordinates beta_k, each (*sample, *batch, r_k), and B, of the shape of ``value``.

        Examples
        --------
        >>> law = PathwayNormal((3, 3), 1e-4, [equivariant_maps(Vector(SO(3)), Vector(SO(3)))], [1.0])
        >>> (beta,), rest = law.split(torch.eye(3))
        >>> beta.shape, rest.shape
        (torch.Size([1]), torch.Size([3, 3]))
        """
        total = self._flat(value).double()
        total = total.expand(*torch.broadcast_shapes(total.shape[:-1], self.batch_shape), self.numel)
        variances = self.dense_variances, self.bases, self.coordinate_variances, self._joint
        drawn = draw_coordinates(total, *variances, generator, temperature)
        betas, rest = [beta.to(value.dtype) for beta in drawn], total
        for basis, beta in zip(self.bases, betas, strict=True):
            rest = rest - basis.expand(beta.double())
        return betas, self._shaped(rest).to(value.dtype)

    def entropy(self) -> Float[Tensor, "*batch"]:
        """The differential entropy in nats."""
        return (0.5 * (self.numel * (1 + math.log(2 * math.pi)) + self._log_determinant())).to(self._dtype)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> PathwayNormal:
        """The same distribution with a larger batch shape."""
        wider = PathwayNormal(
            self.event_shape,
            self.dense_variance.expand(torch.Size(batch_shape)),
            self.bases,
            [variance.expand(torch.Size(batch_shape)) for variance in self.pathway_variances],
            self.relative_variances,
            validate_args=False,
        )
        wider._dtype = self._dtype
        return wider

    def _spectrum(self) -> list[Eigenvalues]:
        """The eigenvalues of the covariance: off the pathways first, then along each."""
        if not self.bases:
            relative = self.relative_variances[0]
            variance = self.dense_variance if relative is None else self.dense_variances
            return [Eigenvalues(self.numel, variance, relative is not None)]
        result = [Eigenvalues(self.numel - sum(basis.rank for basis in self.bases), self.dense_variance, False)]
        for basis, v, relative in zip(self.bases, self.pathway_variances, self.relative_variances, strict=True):
            if relative is None:
                result.append(Eigenvalues(basis.rank, v + self.dense_variance, False))
            else:
                result.append(Eigenvalues(1, self._spread(v, relative) + self._spread(self.dense_variance), True))
        return result

    def _log_determinant(self) -> Tensor:
        if self._joint is not None:
            return self._joint.log_determinant(self.numel)
        return torch.stack([part.total(part.variance.log()) for part in self._spectrum()]).sum(0)

    def _flat(self, value: Tensor) -> Tensor:
        """The event's axes as one."""
        return value.reshape(*value.shape[: value.ndim - len(self.event_shape)], self.numel)

    def _shaped(self, flat: Tensor) -> Tensor:
        return flat.reshape(*flat.shape[:-1], *self.event_shape)

    @staticmethod
    def _spread(variance: Tensor, relative: Tensor | None = None) -> Tensor:
        """A variance of the batch shape beside an axis of coordinates, for each of which it is the same or relative."""
        spread = variance.unsqueeze(-1) if variance.ndim else variance
        return spread if relative is None else spread * relative.to(spread)


@register_kl(PathwayNormal, PathwayNormal)
def _kl_pathway_normals(p: PathwayNormal, q: PathwayNormal) -> Tensor:
    """KL(p || q) for the same bases: the covariances share their eigenvectors."""
    same = len(p.bases) == len(q.bases) and all(a is b for a, b in zip(p.bases, q.bases, strict=True))
    if p.event_shape != q.event_shape or not same:
        raise NotImplementedError("the KL divergence has a closed form only between PathwayNormals of the same bases.")
    if p._joint is not None and q._joint is not None:
        return p._joint.divergence_from(q._joint, p.numel)
    total: Tensor | float = 0.0
    for own, other in zip(p._spectrum(), q._spectrum(), strict=True):
        total = total + own.divergence_from(other)
    return torch.as_tensor(total)
