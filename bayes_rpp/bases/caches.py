"""What this package remembers of groups, pieces and bases, so that it can be forgotten at once.

All caches go by the content of a group's generators, never by its name.
"""

from __future__ import annotations

from bayes_rpp.bases import equivariant as bases
from bayes_rpp.bases import solver as invariants
from bayes_rpp.bases import weight_spaces
from bayes_rpp.representations import factors as actions
from bayes_rpp.representations import finite_irreps as irreducible
from bayes_rpp.representations import restriction

_MODULES = (actions, bases, invariants, irreducible, restriction, weight_spaces)


def clear_caches(assembled_only: bool = False) -> None:
    """Forget everything; or only assembled bases, keeping the pieces that were solved.

    Examples
    --------
    >>> clear_caches()
    """
    for module in (bases,) if assembled_only else _MODULES:
        for value in vars(module).values():
            if callable(clear := getattr(value, "cache_clear", None)):
                clear()
