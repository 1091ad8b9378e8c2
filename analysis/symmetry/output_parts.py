"""The parts of a function's values of which errors are taken: all of it, the pieces of its representation, columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp import Rep
from bayes_rpp.representations.tensor_products import terms_text


class OutputParts:
    """How a residual of f is measured, and by which norm of f it is divided.

    Of the whole, and of a piece, both are norms over its coordinates. A column's residual is the absolute value of one
    number, and it is divided by the norm of the piece to which the column belongs: the group mixes the columns of a
    piece, so that only this norm stays the same under an orthogonal representation, and so that the squares of the
    columns' errors add up to the square of the piece's.

    Parameters
    ----------
    rep : of the values.
    per_output : keep the pieces apart.
    per_column : keep the single numbers apart; or names for them.

    Attributes
    ----------
    dims : the name of the dimension, if there is one.
    coords : the names of the pieces, or those of the columns with the piece of each.

    Raises
    ------
    ValueError
        If pieces and columns are asked for at once, or there is not one name of its own for each column.
    """

    def __init__(self, rep: Rep, per_output: bool, per_column: bool | Sequence[str] = False) -> None:
        self.rep, self.coords = rep, dict[str, list[str] | tuple[str, list[str]]]()
        self._by_column = per_column is not False
        if self._by_column and per_output:
            raise ValueError("choose per_output or per_column, not both: each column names its piece, by `output`.")
        if self._by_column:
            names = column_names(rep) if isinstance(per_column, bool) else _checked(per_column, rep)
            pieces, sizes = piece_names(rep), [run.piece_size for run in rep.runs for _ in range(run.multiplicity)]
            self._piece_of_column = torch.arange(len(pieces)).repeat_interleave(torch.tensor(sizes))
            self.coords = {"column": names, "output": ("column", [pieces[k] for k in self._piece_of_column])}
        elif per_output:
            self.coords = {"output": piece_names(rep)}
        self.dims = list(self.coords)[:1]

    def residuals(self, difference: Float[Tensor, "*batch size"]) -> Float[Tensor, "*parts batch"]:
        """What is divided, (part, *batch), or (*batch) of the whole."""
        return difference.abs().movedim(-1, 0) if self._by_column else self._norms(difference)

    def scales(self, value: Float[Tensor, "*batch size"]) -> Float[Tensor, "*parts batch"]:
        """By what it is divided, (part, *batch), or (*batch) of the whole."""
        norms = self._norms(value)
        return norms[self._piece_of_column] if self._by_column else norms

    def _norms(self, value: Float[Tensor, "*batch size"]) -> Float[Tensor, "*pieces batch"]:
        if not self.coords:
            return value.norm(dim=-1)
        runs = self.rep.runs
        parts = (value[..., run.start : run.stop].unflatten(-1, (run.multiplicity, run.piece_size)) for run in runs)
        return torch.cat([part.norm(dim=-1) for part in parts], dim=-1).movedim(-1, 0)


def piece_names(rep: Rep) -> list[str]:
    """A name for every copy of every piece: its own, with a number where there are several of the kind."""
    kinds = [terms_text([(1, run.piece)], rep.group) for run in rep.runs for _ in range(run.multiplicity)]
    copies, seen, names = Counter(kinds), Counter[str](), []
    for kind in kinds:
        names.append(f"{kind} {seen[kind]}" if copies[kind] > 1 else kind)
        seen[kind] += 1
    return names


def column_names(rep: Rep) -> list[str]:
    """A name for every coordinate, that of its piece with its index there: "Scalar 0", "Vector[2]", "T(2)[0, 1]"."""
    shapes = [[size for size in run.sizes if size > 1] for run in rep.runs for _ in range(run.multiplicity)]
    return [
        f"{piece}{list(index)}" if index else piece
        for piece, shape in zip(piece_names(rep), shapes, strict=True)
        for index in np.ndindex(*shape)
    ]


def _checked(names: Sequence[str], rep: Rep) -> list[str]:
    found = [names] if isinstance(names, str) else [str(name) for name in names]
    if len(found) != rep.size or len(set(found)) != rep.size:
        raise ValueError(
            f"per_column must name each of the {rep.size} columns of rep_out = {rep} once, got "
            f"{len(found)} names, {len(set(found))} of them different: {', '.join(found)}."
        )
    return found
