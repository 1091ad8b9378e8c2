"""Standardising inputs and outputs without breaking the symmetry."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bayes_rpp.bases.equivariant import equivariant_basis
from bayes_rpp.groups.group import Group
from bayes_rpp.representations.rep import Rep


class Standardizer(nn.Module):
    """x -> (x - mean) / scale, equivariantly: one scale for every copy of a piece, and a mean along invariant
    directions alone.

    Parameters
    ----------
    rep : the bound representation of the data, of size n.
    mean : (n,), an invariant vector.
    scale : (n,), positive and constant on every copy of a piece.

    Examples
    --------
    >>> rep = (Scalar + Vector)(SO(3))
    >>> Standardizer.fit(torch.randn(100, 4), rep)(torch.randn(7, 4)).shape
    torch.Size([7, 4])
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, rep: Rep, mean: Float[Tensor, " n"], scale: Float[Tensor, " n"]) -> None:
        super().__init__()
        for name, value in (("mean", mean), ("scale", scale)):
            if value.shape != (rep.size,):
                raise ValueError(f"{name} has shape {tuple(value.shape)}, but {rep} has size {rep.size}.")
        self.rep = rep
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    @classmethod
    def fit(cls, x: Float[Tensor, "batch n"], rep: Rep) -> Standardizer:
        """Take mean and scale from data: the mean's projection on the invariant vectors, and each copy's root mean
        square about it.

        A copy that never varies keeps scale 1.

        Raises
        ------
        ValueError
            If x does not have the representation's size, or is not finite.
        """
        if x.ndim != 2 or x.shape[1] != rep.size:
            raise ValueError(f"data of shape {tuple(x.shape)} do not fit {rep}, which has size {rep.size}.")
        if not torch.isfinite(x).all():
            raise ValueError("data hold NaN or infinite numbers, so they have no scale.")
        exact = x.to(torch.float64)
        mean = equivariant_basis(rep).project(exact.mean(0))
        squares, scale = (exact - mean).square().mean(0), torch.ones_like(mean)
        for run in rep.runs:
            copies = squares[run.start : run.stop].reshape(run.multiplicity, run.piece_size).mean(1).sqrt()
            sizes = exact[:, run.start : run.stop].square().mean(0).reshape(copies.shape[0], -1).mean(1).sqrt()
            copies = torch.where(copies > 1e-7 * sizes, copies, torch.ones_like(copies))
            scale[run.start : run.stop] = copies.repeat_interleave(run.piece_size)
        return cls(rep, mean.to(x.dtype), scale.to(x.dtype))

    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """Standardise."""
        return (x - self.mean) / self.scale

    def inverse(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """Undo."""
        return x * self.scale + self.mean


class NormalizedNetwork(nn.Module):
    """A network between standardised inputs and outputs; seen from outside, both are in the data's own units.

    Parameters
    ----------
    network : a network with ``rep_in``, ``rep_out`` and ``group``.
    inputs, outputs : standardisers of its two representations.

    Examples
    --------
    >>> x, y = 1e3 * torch.randn(100, 3), 1e-3 * torch.randn(100, 1)
    >>> net = NormalizedNetwork.fit(RPPEMLP(Vector, Scalar, SO(3), channels=8), x, y)
    >>> net(x).shape
    torch.Size([100, 1])
    """

    def __init__(self, network: nn.Module, inputs: Standardizer, outputs: Standardizer) -> None:
        super().__init__()
        self.network, self.inputs, self.outputs = network, inputs, outputs
        self.rep_in, self.rep_out = inputs.rep, outputs.rep
        self.group: Group = inputs.rep.bound_group

    @classmethod
    def fit(cls, network: nn.Module, x: Float[Tensor, "batch n"], y: Float[Tensor, "batch m"]) -> NormalizedNetwork:
        """Wrap a network, with standardisers taken from training data."""
        rep_in, rep_out = network.rep_in, network.rep_out
        assert isinstance(rep_in, Rep)
        assert isinstance(rep_out, Rep)
        return cls(network, Standardizer.fit(x, rep_in), Standardizer.fit(y, rep_out))

    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch m"]:
        """The network's output in the data's units."""
        output: Tensor = self.outputs.inverse(self.network(self.inputs(x)))
        return output
