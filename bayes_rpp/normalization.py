"""Standardising inputs and outputs without breaking the symmetry."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bayes_rpp.bases.equivariant import equivariant_basis
from bayes_rpp.groups.group import Group
from bayes_rpp.networks.descriptions import network_text
from bayes_rpp.networks.precision import input_dtype, output_dtype
from bayes_rpp.representations.rep import Rep, Run
from bayes_rpp.rounding import warn_if_coarse, warn_if_rounded
from bayes_rpp.types import as_tensor

_LARGEST_MEAN = 1e3  # that no translation along an invariant direction takes out, in units of the spread

_NOT_IN_UNITS = (
    "Outputs that are logits, log rates or log variances are in no unit of y: NormalizedNetwork.fit(network, x) leaves "
    "them as they are."
)


class Standardizer(nn.Module):
    """x -> (x - mean) / scale, equivariantly: one scale for every copy of a piece, and a mean along invariant
    directions alone.

    Parameters
    ----------
    rep : the bound representation of the data, of size n.
    mean : (n,), an invariant vector.
    scale : (n,), positive and constant on every copy of a piece.

    Both stay in their precision when a network that holds them is cast to a lower one, so that an offset of 1e9 is
    taken out before anything is rounded.

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
    def fit(cls, x: Float[Tensor, "batch n"], rep: Rep, name: str = "data") -> Standardizer:
        """Take mean and scale from data: the mean's projection on the invariant vectors, and each copy's root mean
        square about it.

        A copy that never varies keeps scale 1. Give data with large offsets in float64, and the standardiser computes
        in float64. ``name`` is what warnings call the data.

        Warns
        -----
        UserWarning
            If a copy has a mean over 1,000 times its spread left, in directions that the group turns; or float32 data
            have lost their variation to rounding.

        Raises
        ------
        ValueError
            If x does not have the representation's size, or is not finite.
        TypeError
            If x holds no floating-point numbers.
        """
        if x.ndim != 2 or x.shape[1] != rep.size:
            hint = f" {_NOT_IN_UNITS}" if name == "y" else ""
            raise ValueError(f"{name} of shape {tuple(x.shape)} does not fit {rep}, which has size {rep.size}.{hint}")
        if not x.is_floating_point():
            hint = f" {_NOT_IN_UNITS}" if name == "y" else ""
            raise TypeError(f"{name} must be floating-point numbers to be standardised, got {x.dtype}.{hint}")
        if not torch.isfinite(x).all():
            raise ValueError("data hold NaN or infinite numbers, so they have no scale.")
        warn_if_rounded(name, x, x.dtype)
        exact = x.to(torch.float64)
        rounding = max(torch.finfo(x.dtype).eps, 16 * torch.finfo(torch.float64).eps)  # of data, and of their mean
        mean = equivariant_basis(rep).project(exact.mean(0))
        squares, scale = (exact - mean).square().mean(0), torch.ones_like(mean)
        for run in rep.runs:
            copies = squares[run.start : run.stop].reshape(run.multiplicity, run.piece_size).mean(1).sqrt()
            sizes = exact[:, run.start : run.stop].square().mean(0).reshape(copies.shape[0], -1).mean(1).sqrt()
            _warn_of_far_copies(name, rep, run, exact - mean)
            copies = torch.where(copies > rounding * sizes, copies, torch.ones_like(copies))
            scale[run.start : run.stop] = copies.repeat_interleave(run.piece_size)
        return cls(rep, mean.to(x.dtype), scale.to(x.dtype))

    def extra_repr(self) -> str:
        """The representation and its group."""
        return f"{self.rep}, group {self.rep.group}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Standardizer:
        given = list(self.named_buffers())
        super()._apply(fn, recurse)
        for name, before in given:
            moved = getattr(self, name)
            if torch.finfo(moved.dtype).eps > torch.finfo(before.dtype).eps:
                setattr(self, name, before.to(moved.device))
        return self

    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """Standardise."""
        return (x - self.mean) / self.scale

    def inverse(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """Undo."""
        return x * self.scale + self.mean


def _warn_of_far_copies(name: str, rep: Rep, run: Run, centred: Float[Tensor, "batch n"]) -> None:
    """Warn of copies whose mean cannot be taken out, for the group turns it, and hides their spread."""
    parts = centred[:, run.start : run.stop].unflatten(1, (run.multiplicity, run.piece_size))
    mean, spread = parts.mean(0).norm(dim=1), parts.var(0, correction=0).sum(1).sqrt()
    for copy in (mean > _LARGEST_MEAN * spread).nonzero()[:, 0].tolist() if len(centred) > 1 else ():
        first = run.start + copy * run.piece_size
        warnings.warn(
            f"numbers {first + 1} to {first + run.piece_size} of {name} (a piece of {rep}) have a mean "
            f"{float(mean[copy] / spread[copy].clamp_min(1e-300)):.2g} times as large as their spread, which cannot be "
            f"taken out since {rep.group} turns it. Subtract a reference point, such as the centre of mass, from them.",
            stacklevel=4,
        )


class NormalizedNetwork(nn.Module):
    """A network between standardised inputs and outputs; seen from outside, both are in the data's own units.

    Fitted to data in float64, it takes and gives float64: offsets are taken out first, and the network computes in the
    type of its own parameters.

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

    def __repr__(self) -> str:
        return f"NormalizedNetwork({network_text(self.network)})"

    @classmethod
    def fit(
        cls, network: nn.Module, x: Float[Tensor, "batch n"], y: Float[Tensor, "batch m"] | None = None
    ) -> NormalizedNetwork:
        """Wrap a network, with standardisers taken from training data; without y, the outputs stay as they are: those
        that are logits, log rates or log variances are in no unit of y. Images may be flat or not, and bytes.
        """
        rep_in, rep_out = network.rep_in, network.rep_out
        assert isinstance(rep_in, Rep)
        assert isinstance(rep_out, Rep)
        x = as_tensor(x, "x")
        if hasattr(network, "input_shapes"):
            x = _flat_images(x, input_dtype(network))
        inputs = Standardizer.fit(x, rep_in, "x")
        if y is None:
            return cls(network, inputs, Standardizer(rep_out, torch.zeros(rep_out.size), torch.ones(rep_out.size)))
        y = as_tensor(y, "y")
        return cls(network, inputs, Standardizer.fit(y[:, None] if y.ndim == 1 else y, rep_out, "y"))

    @property
    def input_dtype(self) -> torch.dtype:
        """The type in which inputs are taken: that of the standardisers, unless the network has a wider one."""
        return torch.promote_types(input_dtype(self.network), self.inputs.mean.dtype)

    @property
    def input_shapes(self) -> list[tuple[int, ...]]:
        """Of a network of images, the shapes of an input."""
        found: list[tuple[int, ...]] = self.network.input_shapes  # type: ignore[assignment]
        return found

    @property
    def output_dtype(self) -> torch.dtype:
        """The type of the outputs, likewise: observations may have an offset that inputs do not have."""
        return torch.promote_types(output_dtype(self.network), self.outputs.mean.dtype)

    def warn_of_rounded_inputs(self, x: Float[Tensor, "batch n"]) -> None:
        """Warn of inputs beside an offset whose type keeps too few digits for the scale that was fitted."""
        if hasattr(self.network, "input_shapes"):
            x = _flat_images(x, self.input_dtype)
        warn_if_coarse(x, self.input_dtype, self.inputs.mean, self.inputs.scale)

    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch m"]:
        """The network's output in the data's units."""
        if hasattr(self.network, "input_shapes"):
            x = _flat_images(x, self.input_dtype)
        standard = self.inputs(x)
        has_weights = next(self.network.parameters(), None) is not None
        taken = standard.to(input_dtype(self.network)) if has_weights else standard
        output: Tensor = self.outputs.inverse(self.network(taken))
        return output


def _flat_images(x: Tensor, dtype: torch.dtype) -> Float[Tensor, "batch n"]:
    """Images as rows of floating-point numbers."""
    return x.flatten(1) if x.is_floating_point() else x.flatten(1).to(dtype)
