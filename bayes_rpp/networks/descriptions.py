"""Networks and layers in one line."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn.parameter import is_lazy

from bayes_rpp.groups.group import Group
from bayes_rpp.representations.rep import Rep


def mapping_text(rep_in: Rep, rep_out: Rep, groups: Sequence[Group] = ()) -> str:
    """Representations and the group, or the chain of groups, that acts by them."""
    named = [str(group) for group in groups or (rep_out.bound_group,)]
    return f"{rep_in} -> {rep_out}, {'group' if len(named) == 1 else 'groups'} {' > '.join(named)}"


def parameters_text(module: nn.Module) -> str:
    """How many parameters a module has; those of lazy layers are not known yet."""
    count = sum(parameter.numel() for parameter in module.parameters() if not is_lazy(parameter))
    return f"{count:,} parameter{'s' * (count != 1)}"


def network_text(module: nn.Module) -> str:
    """A network in one line, one of several modules by its class and its size."""
    text = repr(module)
    return f"{type(module).__name__}({parameters_text(module)})" if "\n" in text else text
