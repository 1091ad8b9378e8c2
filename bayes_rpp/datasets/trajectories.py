"""Trajectories cut into chunks: from the first state of each, predict those that follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from bayes_rpp.datasets.regression_data import RegressionData, Split
from bayes_rpp.groups.group import Group
from bayes_rpp.positive_integer import positive_integer
from bayes_rpp.representations.rep import Rep
from bayes_rpp.seeding import seeded_generator

_UNEVEN = 1e-3  # of the time step, that times in a file may be off


@dataclass(frozen=True)
class TrajectoryData(RegressionData):
    """Chunks of trajectories as a regression problem: x is a state, y the ``steps`` states that follow, flat.

    ``trajectory(y)`` gives states as (batch, time, state). ``function``, if the motion is known, is the true map.

    Attributes
    ----------
    train, test, rep_in, rep_out, group, function : see RegressionData; rep_out is ``steps * rep_in``.
    steps : how many states y holds.
    dt : the time between two states.
    energy : the true energy of states, if it is known.
    """

    steps: int
    dt: float
    energy: Callable[[Float[Tensor, "*batch state"]], Float[Tensor, "*batch"]] | None = None

    def trajectory(
        self, y: Float[Tensor, "*batch steps*state"], x: Float[Tensor, "*batch state"] | None = None
    ) -> Float[Tensor, "*batch time state"]:
        """Flat states in rows of time, after the first state if it is given."""
        states = y.unflatten(-1, (-1, self.rep_in.size))
        return states if x is None else torch.cat([x[..., None, :].expand_as(states[..., :1, :]), states], dim=-2)


def trajectories(
    source: str | Path | ArrayLike,
    rep_in: Rep,
    group: Group,
    *,
    dt: float | None = None,
    steps: int = 4,
    chunks: int | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> TrajectoryData:
    """Chunks of one's own trajectories.

    Parameters
    ----------
    source : states (trajectory, time, state) or (time, state), as an array, or a list of (time, state); or a .npz or
        .npy file of such an array (in .npz by the name ``states``, and the times, if it holds them, by ``time``); or a
        .csv file with one row a state and the names of columns in its first line. There, a column ``trajectory``
        numbers the trajectories, a column ``time`` holds the time, and all others are the state, in this order.
    rep_in, group : the representation of a state, and its group.
    dt : the time between two states; taken from the times where the source has them.
    steps : how many states follow the first in each chunk.
    chunks : how many chunks to cut; by default, as many as fit without overlap.
    test_fraction : how much is for tests: the last trajectories, or the end of the only one.
    seed : of where the chunks begin.

    Raises
    ------
    ValueError
        If states do not have the size of rep_in or are not finite, times are not evenly spaced, no trajectory is as
        long as a chunk, or a file lacks what is named above.

    Examples
    --------
    >>> states = torch.randn(20, 100, 12)
    >>> data = trajectories(states, 4 * Vector, O(3), dt=0.2)
    >>> data.train.x.shape, data.train.y.shape
    (torch.Size([320, 12]), torch.Size([320, 48]))
    """
    runs, of_times = _read(source)
    step, rep = _time_step(of_times, dt), rep_in(group)
    for name, number in (("steps", steps), ("chunks", 1 if chunks is None else chunks)):
        positive_integer(number, name)
    if not 0 <= test_fraction < 1:
        raise ValueError(f"test_fraction must be at least 0 and below 1, got {test_fraction}.")
    for number, run in enumerate(runs):
        if run.shape[1] != rep.size:
            raise ValueError(f"states have {run.shape[1]} numbers, but {rep} has size {rep.size}.")
        if not np.isfinite(run).all():
            raise ValueError(f"trajectory {number} holds NaN or infinite numbers.")
    train, test = _parts(runs, test_fraction)
    generator = seeded_generator(seed)
    counts: tuple[int | None, int | None] = None, None
    if chunks is not None:
        counts = chunks - round(test_fraction * chunks), round(test_fraction * chunks)
    first, last = (
        _cut(part, steps + 1, count, generator, rep.size) for part, count in zip((train, test), counts, strict=True)
    )
    if not len(first.x):
        longest = max(len(run) for run in train)
        raise ValueError(f"a chunk is {steps + 1} states long, but the longest trajectory to train on has {longest}.")
    if test_fraction and not len(last.x):
        raise ValueError(
            f"a test_fraction of {test_fraction:g} leaves no chunk of {steps + 1} states for tests: give more data, a "
            "larger fraction, or test_fraction=0."
        )
    return TrajectoryData(first, last, rep, steps * rep, group, _unknown, steps, step)


def chunked(states: Float[Tensor, "chunk time state"]) -> Split:
    """The first state of each chunk, and the rest of it, flat."""
    return Split(states[:, 0].contiguous(), states[:, 1:].flatten(1))


def _unknown(x: Tensor) -> Tensor:
    raise ValueError("the true motion of these trajectories is not known; they are all that there is.")


def _cut(runs: list[np.ndarray], length: int, wanted: int | None, generator: torch.Generator, size: int) -> Split:
    """Chunks at random places, or one after another from a random offset in each trajectory."""
    long = [torch.as_tensor(run) for run in runs if len(run) >= length]
    chunks = []
    if wanted is None:
        for run in long:
            first = int(torch.randint(len(run) % length + 1, (), generator=generator))
            chunks += [run[i : i + length] for i in range(first, len(run) - length + 1, length)]
    else:
        places = torch.tensor([len(run) - length + 1 for run in long])
        ends = places.cumsum(0)
        drawn = torch.randint(int(ends[-1]) if long else 1, (wanted if long else 0,), generator=generator)
        for place in drawn.tolist():
            which = int(torch.searchsorted(ends, place, right=True))
            begin = place - int(ends[which] - places[which])
            chunks.append(long[which][begin : begin + length])
    stacked = torch.stack(chunks) if chunks else torch.empty(0, length, size)
    return chunked(stacked.to(torch.get_default_dtype()))


def _parts(runs: list[np.ndarray], test_fraction: float) -> tuple[list[np.ndarray], list[np.ndarray]]:
    if len(runs) > 1:
        kept = len(runs) - round(test_fraction * len(runs))
        return runs[:kept], runs[kept:]
    kept = len(runs[0]) - round(test_fraction * len(runs[0]))
    return [runs[0][:kept]], [runs[0][kept:]]


def _read(source: str | Path | ArrayLike) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    """Trajectories, and the times of each if they are known."""
    if isinstance(source, str | Path):
        path = Path(source)
        if path.suffix.lower() == ".csv":
            return _read_table(path)
        if path.suffix.lower() not in (".npz", ".npy"):
            raise ValueError(f"{path} is no .csv, .npz or .npy file.")
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return _as_runs(loaded), None
        if "states" not in loaded:
            raise ValueError(f"{path} holds {sorted(loaded)}; the states must be in it by the name 'states'.")
        runs = _as_runs(loaded["states"])
        if "time" not in loaded:
            return runs, None
        times = np.asarray(loaded["time"], dtype=np.float64)
        if times.shape != (len(runs[0]),):
            raise ValueError(
                f"{path}: 'time' has shape {times.shape}, but there are {len(runs[0])} states a trajectory."
            )
        return runs, [times]
    if isinstance(source, list | tuple) and source and all(np.ndim(run) == 2 for run in source):
        return [_as_runs(run)[0] for run in source], None
    return _as_runs(source.detach().cpu().numpy() if isinstance(source, Tensor) else source), None


def _as_runs(states: ArrayLike) -> list[np.ndarray]:
    array = np.asarray(states)
    if (
        array.ndim not in (2, 3)
        or array.size == 0
        or not np.issubdtype(array.dtype, np.number)
        or np.iscomplexobj(array)
    ):
        raise ValueError(
            "states must be real numbers of shape (trajectory, time, state) or (time, state), got "
            f"{array.dtype} of shape {array.shape}."
        )
    return list(array.astype(np.float64).reshape(-1, *array.shape[-2:]))


def _read_table(path: Path) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    import pandas as pd  # takes a third of a second to import, and few read tables

    table = pd.read_csv(path, skip_blank_lines=False, skipinitialspace=True, encoding="utf-8-sig", dtype=str)
    names = [str(name).strip() for name in table.columns]
    if any(_is_number(name) for name in names):
        raise ValueError(f"the first line of {path} must hold the names of columns, but begins {', '.join(names[:3])}.")
    rows = table.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    bad = np.argwhere(~np.isfinite(rows) & ~table.isna().all(axis=1).to_numpy()[:, None])
    if len(bad):
        row, column = bad[0]
        raise ValueError(f"{path}, line {row + 2}, column {names[column]!r}: not a finite number.")
    rows = rows[np.isfinite(rows).all(axis=1)]  # without blank lines
    if not rows.size:
        raise ValueError(f"{path} must have one row of numbers a state below a line with the names of columns.")
    of_columns = {name.lower(): place for place, name in enumerate(names) if name.lower() in ("trajectory", "time")}
    states = np.delete(rows, list(of_columns.values()), axis=1)
    numbers = rows[:, of_columns["trajectory"]] if "trajectory" in of_columns else np.zeros(len(rows))
    _, first = np.unique(numbers, return_index=True)
    members = [numbers == numbers[place] for place in sorted(first)]
    times = [rows[rows_of, of_columns["time"]] for rows_of in members] if "time" in of_columns else None
    return [states[rows_of] for rows_of in members], times


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _time_step(times: list[np.ndarray] | None, dt: float | None) -> float:
    if times is None:
        if not isinstance(dt, float | int) or not 0 < dt < float("inf"):
            raise ValueError(f"dt must be the time between two states, a positive number, got {dt!r}.")
        return float(dt)
    gaps = np.concatenate([np.diff(of_run) for of_run in times])
    step = float(np.median(gaps)) if len(gaps) else float("nan")
    if not step > 0 or np.abs(gaps - step).max() > _UNEVEN * step:
        raise ValueError(
            f"states must be evenly spaced in time, but the steps are from {gaps.min(initial=np.inf):g} to "
            f"{gaps.max(initial=-np.inf):g}. Interpolate them, or give trajectories without gaps, by their numbers."
        )
    if dt is not None and abs(dt - step) > _UNEVEN * step:
        raise ValueError(f"dt is {dt:g}, but the times are {step:g} apart.")
    return step if dt is None else float(dt)  # times may have been rounded
