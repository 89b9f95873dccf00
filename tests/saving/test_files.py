"""A file that is damaged, forged or of another kind is an error of one class, and nothing else happens."""

import os
import resource
import stat
import warnings
from collections import Counter

import joblib
import numpy as np
import pytest
import torch

import damage
from metaest import EquationRegressor, MAMLRegressor, load, save
from metaest.exceptions import ModelFileError
from savable import CASES, WAVES, wave


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Contents of files of every kind, with what `load` is passed and a row to predict."""
    folder, found = tmp_path_factory.mktemp("files"), []
    network = MAMLRegressor(hidden_layer_sizes=(6,), max_iter=5, random_state=0, support_size=4).fit(WAVES[:8])
    network.calibrate(WAVES[8:11], support_size=4)
    equation = EquationRegressor(wave, {"amplitude": 2.0, "phase": 1.5}, random_state=0).fit(WAVES[:8])
    X, y = WAVES[11].X[:4], WAVES[11].y[:4]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patient = CASES["OneCompartmentRegressor"].fit()
        for thing, passed, rows in (
            (network, {}, X),
            (equation, {"equation": wave}, X),
            (patient, {}, np.array([[1.0, 4.0, 70.0]])),
            (network.adapt(X, y, guard=True), {"model": network}, X),
            (equation.adapt(X, y), {"model": equation}, X),
        ):
            save(thing, folder / "file")
            found.append(((folder / "file").read_bytes(), passed, rows))
    return found


def outcome(content, passed, rows, path):
    """Return what comes of a file."""
    path.write_bytes(content)
    try:
        thing = load(path, **passed)
    except ModelFileError as error:
        return "error" if str(path) in str(error) else "error without path"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            thing.predict(rows)
        except Exception as error:  # settings may be anything, and make no process die
            return f"later {type(error).__name__}"
    return "predicts"


def many(files, n, kinds, make, path):
    rng, found = np.random.default_rng(0), Counter()
    for i in range(n):
        content, passed, rows = files[i % len(files)]
        kind = kinds[i // len(files) % len(kinds)]
        changed = make(content, kind, rng)
        if changed != content:
            found[kind, outcome(changed, passed, rows, path)] += 1
    return found


@pytest.mark.parametrize("n", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_damaged_files_are_errors(n, files, tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = many(files, n, damage.ACCIDENTS, damage.accident, tmp_path / "file")
    assert {own for _, own in found} == {"error"}, found
    # kilobytes: no file of some 30 kB takes more than a hundred MB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


@pytest.mark.parametrize("n", [150, pytest.param(1500, marks=pytest.mark.slow)])
def test_forged_files_are_errors_or_models(n, files, tmp_path):
    found = many(files, n, damage.FORGERIES, damage.forgery, tmp_path / "file")
    for kind in ("format", "list", "name", "shape"):
        assert {own for name, own in found if name == kind} == {"error"}, found
    assert sum(own for (_, end), own in found.items() if end == "error") > 0.6 * n


def test_a_file_that_unpacks_to_gigabytes_is_refused(files, tmp_path):
    assert outcome(damage.bomb(), files[3][1], files[3][2], tmp_path / "file") == "error"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"metaest": "model", "metaest": "model"}', "stands twice"),
        ('{"metaest": "model", "format": 1, "object": NaN}', "which JSON does not know"),
        ('{"a": ' * 5000 + "0" + "}" * 5000, "nested too deeply"),
        ('{"metaest": "model", "format": 2, "sha256": "x"}', "version 2 of the format, and this metaest reads up to 1"),
        ('{"some": "json"}', "no model file of metaest"),
        ("{" + " " * 100 + "}}", "no JSON"),
        ('{"metaest": "model", "format": 1, "obj', "cut off"),
        ("weights: 1.0, 2.0", "no model file of metaest"),
        ('{"metaest": "model", "format": 1, "object": 1, "sha256": "0"}', "the hash differs"),
    ],
)
def test_text_that_is_no_model(text, message, tmp_path):
    (tmp_path / "file").write_text(text)
    with pytest.raises(ModelFileError, match=message):
        load(tmp_path / "file")


def test_other_things_than_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelFileError, match="no regular file"):
        load(tmp_path / "pipe")
    with pytest.raises(IsADirectoryError, match=f"folder.*{tmp_path}"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing")
    for thing, compress in (({"a": np.zeros(3)}, 0), ({"a": np.zeros(3)}, 3), ("x" * 20_000, 0)):
        joblib.dump(thing, tmp_path / "pickle", compress=compress)
        with pytest.raises(ModelFileError, match="looks like a pickle"):
            load(tmp_path / "pickle")
    import safetensors.torch

    (tmp_path / "other").write_bytes(safetensors.torch.save({"a": torch.zeros(3)}, {"format": "pt"}))
    with pytest.raises(ModelFileError, match="not one of metaest"):
        load(tmp_path / "other")


def test_a_folder_that_is_not_there_is_named_with_the_file_that_was_asked_for(tmp_path):
    model = EquationRegressor(wave, {"amplitude": 2.0, "phase": 1.5}, random_state=0).fit(WAVES[:4])
    with pytest.raises(FileNotFoundError) as error:
        save(model, tmp_path / "nowhere" / "model.json")
    assert error.value.filename == str(tmp_path / "nowhere" / "model.json")


def test_a_file_is_replaced_whole_with_the_users_mode(files, tmp_path, monkeypatch):
    path = tmp_path / "model"
    before = os.umask(0o027)
    try:
        save(files[3][1]["model"], path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    first = path.read_bytes()

    def fail(descriptor):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        save(files[4][1]["model"], path)
    assert path.read_bytes() == first
    assert [own.name for own in tmp_path.iterdir()] == ["model"]


def test_a_patient_is_a_few_kilobytes(files):
    assert len(files[3][0]) < 10_000
    assert len(files[4][0]) < 10_000


def test_a_huge_file_is_refused_before_it_is_read(files, tmp_path):
    for content, passed, _ in files:
        path = tmp_path / "huge"
        path.write_bytes(content)
        os.truncate(path, 2**40)  # a hole on the disk
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(ModelFileError, match="longer than it declares|at most"):
            load(path, **passed)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
