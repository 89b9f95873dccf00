"""Say what a benchmark ran on: processor, threads and versions."""

import platform
from importlib.metadata import version
from pathlib import Path

import torch


def describe() -> str:
    """Return one line about the machine and the versions."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = f"{models[0]}, {len(models)} cores" if models else cpu
    packages = ", ".join(f"{name} {version(name)}" for name in ("metaest", "torch", "numpy", "scikit-learn"))
    return f"{cpu}; {torch.get_num_threads()} thread(s) a process; Python {platform.python_version()}, {packages}"
