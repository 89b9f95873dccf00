"""Damaged, exchanged and foreign files of machine code: none is loaded, and no process dies.

Run ``python tests/benchmarks/accuracy/damaged_cache.py`` for the table of "Machine code from disk" in docs/benchmarks/safe.md.
Each batch of cases is a process of its own, which spoils a file, compiles the program again and compares its answer.
"""

import argparse
import ctypes
import hashlib
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

KINDS = [
    "cut off", "one bit flipped", "garbage", "garbage with its SHA-256 before it", "exchanged for another",
    "sealed under another key", "pipe", "folder", "link", "second name", "sparse file of 1 TB", "empty",
    "writable by all", "of another user",
]  # fmt: skip
BATCH = 250


def text(number: int) -> str:
    """Write a program that multiplies by a number and adds another one."""
    lines = [f"  %y = fmul double %x, {number}.0", "  %z = fadd double %y, 1.0", "  ret double %z"]
    return "define double @f(double %x) {\n" + "\n".join(lines) + "\n}\n"


def spoil(kind: str, path: Path, other: Path, generator: random.Random) -> None:
    """Spoil a file of machine code."""
    from metaest.jit.llvm.cache import CachedCode

    whole, aside = path.read_bytes(), path.parent.parent / f"aside{generator.random()}"
    if kind == "cut off":
        path.write_bytes(whole[: generator.randrange(1, len(whole))])
    elif kind == "one bit flipped":
        place = generator.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << generator.randrange(8)]) + whole[place + 1 :])
    elif kind == "garbage":
        path.write_bytes(generator.randbytes(generator.randrange(1, 5000)))
    elif kind == "garbage with its SHA-256 before it":
        garbage = generator.randbytes(generator.randrange(1, 5000))
        path.write_bytes(hashlib.sha256(garbage).digest() + garbage)
    elif kind == "exchanged for another":
        path.write_bytes(other.read_bytes())
    elif kind == "sealed under another key":
        CachedCode("another").store(whole[32:])
        path.write_bytes((path.parent / "another.o").read_bytes())
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "writable by all":
        path.chmod(0o666)
    elif kind == "of another user":
        os.chown(path, 12345, -1)
    elif kind == "second name":
        os.link(path, aside)
    elif kind == "sparse file of 1 TB":
        os.truncate(path, 2**40)
    else:
        path.rename(aside)
        {"pipe": os.mkfifo, "folder": os.mkdir, "link": lambda path: path.symlink_to(aside)}[kind](path)


def batch(first: int, count: int) -> list[tuple[str, str]]:
    """Spoil files and use them; return kinds and what came of them."""
    from metaest.jit.llvm import compile as llvm
    from metaest.jit.llvm.cache import CachedCode

    made, code_of = [], llvm._code_of
    llvm._code_of = lambda ir, machine: made.append(ir) or code_of(ir, machine)  # type: ignore[assignment]

    def answer(number: int) -> float:
        llvm._libraries.clear()
        value: float = llvm.compile_function(text(number), "f", [ctypes.c_double], ctypes.c_double)(2.0)
        return value

    folder = CachedCode("key").path
    assert folder is not None
    results = []
    kinds = [kind for kind in KINDS if kind != "of another user" or os.geteuid() == 0]
    for case in range(first, first + count):
        kind, generator = kinds[case % len(kinds)], random.Random(case)
        before = set(folder.parent.iterdir())
        answer(2 * case)
        [path] = set(folder.parent.iterdir()) - before
        answer(2 * case + 1)
        [other] = set(folder.parent.iterdir()) - before - {path}
        spoil(kind, path, other, generator)
        made.clear()
        if answer(2 * case) != 4.0 * case + 1:
            results.append((kind, "wrong answer"))
        else:
            results.append((kind, "made anew" if made else "loaded"))
    return results


def main() -> None:
    """Print the table; exit with 1 where a file was loaded, an answer wrong or a process died."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, help="run one batch from this case on, and print what came of it")
    arguments = parser.parse_args()
    logging.disable()
    if arguments.first is not None:
        print(json.dumps(batch(arguments.first, arguments.count)))
        return
    counts: Counter[tuple[str, str]] = Counter()
    for first in range(0, arguments.count, BATCH):
        with tempfile.TemporaryDirectory() as folder:
            command = [
                sys.executable,
                __file__,
                "--first",
                str(first),
                "--count",
                str(min(BATCH, arguments.count - first)),
            ]
            environment = {**os.environ, "METAEST_CACHE_DIR": folder}
            ran = subprocess.run(command, env=environment, stdout=subprocess.PIPE, timeout=600, check=False)
        if ran.returncode:
            counts["a batch", f"its process ended with {ran.returncode}"] += 1
        else:
            counts.update(map(tuple, json.loads(ran.stdout)))
    print("| file | what came of it | cases |\n|---|---|---|")
    for (kind, result), count in sorted(counts.items()):
        print(f"| {kind} | {result} | {count} |")
    print(f"| all | | {sum(counts.values())} |")
    sys.exit(any(result != "made anew" for _, result in counts))


if __name__ == "__main__":
    main()
