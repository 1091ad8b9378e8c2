"""The seeds of statistical tests: ``pytest --seed-shift K`` shifts all of them.

Rounding differs between processors and changes the path of a chain, so that on each kind of processor a statistical
test has one random outcome. What must hold there must hold for any seed.
"""

_STEP = 1000  # more than any seed that the tests start from
_shift = 0


def set_shift(shift: int) -> None:
    """Let this be the number of steps by which seeds are shifted; the option of pytest calls it."""
    global _shift
    _shift = shift


def shifted(seed: int = 0) -> int:
    """This seed, moved by the option ``--seed-shift``."""
    return seed + _STEP * _shift
