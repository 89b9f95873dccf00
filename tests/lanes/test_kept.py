"""Machine code on disk: found again, refused when it is broken or somebody else could have written it."""

import os

import pytest
import torch

from metaest.lanes import LaneFunction, kept, native

pytest.importorskip("llvmlite")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("METAEST_CACHE_DIR", str(tmp_path))
    native._library.cache_clear()
    yield tmp_path / "metaest" / "lanes"
    native._library.cache_clear()


def triple():
    native._library.cache_clear()
    return LaneFunction(lambda x: [3 * x], [torch.zeros(())], [False])([[2.0, 5.0]], 2)[0].tolist()


def test_code_is_kept_and_found_again(folder):
    assert triple() == [6, 15]
    [path] = folder.iterdir()
    before = path.read_bytes()
    assert triple() == [6, 15]
    assert [own.read_bytes() for own in folder.iterdir()] == [before]


@pytest.mark.parametrize("damage", [lambda code: code[:-10], lambda code: code[:40], lambda code: b""])
def test_broken_code_is_made_anew(folder, damage):
    triple()
    [path] = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert triple() == [6, 15]
    assert path.read_bytes()[:32] == whole[:32]


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no users here")
@pytest.mark.parametrize("shared", ["lanes", "metaest"])
def test_a_folder_others_can_write_to_is_not_used(folder, shared):
    folder.mkdir(parents=True)
    (folder if shared == "lanes" else folder.parent).chmod(0o777)
    assert triple() == [6, 15]
    assert not list(folder.iterdir())


def test_a_folder_that_cannot_be_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("METAEST_CACHE_DIR", str(tmp_path / "file"))
    assert triple() == [6, 15]


def test_the_oldest_make_room(folder, monkeypatch):
    monkeypatch.setattr(kept, "MOST", 2)
    for i in range(4):
        kept.Kept(str(i)).keep(None, b"code")
        os.utime(folder / f"{i}.o", (i, i))
    assert sorted(path.name for path in folder.iterdir()) == ["2.o", "3.o"]


def test_the_same_program_is_the_same_text(folder):
    for _ in range(3):
        native._library.cache_clear()
        LaneFunction(lambda x, y: [torch.tanh(x @ y) @ x + torch.relu(y).sum(0)], [torch.eye(30)] * 2, [False, False])
    assert len(list(folder.iterdir())) == 1
