"""Posterior intervals of a diagnostic."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr

_PROBABILITY = 0.94
_FEW_DRAWS = 20  # 6 % of so few draws is at most one


def interval(values: xr.DataArray) -> xr.DataArray:
    """The median of a diagnostic over all chains and draws, and the interval about it.

    From more than 20 draws the interval is the equal-tailed one of 94 %: 3 % of the draws lie below it and 3 % above;
    that of the logarithms is the logarithm of that of the values, unlike one of highest density. From up to 20 draws,
    such as an ensemble of ten, it is the minimum and the maximum. One draw has no interval: all three are its value,
    and the attribute says so.

    Parameters
    ----------
    values : with dims "chain" and "draw" and any others, such as ``pathway_shares`` and the equivariance errors give.

    Returns
    -------
    DataArray with the other dims, and "stat" with "lower", "median" and "upper"; NaN where a value is. The attribute
    "interval" says which one it is.

    Raises
    ------
    ValueError
        If values has no dims "chain" and "draw", or no draws.

    Examples
    --------
    >>> draws = xr.DataArray(np.arange(10.0).reshape(10, 1), dims=["chain", "draw"])
    >>> interval(draws).values.tolist()
    [0.0, 4.5, 9.0]
    """
    if not {"chain", "draw"} <= set(values.dims):
        raise ValueError(f"values needs the dims chain and draw of a posterior, got {values.dims}.")
    count = values.sizes["chain"] * values.sizes["draw"]
    if count == 0:
        raise ValueError(f"values holds no draws: its sizes are {dict(values.sizes)}.")
    tail = 0.0 if count <= _FEW_DRAWS else (1 - _PROBABILITY) / 2
    found = values.quantile([tail, 0.5, 1 - tail], ("chain", "draw"), skipna=False, keep_attrs=True)
    found = found.rename(quantile="stat").assign_coords(stat=["lower", "median", "upper"]).transpose(..., "stat")
    what = f"the {_PROBABILITY:.0%} equal-tailed interval" if tail else "minimum, median and maximum"
    draws = f"{count} draws" if count > 1 else "one draw, which has no interval"
    return found.assign_attrs(interval=f"{what} of {draws}")
