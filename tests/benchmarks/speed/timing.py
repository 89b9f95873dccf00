"""How calls are timed: on one processor, and once before they count."""

import os
import time

import numpy as np
import torch


def stay_on_one_processor():
    """Leave torch one thread, and the process one processor where the system lets it choose."""
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def seconds(call, repeats):
    """Call once to warm up, then several times; return the times, the shortest first."""
    call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return np.sort(times)
