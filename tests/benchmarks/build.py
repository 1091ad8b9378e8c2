"""Building the channels-384 network for Inertia with cold caches, in a fresh process: seconds and peak memory."""

from __future__ import annotations

import resource
import subprocess
import sys
import time


def build() -> None:
    from bayes_rpp import RPPEMLP, O, Scalar, T, Vector

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    RPPEMLP(5 * Scalar + 5 * Vector, T(2), O(3), channels=384, layers=3)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"  cold {seconds:.2f} s; peak {peak / 1024:.0f} MB, of which {before / 1024:.0f} MB before the build")


def main() -> None:
    print("building RPPEMLP, O(3), channels 384")
    for _ in range(3):
        subprocess.run([sys.executable, __file__, "once"], check=True)


if __name__ == "__main__":
    build() if sys.argv[1:] == ["once"] else main()
