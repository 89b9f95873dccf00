"""`metaest serve` under load: latency, requests a second, every answer compared, memory, and hostile clients.

Two models of theophylline, the compartment model (adaptations guarded or not) and the default network, are saved,
served by a process on one core, and asked by wrk from another core (tables of latency) and by a client that compares
each answer with that of the library in this process, over 100,000 requests, with the server's memory on the way. Then
a flood, bodies of 10 MB and clients that send a byte a second, each while an ordinary client goes on asking.

    python tests/benchmarks/accuracy/server.py
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from machine import describe

from metaest import MAMLRegressor, save
from metaest_datasets import load_theophylline
from metaest_domains.physiology import OneCompartmentRegressor

CLIENTS = (1, 8, 64)
N_BODIES, N_MANY = 200, 1000
SERVER_CORE, CLIENT_CORE = "0", "1"
READ_SECONDS = 3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10, help="of each run of wrk")
    parser.add_argument("--requests", type=int, default=100_000, help="for the memory of the server")
    parser.add_argument(
        "--folder", type=Path, help="where models and bodies are written (default: one that is removed)"
    )
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(describe())
    with tempfile.TemporaryDirectory() as folder:
        folder = arguments.folder or Path(folder)
        patients = load_theophylline(exclude_time_zero=True)
        pharmacology = OneCompartmentRegressor(noise="additive", random=["clearance", "absorption"]).fit(patients[:11])
        network = MAMLRegressor(max_iter=300, random_state=0).fit(patients[:11])
        cases = [
            ("compartment model, guarded", pharmacology, None),
            ("compartment model", pharmacology, False),
            ("network", network, None),
        ]
        tables = [measure(name, model, guard, folder, arguments.seconds) for name, model, guard in cases]
        print(
            "\n| model | path | clients | requests/s | adaptations/s | a second of CPU | p50, ms | p99, ms | not 200 |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
        for rows in tables:
            print("\n".join(rows))
        print()
        for name, model in (("compartment model", pharmacology), ("network", network)):
            endure(name, model, folder, arguments.requests)
        attack(pharmacology, folder, arguments.seconds)


def bodies_of(guard, n):
    """Requests for patients of all kinds: rows, doses and weights differ."""
    rng, patients = np.random.default_rng(0), load_theophylline(exclude_time_zero=True)
    bodies = []
    for i in range(n):
        task = patients[i % len(patients)]
        chosen = np.sort(rng.choice(len(task), int(rng.integers(1, 6)), replace=False))
        X = task.X * [1.0, rng.uniform(0.8, 1.2), 1.0]
        rows = [dict(zip(patients.feature_names, row, strict=True)) for row in X.tolist()]
        body = {"X": [rows[j] for j in chosen], "y": task.y[chosen].tolist(), "predict": rows}
        bodies.append(body if guard is None else {**body, "guard": guard})
    return bodies


def expected_of(model, body):
    """Answer a request by the library."""
    X, query = (np.array([list(row.values()) for row in body[name]]) for name in ("X", "predict"))
    return model.adapt(X, np.array(body["y"]), guard=body.get("guard")).predict(query)


class Server:
    """A process that serves a model on one core."""

    def __init__(self, model, folder, *options):
        path = folder / "model"
        save(model, path)
        command = [sys.executable, "-m", "metaest", "serve", str(path), "--port", "0", *options]
        pinned = ["taskset", "-c", SERVER_CORE] if shutil.which("taskset") else []
        # the log goes to a file: a pipe that nobody reads would stop the server
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen([*pinned, *command], stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
        self.port = self._port()

    def _port(self):
        for _ in range(600):
            found = re.search(r"http://127\.0\.0\.1:(\d+)", self.log.read_text())
            if found:
                return int(found[1])
            time.sleep(0.1)
        raise RuntimeError(self.log.read_text())

    def memory(self, what="VmRSS"):
        """Return megabytes."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{what}:\s+(\d+)", text)[1]) / 1024

    def seconds(self):
        """Return the time of the processor it took so far."""
        text = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(text[11]) + int(text[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        """Stop gracefully and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


class Connection:
    """A connection that is kept open."""

    def __init__(self, port):
        self._port, self._writer = port, None

    async def post(self, path, content):
        """Return status and body."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        self._writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(re.search(r"content-length: (\d+)", head)[1])
        body = await self._reader.readexactly(length)
        if "connection: close" in head:
            self.close()
        return int(head.split(" ", 2)[1]), body

    def close(self):
        if self._writer is not None:
            self._writer.close()
            self._writer = None


async def ask_all(port, contents, n, clients, check):
    """Send n requests by many clients; `check(i, status, body)` looks at each answer."""
    numbers = iter(range(n))

    async def client():
        connection = Connection(port)
        for i in numbers:
            check(i, *await connection.post("/adapt", contents[i % len(contents)]))
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))


def measure(name, model, guard, folder, seconds):
    """Return the rows of the table for one model."""
    server = Server(model, folder, "--max-bytes", "4000000")
    bodies = bodies_of(guard, N_BODIES)
    one = script(folder / "one.lua", [json.dumps(body) for body in bodies])
    many = script(folder / "many.lua", [json.dumps({"tasks": (bodies * 6)[:N_MANY]})])
    # code is compiled for the sizes that come
    contents = [json.dumps(body).encode() for body in bodies]
    asyncio.run(ask_all(server.port, contents, len(contents), 1, lambda *answer: None))
    asyncio.run(ask_all(server.port, contents, 4 * len(contents), 64, lambda *answer: None))
    rows = []
    for path, lua, tasks, counts in (("/adapt", one, 1, CLIENTS), ("/adapt_many", many, N_MANY, (1, 8))):
        for clients in counts:
            before = server.seconds()
            found = wrk(server.port, path, lua, clients, seconds)
            each = found["n"] * tasks / (server.seconds() - before)
            rate, p50, p99, wrong = found["rate"], found["p50"], found["p99"], found["wrong"] + found["lost"]
            speed = f"{rate:,.0f} | {rate * tasks:,.0f} | {each:,.0f} | {p50:.1f} | {p99:.1f}"
            rows.append(f"| {name} | `{path}` | {clients} | {speed} | {wrong} |")
    server.stop()
    return rows


def script(path, bodies):
    """Write what wrk sends: one body after the other."""
    lines = ["bodies = {", *(f"[==[{body}]==]," for body in bodies), "}", "i = 0"]
    lines += ["headers = {}", 'headers["Content-Type"] = "application/json"']
    lines += ["request = function()", "  i = i % #bodies + 1"]
    lines += ['  return wrk.format("POST", nil, headers, bodies[i])', "end"]
    lines += ["done = function(summary, latency)"]
    lines += ['  io.write(string.format("RESULT %d %d %d %d %d %d\\n", summary.requests, summary.duration,']
    lines += ["    latency:percentile(50), latency:percentile(99), summary.errors.status, summary.errors.read +"]
    lines += ["    summary.errors.timeout + summary.errors.connect))", "end"]
    path.write_text("\n".join(lines))
    return path


def wrk(port, path, lua, clients, seconds):
    """Run wrk and return what it measured."""
    pinned = ["taskset", "-c", CLIENT_CORE] if shutil.which("taskset") else []
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "60", "-s", str(lua)]
    answer = subprocess.run([*pinned, *command, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True)
    n, duration, p50, p99, status, lost = map(int, re.search(r"RESULT ([\d ]+)", answer.stdout)[1].split())
    return {"n": n, "rate": n / duration * 1e6, "p50": p50 / 1e3, "p99": p99 / 1e3, "wrong": status, "lost": lost}


def endure(name, model, folder, n):
    """Send many requests, compare each answer, and look at the server's memory on the way."""
    server = Server(model, folder)
    bodies = bodies_of(None, N_BODIES)
    expected = [expected_of(model, body) for body in bodies]
    contents = [json.dumps(body).encode() for body in bodies]
    worst, wrong, memory = 0.0, 0, []

    def check(i, status, body):
        nonlocal worst, wrong
        right = expected[i % len(bodies)]
        found = np.array(json.loads(body)["predictions"]) if status == 200 else np.full(len(right), np.inf)
        away = float(np.max(np.abs(found - right) / (1 + np.abs(right))))
        # single precision for networks, whose steps round differently in machine code
        wrong += away > (1e-2 if isinstance(model, MAMLRegressor) else 1e-6)
        worst = max(worst, away)
        if i % max(1, n // 10) == 0:
            memory.append(server.memory())

    started = time.perf_counter()
    asyncio.run(ask_all(server.port, contents, n, 32, check))
    seconds = time.perf_counter() - started
    memory.append(server.memory())
    print(
        f"{name}: {n:,} requests by 32 clients in {seconds:.0f} s, each answer compared: {wrong} wrong, greatest "
        f"relative difference {worst:.1e}; memory after each tenth, MB: {' '.join(f'{own:.1f}' for own in memory)}; "
        f"exit status {server.stop()}"
    )


def attack(model, folder, seconds):
    """Let hostile clients at a server, and see how an ordinary one fares."""
    server = Server(model, folder, "--read-seconds", str(READ_SECONDS))
    content = json.dumps(bodies_of(None, 1)[0]).encode()
    asyncio.run(ask_all(server.port, [content], 20, 1, lambda *answer: None))
    print("\n| clients | ordinary requests | of these 200 | 503 | p50, ms | worst, ms | memory, MB |")
    print("|---|---|---|---|---|---|---|")
    attacks = {
        "none": lambda: asyncio.sleep(seconds),
        "flood: 400 connections": lambda: flood(server.port, content, seconds),
        "bodies of 10 MB, 32 connections": lambda: large(server.port, seconds),
        "endless bodies, 32 connections": lambda: endless(server.port, seconds),
        "a byte a second, 500 connections": lambda: slow(server.port, seconds),
        "none again": lambda: asyncio.sleep(seconds),
    }
    for name, start in attacks.items():
        statuses, times = asyncio.run(under(server.port, content, start))
        times = np.array(times) * 1e3
        print(
            f"| {name} | {len(statuses)} | {statuses.count(200)} | {statuses.count(503)} | {np.median(times):.1f} | "
            f"{times.max():.0f} | {server.memory():.0f} |"
        )
    print(f"\ngreatest memory {server.memory('VmHWM'):.0f} MB; exit status {server.stop()}")


async def under(port, content, start):
    """Ask every 20 ms while something goes on."""
    hostile, statuses, times = asyncio.ensure_future(start()), [], []
    connection = Connection(port)
    while not hostile.done():
        started = time.perf_counter()
        try:
            statuses.append((await asyncio.wait_for(connection.post("/adapt", content), 20))[0])
        except (TimeoutError, OSError, EOFError):
            statuses.append(0)
            connection = Connection(port)
        times.append(time.perf_counter() - started)
        await asyncio.sleep(0.02)
    await hostile
    return statuses, times


async def repeatedly(n, seconds, act):
    """Let n clients do something again and again; what goes wrong for them is theirs."""
    end = time.perf_counter() + seconds

    async def client():
        while time.perf_counter() < end:
            try:
                await asyncio.wait_for(act(), seconds)
            except (TimeoutError, OSError, EOFError):
                await asyncio.sleep(0.01)

    await asyncio.gather(*(client() for _ in range(n)))


async def flood(port, content, seconds):
    connections = iter([Connection(port) for _ in range(400)] * 100_000)
    await repeatedly(400, seconds, lambda: next(connections).post("/adapt", content))


async def large(port, seconds):
    content = b'{"X": "' + b"0" * 10_000_000 + b'"}'

    async def act():
        connection = Connection(port)
        await connection.post("/adapt", content)
        connection.close()

    await repeatedly(32, seconds, act)


async def endless(port, seconds):
    head = b"POST /adapt HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += b"Transfer-Encoding: chunked\r\n\r\n"

    async def act():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        try:
            while not reader.at_eof() and not writer.is_closing():
                writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
                await writer.drain()
        finally:
            writer.close()

    await repeatedly(32, seconds, act)


async def slow(port, seconds):
    head = b"POST /adapt HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n{"

    async def act():
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for byte in head:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(1)
        finally:
            writer.close()

    await repeatedly(500, seconds, act)


if __name__ == "__main__":
    main()
