"""A file that is damaged, forged or of another kind is an error of one class, and nothing else happens."""

import json
import os
import resource
import stat
import warnings
import zlib
from collections import Counter

import joblib
import numpy as np
import pytest
import torch

import damage
from metaest import EquationRegressor, MAMLRegressor, load, save
from metaest.exceptions import ModelFileError
from metaest.saving import container
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


def forged(content, change):
    """Return a file with a right hash in which the state of its model was changed."""
    header, tensors = container.unpack(content)
    change(header["object"]["fields"], tensors)
    return container.pack(header, tensors)


def test_a_small_file_cannot_ask_for_much_memory(files, tmp_path):
    network, path = files[0], tmp_path / "file"

    def named_often(fields, tensors):
        tensors["wide"] = torch.zeros(2**16)
        fields["wide_"] = [{"tensor": "wide"}] * 20_000

    def one_long_string(fields, tensors):
        values = ["a"] * 20_000 + ["b" * 20_000]
        fields["wide_"] = {"array": {"values": values, "shape": [20_001]}, "dtype": "<U20000"}

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for change in (named_often, one_long_string):
        assert outcome(forged(network[0], change), *network[1:], path) == "error"
    text = '{"metaest":"predictor","format":1,"object":[' + "[]," * 4_000_000 + "0]}"
    header = json.dumps({"__metadata__": {"metaest": text, "noise": os.urandom(100_000).hex()}}).encode()
    path.write_bytes(container.PACKED + zlib.compress(len(header).to_bytes(8, "little") + header))
    with pytest.raises(ModelFileError, match="very large"):
        load(path, **files[3][1])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_a_predictor_that_shrinks_very_much_is_not_packed():
    header = {"metaest": "predictor", "format": 1, "object": ["same"] * 300_000}
    content = container.pack(header, {"a": torch.zeros(3)})
    assert not content.startswith(container.PACKED)
    assert container.unpack(content)[0] == header


def test_a_random_state_whose_next_draw_would_read_elsewhere_is_refused(files, tmp_path):
    def beyond(fields, tensors):
        key = {"array": {"type": "uint32", "shape": [624], "values": [1] * 624}, "dtype": "<u4"}
        fields["state_"] = {"random_state": {"tuple": ["MT19937", key, 2**31 - 8, 0, 0.0]}}

    (tmp_path / "file").write_bytes(forged(files[0][0], beyond))
    with pytest.raises(ModelFileError, match="random state"):
        load(tmp_path / "file")


def test_weights_of_several_types_are_refused(files, tmp_path):
    def doubled(fields, tensors):
        name = next(name for name in tensors if name.endswith("weight"))
        tensors[name] = tensors[name].double()

    (tmp_path / "file").write_bytes(forged(files[0][0], doubled))
    with pytest.raises(ModelFileError, match="several types"):
        load(tmp_path / "file")


@pytest.mark.parametrize(
    "entry", [1, None, {}, {"data_offsets": [0, "x"]}, {"data_offsets": [0, 1.0]}, {"data_offsets": 3}]
)
def test_a_safetensors_file_without_places_is_refused(entry, tmp_path):
    header = json.dumps({"a": entry}).encode()
    (tmp_path / "file").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ModelFileError, match="where its numbers are"):
        load(tmp_path / "file")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"metaest": "model", "metaest": "model"}', "stands twice"),
        ('{"metaest": "model", "format": 1, "object": NaN}', "which JSON does not know"),
        ('{"a": ' * 5000 + "0" + "}" * 5000, "nested too deeply|no model file of metaest"),
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


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        (b'"data_offsets"', b'"data_offsetz"'),
        (b'"data_offsets":[', b'"data_offsets":{"'),
        (b'"__metadata__"', b'"__metadatb__"'),
        (b'"data_offsets":[0,', b'"data_offsets":[0],"x":['),
    ],
)
def test_a_header_with_other_names_is_no_model(was, becomes, files, tmp_path):
    content, passed, rows = files[0]
    changed = content.replace(was, becomes[: len(was)], 1)
    assert changed != content
    assert outcome(changed, passed, rows, tmp_path / "file") == "error"
