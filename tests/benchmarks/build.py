"""Building channels-384 networks with cold caches, each in a fresh process: seconds and peak memory."""

from __future__ import annotations

import resource
import subprocess
import sys
import time

from record import keep

GROUPS = ("O(3)", "SO(4)", "S(5)", "Lorentz", "SL(3)")


def build(name: str) -> None:
    from bayes_rpp import RPPEMLP, Scalar, T, Vector, parse_group

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    RPPEMLP(5 * Scalar + 5 * Vector, T(2), parse_group(name), channels=384, layers=3)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(seconds, peak / 1024, before / 1024)


def main() -> None:
    print("building RPPEMLP, channels 384, from cold caches")
    rows = []
    for name in GROUPS:
        done = subprocess.run([sys.executable, __file__, name], check=True, capture_output=True, text=True)
        seconds, peak, before = map(float, done.stdout.split())
        print(f"  {name:8} {seconds:.2f} s; peak {peak:.0f} MB, of which {before:.0f} MB before the build")
        rows.append((seconds, peak - before, before))
    times, memory, before = zip(*rows, strict=True)
    numbers = {"least seconds": min(times), "most seconds": max(times), "MB before": max(before)}
    keep("build", numbers | {"least MB": min(memory), "most MB": max(memory)})


if __name__ == "__main__":
    build(sys.argv[1]) if sys.argv[1:] and sys.argv[1] in GROUPS else main()
