"""How much memory is free, and how large one matrix may be."""

from __future__ import annotations

from pathlib import Path

import torch

LARGEST_MATRIX = 2**31  # bytes


def check_matrix(what: str, needed: int, instead: str) -> None:
    """Raise ValueError, which says what needs the matrix and what to use instead, beyond LARGEST_MATRIX bytes."""
    if needed > LARGEST_MATRIX:
        raise ValueError(f"{what} needs a matrix of {needed:,} bytes; the limit is {LARGEST_MATRIX:,}. {instead}")


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be taken; None where this is not known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    report = Path("/proc/meminfo")
    if device.type != "cpu" or not report.exists():
        return None
    available = [line.split()[1] for line in report.read_text().splitlines() if line.startswith("MemAvailable:")]
    return 1024 * int(available[0]) if available else None
