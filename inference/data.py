"""What ``fit`` takes: models, data as a pair of tensors, and a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from bayes_rpp import BayesianModel, LogDensity
from bayes_rpp.likelihoods.likelihood import event_shape
from bayes_rpp.networks.rollout import Rollout
from bayes_rpp.rounding import warn_if_rounded
from bayes_rpp.types import as_device, as_tensor

Data = Sequence[Any] | Dataset | None
Model = BayesianModel | LogDensity
Pair = tuple[Tensor, Tensor]


def resolve_data(model: Model, data: Data) -> Pair | None:
    """Turn a pair of tensors or arrays, or a map-style Dataset of pairs, into two checked tensors that share no memory
    with it; None for a LogDensity. Raises TypeError or ValueError if data are missing, needless, of the wrong form, or
    refused by ``model.check_data``.
    """
    if isinstance(model, LogDensity):
        if data is not None:
            raise ValueError("a LogDensity holds its data itself: pass data=None.")
        return None
    if data is None:
        raise ValueError("this model needs data: a pair (x, y) or a torch Dataset.")
    if isinstance(data, DataLoader):
        raise TypeError(
            "data must be a pair (x, y) or a torch Dataset, got a DataLoader: engines take minibatches themselves. "
            f"Give loader.dataset, and batch_size={data.batch_size} to the engine, if it has one."
        )
    if isinstance(data, IterableDataset):
        raise TypeError("an IterableDataset has no examples by number: give a map-style Dataset, with a length.")
    if isinstance(data, Dataset):
        data = read_examples(data, range(len(data)))  # type: ignore[arg-type]
    if not isinstance(data, Sequence) or len(data) != 2:
        length = f" of length {len(data)}" if isinstance(data, Sequence) else ""
        raise TypeError(f"data must be a pair (x, y) or a torch Dataset, got {type(data).__name__}{length}.")
    given = tuple(as_tensor(part, name).cpu().clone() for part, name in zip(data, "xy", strict=True))
    x, y = as_model_takes(model, *given)
    model.check_data(x, y)
    for name, before, after in zip(("x", "y"), given, (x, y), strict=True):
        warn_if_rounded(name, before, after.dtype)
    return x, y


def as_model_takes(model: BayesianModel, x: Tensor, y: Tensor) -> Pair:
    """x and y in the types and the shape that a model takes."""
    if isinstance(model.network, Rollout):
        y = model.network.flat(y)
    y = in_columns(model, y)
    x = model.as_input(x)
    if y.is_floating_point() and x.is_floating_point():
        y = y.to(torch.promote_types(x.dtype, getattr(model.network, "output_dtype", x.dtype)))
    return x, y


def in_columns(model: BayesianModel, y: Tensor) -> Tensor:
    """y of shape (batch,) as (batch, 1) where that is what the likelihood observes of a network of one output."""
    is_column = y.ndim == 1 and event_shape(model.likelihood, model.num_outputs) == (1,)
    return y[:, None] if is_column else y


def refuse_hyperpriors(engine: str, model: Model) -> None:
    """Raise ValueError for hyperpriors: as a variance and its weights go to 0, the joint density goes to infinity."""
    if not isinstance(model, BayesianModel) or not model.hyperpriors:
        return
    names = ", ".join(model.hyperpriors)
    raise ValueError(
        f"{engine} maximises the joint density, which is unbounded as a variance goes to 0, and there are hyperpriors "
        f"on {names}. Sample these variances with the weights, by HMC, NUTS or SGHMC; or choose them by the evidence, "
        "with EmpiricalBayes; or give numbers, RPPPrior.with_variances({...})."
    )


def read_examples(dataset: Dataset, index: Sequence[int]) -> Pair:
    """Some examples of a map-style Dataset as two tensors. Raises ValueError if there are none, or their shapes differ,
    and TypeError if they are no pairs of tensors, arrays or numbers.
    """
    if not len(index):
        raise ValueError("the Dataset is empty; there must be some examples.")
    several = getattr(dataset, "__getitems__", None)
    examples = several(list(index)) if callable(several) else [dataset[i] for i in index]
    if not isinstance(examples[0], Sequence) or len(examples[0]) != 2:
        raise TypeError(f"the Dataset must give pairs (x, y), got {type(examples[0]).__name__}.")
    x, y = ([_as_tensor(name, example[side]) for example in examples] for side, name in enumerate("xy"))
    for name, parts in (("x", x), ("y", y)):
        if len(shapes := {tuple(part.shape) for part in parts}) > 1:
            raise ValueError(f"the Dataset gives {name} of several shapes: {', '.join(map(str, sorted(shapes)[:3]))}.")
    return torch.stack(x).detach(), torch.stack(y).detach()


def _as_tensor(name: str, part: Any) -> Tensor:
    try:
        return torch.as_tensor(part)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"the Dataset must give {name} as a tensor, an array or a number, got {type(part).__name__}."
        ) from error


def resolve_device(device: str | torch.device) -> torch.device:
    """The device; "auto" is an accelerator if torch sees one, else the CPU. Raises ValueError if it is not there, or
    has no numbers.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = as_device(device)
    if found.type == "meta":
        raise ValueError("device='meta' has shapes and no numbers: nothing can be fitted there.")
    return found
