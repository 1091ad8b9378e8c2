"""Data that a type cannot hold: numbers whose variation is lost to their size."""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Float
from torch import Tensor

_FEWEST_STEPS = 1e3  # of the type's spacing, in a standard deviation


def warn_if_rounded(name: str, values: Float[Tensor, "batch *size"], dtype: torch.dtype) -> None:
    """Warn of columns that vary by less than 1,000 times the spacing that numbers of their size have in a type, or in
    the one that they come in; a column that does not vary at all is none of them.
    """
    if not (values.is_floating_point() and dtype.is_floating_point) or len(values) < 2:
        return
    dtype = max(dtype, values.dtype, key=lambda kind: torch.finfo(kind).eps)
    columns = values.detach().double().flatten(1) if values.ndim > 1 else values.detach().double()[:, None]
    spread, spacing = columns.std(0, correction=0), columns.abs().amax(0) * torch.finfo(dtype).eps
    varies = (columns != columns[:1]).any(0)
    rounded = (varies & (spread < _FEWEST_STEPS * spacing)).nonzero()[:, 0].tolist()
    if rounded:
        first = rounded[0]
        warnings.warn(
            f"{_numbers(rounded, name)} varies by {float(spread[first]):.2g} about values of "
            f"{float(columns[:, first].abs().max()):.2g}, of which {str(dtype).removeprefix('torch.')} keeps steps of "
            f"{float(spacing[first]):.1g}: the data are rounded. {_advice(dtype)}",
            stacklevel=4,
        )


def warn_if_coarse(
    x: Float[Tensor, "batch n"], dtype: torch.dtype, mean: Float[Tensor, " n"], scale: Float[Tensor, " n"]
) -> None:
    """Warn of inputs about offsets ``mean`` whose type, or the one that they will be cast to, keeps steps of more than
    a thousandth of the ``scale`` on which they matter; a scale of exactly 1 is that of numbers that never varied.
    """
    dtype = max([dtype, *[x.dtype] * x.is_floating_point()], key=lambda kind: torch.finfo(kind).eps)
    size = torch.minimum(x.detach().double().abs().amax(0), mean.double().abs().to(x.device)) if len(x) else mean * 0
    spacing, scale = size * torch.finfo(dtype).eps, scale.double().to(size.device)
    coarse = ((scale != 1) & (_FEWEST_STEPS * spacing > scale)).nonzero()[:, 0].tolist()
    if coarse:
        first = coarse[0]
        warnings.warn(
            f"{_numbers(coarse, 'x')} was fitted about {float(mean[first]):.2g} on a scale of "
            f"{float(scale[first]):.2g}, but in {str(dtype).removeprefix('torch.')} there are steps of "
            f"{float(spacing[first]):.1g} there: the inputs are rounded. {_advice(dtype)}",
            stacklevel=4,
        )


def _numbers(columns: list[int], name: str) -> str:
    more = f" and {len(columns) - 1} more" if len(columns) > 1 else ""
    return f"number {columns[0] + 1} of {name}{more}"


def _advice(dtype: torch.dtype) -> str:
    subtract = "ubtract a reference point before they are rounded."
    if dtype == torch.float64:
        return "S" + subtract
    return f"Give them in float64, to NormalizedNetwork.fit as well, or s{subtract}"
