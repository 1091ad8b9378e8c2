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
from bayes_rpp.priors.woodbury import JointCovariance


class PathwayNormal(TorchDistribution):
    r"""N(0, sum_k v_k Q_k Q_k^T + v_b I) over a parameter of any shape; the covariance is never formed.

    This is the law of a sum of pathways, W = sum_k Q_k beta_k + B with beta_k ~ N(0, v_k I) and B ~ N(0, v_b I)
    (Finzi, Benton & Wilson, NeurIPS 2021, section 3.2). With orthonormal and mutually orthogonal Q_k of rank r_k, and
    P the projector on what they leave, the covariance is sum_k (v_k + v_b) Q_k Q_k^T + v_b P, its square root
    sqrt(v_b) I + sum_k (sqrt(v_k + v_b) - sqrt(v_b)) Q_k Q_k^T, and its log determinant sum_k r_k log(v_k + v_b) + (n
    - sum_k r_k) log v_b. Without bases it is N(0, v_b I). Bases that are not mutually orthogonal go through the Gram
    matrix of their union, at a cost cubic in their total rank.

    Parameters
    ----------
    event_shape : the parameter's shape, (m, n) or (m,) say, with n coordinates in all.
    dense_variance : v_b > 0, a number or a tensor of the batch shape.
    bases : orthonormal bases Q_k of size n.
    pathway_variances : v_k >= 0, one for each basis, each a number or a tensor of the batch shape.

    Raises
    ------
    ValueError
        If a variance is not positive and finite, a basis does not fit the event shape, or bases that are not mutually
        orthogonal have too large a total rank.

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
        self.numel = math.prod(event_shape)
        self.support = constraints.independent(constraints.real, len(event_shape))
        if validate_args is not False:
            self._check(event_shape)
        orthogonal = len(self.bases) < 2 or are_orthogonal(self.bases)
        self._joint = (
            None if orthogonal else JointCovariance(JointSpan(self.bases), self.dense_variance, self.pathway_variances)
        )
        self._half_precisions = [-0.5 / variance for _, variance in self._ranks_and_variances()]
        self._log_normalizer = -0.5 * (self._log_determinant() + self.numel * math.log(2 * math.pi))
        super().__init__(self.dense_variance.shape, torch.Size(event_shape), validate_args=validate_args)

    def _check(self, event_shape: Sequence[int]) -> None:
        if not ((self.dense_variance > 0) & torch.isfinite(self.dense_variance)).all():
            raise ValueError(f"dense_variance must be positive and finite, got {self.dense_variance.tolist()}.")
        for variance, basis in zip(self.pathway_variances, self.bases, strict=True):
            if not ((variance >= 0) & torch.isfinite(variance)).all():
                raise ValueError(f"pathway_variances must be non-negative and finite, got {variance.tolist()}.")
            if basis.size != self.numel:
                raise ValueError(
                    f"a basis of size {basis.size} does not fit the event shape {tuple(event_shape)}, which has "
                    f"{self.numel} coordinates."
                )

    @property
    def mean(self) -> Tensor:
        """Zero, of shape (*batch, *event)."""
        return self.dense_variance.new_zeros(self._extended_shape(), dtype=self._dtype)

    @property
    def variance(self) -> Float[Tensor, "*batch_and_event"]:
        """The diagonal of the covariance, v_b + sum_k v_k (Q_k Q_k^T)_ii; takes O(n r) time."""
        result = self._spread(self.dense_variance).expand(*self.batch_shape, self.numel)
        for basis, variance in zip(self.bases, self.pathway_variances, strict=True):
            leverage = sum(
                basis.expand(rows).square().sum(0) for rows in torch.eye(basis.rank, dtype=torch.float64).split(256)
            )
            result = result + self._spread(variance) * leverage
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
        result = normalizer
        for basis, factor in zip(self.bases, factors[1:], strict=True):
            coordinates = basis.coordinates(flat)
            residual = residual - basis.expand(coordinates)
            result = result + coordinates.square().sum(-1) * factor
        return residual.square().sum(-1) * factors[0] + result

    def rsample(self, sample_shape: torch.Size | Sequence[int] = ()) -> Float[Tensor, "*sample_batch_event"]:
        """Draw by the square root of the covariance, differentiably in the variances."""
        shape = self._extended_shape(torch.Size(sample_shape))
        return self.color(_standard_normal(shape, self._dtype, self.dense_variance.device))

    def color(self, noise: Float[Tensor, "*sample_batch_event"]) -> Float[Tensor, "*sample_batch_event"]:
        """S e with S S^T = Sigma: a draw, if e is standard normal; differentiable in the variances."""
        flat = self._flat(noise)
        if self._joint is not None:
            return self._shaped(self._joint.color(flat))
        result = self._spread(self.dense_variance.sqrt()) * flat
        for basis, variance in zip(self.bases, self.pathway_variances, strict=True):
            gain = (variance + self.dense_variance).sqrt() - self.dense_variance.sqrt()
            result = result + self._spread(gain) * basis.project(flat)
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
        precision, *precisions = [self._spread(-2 * half).to(value) for half in self._half_precisions]
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

        A draw (beta~, B~) of the prior is corrected by Matheron's rule, beta_k = beta~_k + v_k Q_k^T Sigma^-1 (W - W~)
        with W~ = sum_k Q_k beta~_k + B~ (Doucet, 2010), which is exact for any bases. With one basis the law is beta ~
        N(s Q^T W, s v_b I), s = v_a / (v_a + v_b). All in float64; B is what the rounded coordinates leave of W.

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
        exact = self._flat(value).double()
        exact = exact.expand(*torch.broadcast_shapes(exact.shape[:-1], self.batch_shape), self.numel)
        missing = exact - self._noise(temperature * self.dense_variance, exact, self.numel, generator)
        prior = [
            self._noise(temperature * variance, exact, basis.rank, generator)
            for basis, variance in zip(self.bases, self.pathway_variances, strict=True)
        ]
        for basis, beta in zip(self.bases, prior, strict=True):
            missing = missing - basis.expand(beta)
        steps = self._coordinate_means(missing)
        betas = [(beta + step).to(value.dtype) for beta, step in zip(prior, steps, strict=True)]
        for basis, beta in zip(self.bases, betas, strict=True):
            exact = exact - basis.expand(beta.double())
        return betas, self._shaped(exact).to(value.dtype)

    def _coordinate_means(self, flat: Tensor) -> list[Tensor]:
        """v_k Q_k^T Sigma^-1 W, the mean of every beta_k given W."""
        broad = [self._spread(variance.to(flat)) for variance in self.pathway_variances]
        if self._joint is not None:
            solved = self._joint.coordinates_of_solution(flat)
            return [variance * part for variance, part in zip(broad, solved, strict=True)]
        shares = [variance / (variance + self._spread(self.dense_variance.to(flat))) for variance in broad]
        return [share * basis.coordinates(flat) for share, basis in zip(shares, self.bases, strict=True)]

    def _noise(self, variance: Tensor, like: Tensor, size: int, generator: torch.Generator | None) -> Tensor:
        device = like.device if generator is None else generator.device
        shape = (*like.shape[:-1], size)
        noise = torch.randn(shape, dtype=like.dtype, device=device, generator=generator).to(like.device)
        return self._spread(variance.to(like)).sqrt() * noise

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
            validate_args=False,
        )
        wider._dtype = self._dtype
        return wider

    def _ranks_and_variances(self) -> list[tuple[int, Tensor]]:
        """The eigenvalues of the covariance with their multiplicities."""
        left = self.numel - sum(basis.rank for basis in self.bases)
        pairs = zip(self.bases, self.pathway_variances, strict=True)
        return [(left, self.dense_variance)] + [(basis.rank, v + self.dense_variance) for basis, v in pairs]

    def _log_determinant(self) -> Tensor:
        if self._joint is not None:
            return self._joint.log_determinant(self.numel)
        return torch.stack([rank * variance.log() for rank, variance in self._ranks_and_variances()]).sum(0)

    def _flat(self, value: Tensor) -> Tensor:
        """The event's axes as one."""
        return value.reshape(*value.shape[: value.ndim - len(self.event_shape)], self.numel)

    def _shaped(self, flat: Tensor) -> Tensor:
        return flat.reshape(*flat.shape[:-1], *self.event_shape)

    @staticmethod
    def _spread(variance: Tensor) -> Tensor:
        return variance.unsqueeze(-1) if variance.ndim else variance


@register_kl(PathwayNormal, PathwayNormal)
def _kl_pathway_normals(p: PathwayNormal, q: PathwayNormal) -> Tensor:
    """KL(p || q) for the same bases: the covariances share their eigenvectors."""
    same = len(p.bases) == len(q.bases) and all(a is b for a, b in zip(p.bases, q.bases, strict=True))
    if p.event_shape != q.event_shape or not same:
        raise NotImplementedError("the KL divergence has a closed form only between PathwayNormals of the same bases.")
    if p._joint is not None and q._joint is not None:
        return p._joint.divergence_from(q._joint, p.numel)
    total: Tensor | float = 0.0
    for (rank, first), (_, second) in zip(p._ranks_and_variances(), q._ranks_and_variances(), strict=True):
        ratio = first / second
        total = total + 0.5 * rank * (ratio - 1 - ratio.log())
    return torch.as_tensor(total)
