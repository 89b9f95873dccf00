"""Attack every public entry point of metaest with generated inputs, and print what came of it.

Run from the top of a checkout: ``python docs/benchmarks/attacked.py [--inputs 10000] [--fits 300] [names ...]``.
"""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

import torch

from attacks.core import ENTRIES
from attacks.run import LARGE, LARGE_FITS, attack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=LARGE)
    parser.add_argument("--fits", type=int, default=LARGE_FITS)
    parser.add_argument("names", nargs="*", help="entry points; all of them by default")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| entry point | right answers | clear errors | failures |\n|---|---|---|---|")
    total, begin = [0, 0, 0], time.process_time()
    for entry in ENTRIES:
        if options.names and entry.name not in options.names:
            continue
        counts = attack(entry, options.fits if entry.fits else options.inputs)
        row = counts.right, counts.refused, counts.failed
        total = [a + b for a, b in zip(total, row, strict=True)]
        print(f"| `{entry.name}` | {row[0]} | {row[1]} | {row[2]} |", flush=True)
        if counts.failed:
            print(counts.report(), file=sys.stderr, flush=True)
    print(f"| all {sum(total)} | {total[0]} | {total[1]} | {total[2]} |")
    print(f"\n{(time.process_time() - begin) / 60:.0f} min of CPU time", file=sys.stderr)


if __name__ == "__main__":
    main()
