"""How much memory is free."""

from __future__ import annotations

from pathlib import Path

import torch


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be taken; None where this is not known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    report = Path("/proc/meminfo")
    if device.type != "cpu" or not report.exists():
        return None
    available = [line.split()[1] for line in report.read_text().splitlines() if line.startswith("MemAvailable:")]
    return 1024 * int(available[0]) if available else None
