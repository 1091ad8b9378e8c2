"""Equivariant bases from cold caches, beside the library emlp, and how their cost grows.

    python tests/benchmarks/bases.py               # against emlp's seconds as they were once measured
    python tests/benchmarks/bases.py --reference   # installs emlp in build/reference and runs it case by case (minutes)

emlp runs each case in a fresh process; its seconds include its compilation, not its imports. Ours are the median of
five runs with all caches cleared.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from record import keep
from tqdm import tqdm

from bayes_rpp import SL, SO, EquivariantBasis, O, S, T, Vector, equivariant_maps, parse_group, parse_rep, uniform_rep
from bayes_rpp.bases import equivariant, solver, weight_spaces
from bayes_rpp.representations import factors, finite_irreps, restriction

HERE = Path(__file__).parent
ENVIRONMENT = HERE.parents[1] / "build" / "reference"
REFERENCE = ["emlp==1.0.3", "jax==0.4.30", "jaxlib==0.4.30", "numpy<2", "scipy<1.13", "six"]
RUNS = 5


def reference_python() -> Path:
    """An environment with emlp, made once."""
    python = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / "installed").exists():
        venv.create(ENVIRONMENT, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REFERENCE], check=True)
        (ENVIRONMENT / "installed").touch()
    return python


def reference_seconds(python: Path, case: dict[str, Any]) -> float:
    command = [python, HERE / "reference" / "basis.py", case["group"], case["rep_in"], case["rep_out"]]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(result.stdout.split()[0])


def clear_caches(*modules: ModuleType) -> None:
    for module in modules:
        for value in vars(module).values():
            if callable(clear := getattr(value, "cache_clear", None)):
                clear()


def cold_seconds(build: Callable[[], EquivariantBasis]) -> tuple[float, EquivariantBasis]:
    seconds = []
    for _ in range(RUNS):
        clear_caches(factors, equivariant, solver, finite_irreps, restriction, weight_spaces)
        start = time.perf_counter()
        basis = build()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), basis


def build_case(case: dict[str, Any]) -> EquivariantBasis:
    group = parse_group(case["group"])
    return equivariant_maps(parse_rep(case["rep_in"])(group), parse_rep(case["rep_out"])(group))


def compare(cases: list[dict[str, Any]], python: Path | None) -> Iterator[tuple[float, float, dict[str, Any]]]:
    """Ours, theirs and the case."""
    for case in tqdm(cases, disable=not sys.stderr.isatty()):
        ours, basis = cold_seconds(lambda case=case: build_case(case))
        assert basis.rank == case["rank"], case
        yield ours, case["reference_seconds"] if python is None else reference_seconds(python, case), case


def print_comparison(rows: list[tuple[float, float, dict[str, Any]]]) -> None:
    ratios = sorted(theirs / ours for ours, theirs, _ in rows)
    slow = sorted(theirs / ours for ours, theirs, _ in rows if theirs > 3)
    mean = math.exp(statistics.fmean(map(math.log, ratios)))
    keep("bases", {"cases": len(rows), "geometric mean": mean, "least": ratios[0], "least of the slow": slow[0]})
    print(f"{len(rows)} bases, every rank right: {mean:.0f}x faster in the geometric mean, {ratios[0]:.0f}x at least")
    middle = statistics.median(slow)
    print(f"  the {len(slow)} that take emlp over 3 s: {slow[0]:.0f}x at least, {middle:.0f}x in the middle")
    for ours, theirs, case in sorted(rows, key=lambda row: row[1] / row[0])[:5]:
        maps = f"{case['rep_in']} -> {case['rep_out']}"
        print(f"  least: {theirs / ours:4.0f}x  {1e3 * ours:6.1f} ms  {case['group']}: {maps}"[:110])


def print_curves() -> None:
    print("seconds from cold caches as things grow")
    cases = {f"S({n}), T(2) -> T(2)": T(2)(S(n)) for n in (5, 10, 20, 30)}
    cases |= {f"O(3), T({p}) -> T({p})": T(p)(O(3)) for p in (1, 2, 3, 4)}
    numbers = {label: cold_seconds(lambda rep=rep: equivariant_maps(rep, rep))[0] for label, rep in cases.items()}
    for label, seconds in numbers.items():
        print(f"  {label}: {seconds:.3f}")
    print("seconds with the pieces solved, by channels: building the basis, and one expand of its coordinates")
    for group in (O(3), SO(4), SL(3), S(5)):
        timings = []
        for channels in (96, 192, 384, 768, 1536):
            rep = uniform_rep(channels, group)
            equivariant_maps(rep, rep)
            clear_caches(equivariant)
            start = time.perf_counter()
            basis = equivariant_maps(rep, rep)
            middle = time.perf_counter()
            numbers[f"{group}, {channels} channels"] = middle - start
            basis.expand(torch.randn(basis.rank))
            timings.append(f"{channels}: {middle - start:.4f}, {time.perf_counter() - middle:.4f}")
        print(f"  {group}  " + "   ".join(timings))
    keep("bases", numbers)


def main() -> None:
    torch.set_num_threads(1)
    equivariant_maps(Vector(SO(3)), Vector(SO(3)))
    cases = json.loads((HERE / "reference" / "bases.json").read_text())["cases"]
    python = reference_python() if "--reference" in sys.argv[1:] else None
    print("against emlp " + ("now, on the same machine" if python else "as it was once measured"))
    print_comparison(list(compare(cases, python)))
    print_curves()


if __name__ == "__main__":
    main()
