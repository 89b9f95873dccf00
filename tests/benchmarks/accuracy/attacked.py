"""Attack every public entry point of metaest with generated inputs, and print what came of it.

Run from the top of a checkout: ``python tests/benchmarks/accuracy/attacked.py [--inputs 10000] [--fits 300] [names ...]``. With
``--output table.md`` each row is written as soon as it is there, and entry points that the file has already are not
attacked again, so that a run that was ended goes on.
"""

import argparse
import multiprocessing
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from attacks.run import LARGE, LARGE_FITS, Counts, EntryPoint, attack

HEAD = "| entry point | right answers | clear errors | failures |\n|---|---|---|---|"


def entries(domains: bool) -> list[EntryPoint]:
    """Return the entry points of metaest, or of its domains and data sets."""
    if domains:
        from attacks.domains import ENTRIES
    else:
        from attacks import core, populations

        return [*core.ENTRIES, *populations.ENTRIES]
    return ENTRIES


def attacked(place: int, domains: bool, n: int) -> tuple[Counts, float]:
    """Attack one entry point; return the counts and the CPU time in s."""
    torch.set_num_threads(1)
    begin = time.process_time()
    return attack(entries(domains)[place], n), time.process_time() - begin


def rows_of(text: str) -> dict[str, tuple[int, ...]]:
    """Return the counts in a table by entry point."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {name.strip("`"): tuple(map(int, numbers)) for name, *numbers in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=LARGE)
    parser.add_argument("--fits", type=int, default=LARGE_FITS)
    parser.add_argument("--domains", action="store_true", help="the domains and data sets instead of metaest")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--output", type=Path, help="a file for the table; failures are written beside it")
    parser.add_argument("names", nargs="*", help="entry points; all of them by default")
    options = parser.parse_args()
    table = options.output.read_text() if options.output and options.output.exists() else ""
    done = rows_of(table)

    def say(text: str, suffix: str = "") -> None:
        print(text, file=sys.stderr if suffix else sys.stdout, flush=True)
        if options.output:
            with options.output.with_name(options.output.name + suffix).open("a") as file:
                print(text, file=file)

    if not table:
        say(HEAD)
    context = multiprocessing.get_context("spawn")
    seconds = 0.0
    with context.Pool(options.processes, maxtasksperchild=8) as pool:
        waiting = [
            pool.apply_async(attacked, (place, options.domains, options.fits if entry.fits else options.inputs))
            for place, entry in enumerate(entries(options.domains))
            if entry.name not in done and (not options.names or entry.name in options.names)
        ]
        while waiting:
            ready = [result for result in waiting if result.ready()]
            waiting = [result for result in waiting if result not in ready]
            for result in ready:
                counts, taken = result.get()
                seconds += taken
                done[counts.name] = counts.right, counts.refused, counts.failed
                say("| `{}` | {} | {} | {} |".format(counts.name, *done[counts.name]))
                if counts.failed:
                    say(counts.report(), ".failures")
            time.sleep(0.1)
    total = [sum(column) for column in zip(*done.values(), strict=True)]
    print("| all {:,} | {:,} | {:,} | {:,} |".format(sum(total), *total))
    print(f"\n{seconds / 60:.0f} min of CPU time", file=sys.stderr)


if __name__ == "__main__":
    main()
