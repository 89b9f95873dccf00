"""Machine code on disk: used again, and never where it is damaged or somebody else could have written it."""

import hashlib
import os
import random
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from metaest.jit import CompiledFunction
from metaest.jit.llvm import cache
from metaest.jit.llvm import compile as llvm
from metaest.jit.llvm.cache import CachedCode
from metaest.jit.llvm.private import PrivateFolder

pytest.importorskip("llvmlite")
if os.open not in os.supports_dir_fd or not hasattr(os, "geteuid"):
    pytest.skip("nothing is kept where owners of files are not told", allow_module_level=True)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
STRANGER = 12345


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("METAEST_CACHE_DIR", str(tmp_path))
    llvm._libraries.clear()
    yield tmp_path / "metaest" / "lanes"
    llvm._libraries.clear()


@pytest.fixture
def code(folder):
    """A file of code under "key", and what it holds."""
    CachedCode("key").store(b"code" * 1000)
    assert CachedCode("key").load() == b"code" * 1000
    return CachedCode("key").path


def program(factor=3):
    llvm._libraries.clear()
    function = CompiledFunction(lambda x: [factor * torch.tanh(x)], [torch.zeros(())], [False])
    return function([[2.0, 5.0]], 2)[0]


def count_compilations(monkeypatch):
    texts, compile_ = [], llvm._code_of
    monkeypatch.setattr(llvm, "_code_of", lambda text, machine: texts.append(text) or compile_(text, machine))
    return texts


def test_code_is_kept_and_used_again(folder, monkeypatch):
    texts = count_compilations(monkeypatch)
    first = program()
    [path] = folder.iterdir()
    before = path.read_bytes()
    assert program().tobytes() == first.tobytes()
    assert len(texts) == 1
    assert path.read_bytes() == before


def test_the_same_program_is_the_same_text(folder):
    for _ in range(3):
        llvm._libraries.clear()
        CompiledFunction(
            lambda x, y: [torch.tanh(x @ y) @ x + torch.relu(y).sum(0)], [torch.eye(30)] * 2, [False, False]
        )
    assert len(list(folder.iterdir())) == 1


def damages():
    """Ways to damage a file, as functions of what it holds."""
    generator = random.Random(0)
    for length in (0, 1, 31, 32, 33, 64, 500, -1, -7):
        yield f"cut to {length}", lambda whole, length=length: whole[:length]
    for _ in range(8):
        place, bit = generator.random(), generator.randrange(8)
        yield f"bit {bit} at {place:.2f}", lambda whole, place=place, bit=bit: flipped(whole, place, bit)
    yield "garbage", lambda whole: generator.randbytes(len(whole))
    yield "garbage of zeros", lambda whole: bytes(len(whole))
    yield "garbage with its hash before it", lambda whole: hashlib.sha256(b"garbage" * 99).digest() + b"garbage" * 99
    yield "longer", lambda whole: whole + b"\0"
    yield "twice", lambda whole: 2 * whole


def flipped(whole, place, bit):
    place = int(place * len(whole))
    return whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :]


def test_damaged_files_are_made_anew(folder, monkeypatch):
    texts = count_compilations(monkeypatch)
    expected = program()
    [path] = folder.iterdir()
    whole = path.read_bytes()
    cases = list(damages())
    for what, damage in cases:
        path.write_bytes(damage(whole))
        assert program().tobytes() == expected.tobytes(), what
        assert path.read_bytes() == whole, what
    assert len(texts) == 1 + len(cases)


def test_exchanged_files_are_made_anew(folder, monkeypatch):
    texts = count_compilations(monkeypatch)
    expected = [program(factor).tobytes() for factor in (2, 3)]
    first, second = folder.iterdir()
    held = first.read_bytes(), second.read_bytes()
    first.write_bytes(held[1])
    second.write_bytes(held[0])
    assert [program(factor).tobytes() for factor in (2, 3)] == expected
    assert len(texts) == 4


def test_what_is_sealed_but_no_code_does_not_end_the_process(folder):
    expected = program()
    [path] = folder.iterdir()
    object_file = path.read_bytes()[cache.SEAL :]
    for content in (b"garbage" * 99, bytes(500), object_file[: len(object_file) // 2], object_file[:64]):
        CachedCode(path.stem).store(content)
        assert program().tobytes() == expected.tobytes()


@pytest.mark.parametrize("change", ["metaest", "llvmlite", "LLVM", "processor", "features"])
def test_code_is_for_one_version_and_one_processor(folder, monkeypatch, change):
    texts = count_compilations(monkeypatch)
    program()
    here = llvm._machine()
    if change == "processor":
        other = replace(here, cpu="generic")
    elif change == "features":
        other = replace(here, features=",".join(here.features.split(",")[:-1]))
    else:
        place = ["metaest", "llvmlite", "LLVM"].index(change)
        other = replace(here, versions=(*here.versions[:place], "99", *here.versions[place + 1 :]))
    monkeypatch.setattr(llvm, "_machine", lambda: other)
    program()
    assert len(texts) == 2
    assert len(list(folder.iterdir())) == 2


def another_kind(path, kind):
    held = path.read_bytes()
    path.unlink()
    other = path.parent.parent.parent / "other"
    if kind == "pipe":
        os.mkfifo(path, 0o600)
    elif kind == "folder":
        path.mkdir(mode=0o700)
    elif kind == "link":
        other.write_bytes(held)
        other.chmod(0o600)
        path.symlink_to(other)
    elif kind == "dangling link":
        path.symlink_to(other)
    elif kind == "two names":
        path.write_bytes(held)
        path.chmod(0o600)
        os.link(path, other)
    elif kind == "huge":
        with path.open("wb") as file:
            file.write(held)
            file.truncate(2**40)
        path.chmod(0o600)


@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "dangling link", "two names", "huge"])
def test_only_plain_files_are_read(code, kind):
    another_kind(code, kind)
    assert CachedCode("key").load() is None
    CachedCode("key").store(b"anew")
    assert CachedCode("key").load() == (None if kind == "folder" else b"anew")


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o777])
def test_a_file_that_others_may_write_is_not_read(code, mode):
    code.chmod(mode)
    assert CachedCode("key").load() is None


@as_root
def test_a_file_of_another_user_is_not_read(code):
    os.chown(code, STRANGER, -1)
    assert CachedCode("key").load() is None


@as_root
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_a_folder_of_another_user_is_not_used(folder, code, depth):
    place = [folder, *folder.parents][depth]
    os.chown(place, STRANGER, -1)
    try:
        assert CachedCode("key").path is None
        assert program().tolist() == program().tolist()
    finally:
        os.chown(place, 0, -1)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_a_folder_that_others_can_write_to_is_not_used(folder, code, depth, mode):
    place = [folder, *folder.parents][depth]
    before, used = place.stat().st_mode & 0o7777, CachedCode("key")
    place.chmod(mode)
    try:
        assert CachedCode("key").path is None
        assert used.load() is None, "the folder is checked each time that it is used"
        used.store(b"more")
    finally:
        place.chmod(before)
    assert used.load() == b"code" * 1000


def test_a_folder_like_tmp_may_be_above(folder, code):
    above = folder.parent.parent
    above.chmod(0o1777)
    assert CachedCode("key").load() == b"code" * 1000
    above.chmod(0o700)
    folder.chmod(0o1777)
    assert CachedCode("key").path is None


@pytest.mark.parametrize("depth", [0, 1])
def test_a_folder_that_is_a_link_is_not_used(folder, code, depth, tmp_path):
    place, aside = [folder, folder.parent][depth], tmp_path / "aside"
    place.rename(aside)
    place.symlink_to(aside)
    assert CachedCode("key").path is None


def test_a_link_to_the_whole_cache_is_followed(folder, code, tmp_path, monkeypatch):
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    monkeypatch.setenv("METAEST_CACHE_DIR", str(link))
    assert CachedCode("key").load() == b"code" * 1000


def test_a_folder_exchanged_after_the_check_is_not_used(folder, code, monkeypatch):
    used, theirs = CachedCode("key"), folder.parent.parent / "theirs"
    theirs.mkdir()
    (theirs / "key.o").write_bytes(b"theirs")
    read = PrivateFolder.read

    def exchange(self, name, *most):
        if name == "key.o":
            folder.rename(folder.parent / "ours")
            theirs.rename(folder)
        return read(self, name, *most)

    monkeypatch.setattr(PrivateFolder, "read", exchange)
    assert used.load() == b"code" * 1000, "the folder that was checked is the one that is read"
    assert code.read_bytes() == b"theirs"


@pytest.mark.parametrize("damage", ["gone", "short", "another", "readable", "pipe", "link"])
def test_without_the_secret_nothing_is_read_and_a_new_one_is_made(folder, code, damage):
    secret = folder.parent / "secret"
    held = secret.read_bytes()
    if damage in ("gone", "pipe", "link"):
        secret.unlink()
    if damage == "pipe":
        os.mkfifo(secret, 0o600)
    elif damage == "link":
        (folder.parent / "elsewhere").write_bytes(held)
        secret.symlink_to(folder.parent / "elsewhere")
    elif damage == "readable":
        secret.chmod(0o644)
    elif damage != "gone":
        secret.write_bytes(held[:5] if damage == "short" else held[::-1])
    assert CachedCode("key").load() is None
    CachedCode("key").store(b"anew")
    assert CachedCode("key").load() == b"anew"
    assert secret.stat().st_mode & 0o7777 == 0o600


@pytest.mark.parametrize("umask", [0, 0o777])
def test_modes_do_not_depend_on_the_umask(tmp_path, monkeypatch, umask):
    monkeypatch.setenv("METAEST_CACHE_DIR", str(tmp_path / "made" / "here"))
    before = os.umask(umask)
    try:
        CachedCode("key").store(b"code")
    finally:
        os.umask(before)
    assert CachedCode("key").load() == b"code"
    for path in tmp_path.rglob("*"):
        assert path.stat().st_mode & 0o7777 == (0o700 if path.is_dir() else 0o600)


def test_off_is_off(tmp_path, monkeypatch):
    monkeypatch.setenv("METAEST_CACHE_DIR", "off")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert CachedCode("key").path is None
    assert program().tolist() == program().tolist()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("unset", [True, False])
def test_the_folder_of_the_user_is_the_default(tmp_path, monkeypatch, unset):
    monkeypatch.delenv("METAEST_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    if unset:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert CachedCode("key").path == tmp_path / (".cache" if unset else "other") / "metaest" / "lanes" / "key.o"


def test_a_folder_that_cannot_be_is_no_error(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    monkeypatch.chdir(tmp_path)
    for path in ("file", "loop", "file/below", "a" * 5000, "/proc/1/fd", "/dev/null"):
        monkeypatch.setenv("METAEST_CACHE_DIR", os.path.join(tmp_path, path))
        with caplog.at_level("WARNING", logger="metaest"):
            assert program().tolist() == program().tolist()
    for path in ("relative", "~", "~/cache"):
        monkeypatch.setenv("METAEST_CACHE_DIR", path)
        assert CachedCode("key").path is None
    assert not caplog.records
    assert {path.name for path in tmp_path.iterdir()} == {"file", "loop"}


def test_a_full_disk_is_no_error(folder, code, monkeypatch):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        CachedCode("other").store(b"code" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in folder.iterdir()] == ["key.o"]


def test_half_written_files_of_dead_processes_are_removed(folder, code):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead, alive, old = (folder / f"key.o.{pid}.ab.part" for pid in (gone.pid, os.getpid(), os.getppid()))
    for path in (dead, alive, old):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    CachedCode("other").store(b"code")
    assert {path.name for path in folder.iterdir()} == {"key.o", "other.o", alive.name}


def test_the_oldest_make_room(folder, monkeypatch):
    monkeypatch.setattr(cache, "MOST", 3)
    monkeypatch.setattr(cache, "MOST_BYTES", 500)
    for i, size in enumerate([10, 10, 10, 10, 300]):
        CachedCode(str(i)).store(b"c" * size)
        os.utime(folder / f"{i}.o", (i, i))
    assert sorted(path.name for path in folder.iterdir()) == ["2.o", "3.o", "4.o"]
    CachedCode("5").store(b"c" * 400)
    assert [path.name for path in folder.iterdir() if path.name > "4"] == ["5.o"]


def test_code_too_large_is_not_kept(folder, code, monkeypatch):
    monkeypatch.setattr(cache, "LARGEST", 100)
    CachedCode("other").store(bytes(101))
    CachedCode("empty").store(b"")
    assert [path.name for path in folder.iterdir()] == ["key.o"]


def test_threads_share_a_folder(folder):
    wrong = []

    def work():
        for i in range(40):
            CachedCode(str(i % 4)).store(b"code" * 99)
            if CachedCode(str(i % 4)).load() not in (b"code" * 99, None):
                wrong.append(i)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for i in range(4):
        CachedCode(str(i)).store(b"code" * 99)
        assert CachedCode(str(i)).load() == b"code" * 99
    assert sorted(path.name for path in folder.iterdir()) == ["0.o", "1.o", "2.o", "3.o"]


@pytest.mark.slow
def test_five_hundred_spoilt_files_are_made_anew():
    script = Path(__file__).parents[1] / "benchmarks" / "accuracy" / "damaged_cache.py"
    ran = subprocess.run([sys.executable, str(script), "--count", "500"], capture_output=True, text=True, check=False)
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
