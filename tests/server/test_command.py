"""`metaest serve` from the shell: it starts, answers, and ends with what it began."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from metaest import EquationRegressor, MAMLRegressor, Parameter, save
from metaest.__main__ import main
from metaest_datasets import make_sinusoids
from savable import WAVES, wave

EQUATION = """
def line(X, slope):
    return slope * X[:, 0]
"""
TASKS = make_sinusoids(12, 6, random_state=0)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save(MAMLRegressor(max_iter=5, random_state=0).fit(TASKS), path)
    return path


def start(*arguments, folder, **environment):
    """Start a server on a free port; return the process and its address."""
    log = folder / "log"
    command = [sys.executable, "-m", "metaest", "serve", *map(str, arguments), "--port", "0"]
    with log.open("w") as file:
        process = subprocess.Popen(command, stderr=file, cwd=folder, env={**os.environ, **environment})
    for _ in range(600):
        address = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
        if address:
            return process, address[0]
        if process.poll() is not None:
            break
        time.sleep(0.1)
    process.kill()
    raise AssertionError(log.read_text())


def test_it_answers_and_ends_with_what_it_began(path, tmp_path):
    (tmp_path / "own_curves.py").write_text(EQUATION)
    sys.path.append(str(tmp_path))
    try:
        from own_curves import line
    finally:
        sys.path.remove(str(tmp_path))
    noise = (0.1, -0.1, 0.05, -0.02)
    tasks = [([[1.0], [2.0]], [a - e, 2 * a + e]) for a, e in zip((1.0, 1.3, 0.8, 1.1), noise, strict=True)]
    model = EquationRegressor(line, {"slope": Parameter(1.0)}).fit(tasks)
    save(model, tmp_path / "line.json")
    token = {"Authorization": "Bearer a-token-of-some-length"}
    process, address = start(
        "line.json",
        "--equation",
        "own_curves:line",
        "--no-compile",
        "--read-seconds",
        "1",
        folder=tmp_path,
        METAEST_API_TOKEN="a-token-of-some-length",
    )
    try:
        assert httpx.get(f"{address}/health").json() == {"status": "ok"}
        body = {"X": [[1.0], [2.0]], "y": [1.2, 2.4], "predict": [[3.0]]}
        assert httpx.post(f"{address}/adapt", json=body).status_code == 401
        answer = httpx.post(f"{address}/adapt", json=body, headers=token).json()
        expected = model.adapt(body["X"], body["y"]).predict(body["predict"])
        assert answer["predictions"] == pytest.approx(expected, rel=1e-9)
        with socket.create_connection(("127.0.0.1", int(address.rsplit(":", 1)[1])), timeout=30) as slow:
            slow.sendall(b"GET /hea")  # a client that never ends the head of its request is not waited for
            assert slow.recv(1) == b""
        with (
            socket.create_connection(("127.0.0.1", int(address.rsplit(":", 1)[1])), timeout=30) as long,
            contextlib.suppress(ConnectionError),
        ):  # nor is a head of many megabytes taken
            long.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 2**23 + b"\r\n\r\n")
            assert long.recv(1) == b""
    finally:
        process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    log = (tmp_path / "log").read_text()
    assert "POST /adapt 200" in log
    assert "a-token" not in log


@pytest.mark.parametrize(
    ("arguments", "token", "words"),
    [
        (["--host", "0.0.0.0"], "", "METAEST_API_TOKEN is not set"),
        ([], "short", "has 5 characters"),
        (["--equation", "nothing"], "", "package.module:name"),
        (["--equation", "no_such_module:f"], "", "No module named 'no_such_module'"),
        (["--max-rows", "0"], "", "max_rows must be above 0"),
        (["--columns", "no_such_file"], "", "No such file"),
        (["--columns", __file__], "", "test_command.py is no JSON"),
        (["--port", "99999"], "", "--port must lie between 0 and 65535"),
    ],
)
def test_what_it_does_not_start_with(path, monkeypatch, arguments, token, words):
    monkeypatch.setenv("METAEST_API_TOKEN", token)
    with pytest.raises(SystemExit, match=words):
        main(["serve", str(path), *arguments])


def test_an_equation_that_is_not_named(tmp_path):
    model = EquationRegressor(wave, {"amplitude": 2.0, "phase": 1.5}, random_state=0).fit(WAVES[:4])
    save(model, tmp_path / "waves.json")
    with pytest.raises(SystemExit, match="made with 'wave'.*--equation or --module"):
        main(["serve", str(tmp_path / "waves.json")])


def test_a_file_that_is_no_model(tmp_path):
    wrong = tmp_path / "model"
    wrong.write_text("nothing")
    with pytest.raises(SystemExit, match="metaest serve: .*model"):
        main(["serve", str(wrong)])
