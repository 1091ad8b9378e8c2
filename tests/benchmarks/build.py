"""Building channels-384 networks with cold caches, each in a fresh process: seconds and peak memory."""

from __future__ import annotations

import resource
import subprocess
import sys
import time

GROUPS = ("O(3)", "SO(4)", "S(5)", "Lorentz", "SL(3)")


def build(name: str) -> None:
    from bayes_rpp import RPPEMLP, Scalar, T, Vector, parse_group

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    RPPEMLP(5 * Scalar + 5 * Vector, T(2), parse_group(name), channels=384, layers=3)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"  {name:8} {seconds:.2f} s; peak {peak / 1024:.0f} MB, of which {before / 1024:.0f} MB before the build")


def main() -> None:
    print("building RPPEMLP, channels 384, from cold caches")
    for name in GROUPS:
        subprocess.run([sys.executable, __file__, name], check=True)


if __name__ == "__main__":
    build(sys.argv[1]) if sys.argv[1:] else main()
