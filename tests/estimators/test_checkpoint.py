"""A fit that was ended goes on from its checkpoint with the same bits; every other fit starts anew, and says so."""

import hashlib
import logging
import os
import subprocess
import sys
from contextlib import contextmanager
from functools import partial

import joblib
import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from fits import FITS, dropping, ragged
from metaest import MAMLRegressor
from metaest.estimators import checkpoint as module
from metaest.estimators.checkpoint import Checkpoint
from metaest.estimators.fingerprint import digest
from metaest_datasets import load_theophylline
from metaest_domains.physiology import GlucoseForecaster

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning"),
    pytest.mark.filterwarnings("ignore::metaest.OvershootWarning"),
]


def numbers(model):
    """Return all numbers that a fit has learned."""
    found = dict(model._params) if hasattr(model, "_params") else {}
    if hasattr(model, "_fitted"):
        found |= model._fitted.population._asdict() | {"loss": torch.tensor(model.log_likelihood_)}
        found["tasks"] = torch.tensor(model.task_params_.drop(columns="status").to_numpy())
    history = model.history_.drop(columns="seconds", errors="ignore").to_numpy(dtype=float)
    return {**found, "history": torch.from_numpy(history).nan_to_num(nan=-1.0)}


def assert_same(model, other):
    ours, theirs = numbers(model), numbers(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def end_after(monkeypatch, n):
    """Let a KeyboardInterrupt follow the n-th state that is kept; return the number of states so far."""
    count, save = [], Checkpoint.save

    def ending(self, state):
        save(self, state)
        count.append(1)
        if len(count) == n:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", ending)
    return count


@contextmanager
def ended_after(monkeypatch, n):
    """Expect that a fit is interrupted after the n-th state that is kept."""
    with monkeypatch.context() as patch:
        end_after(patch, n)
        with pytest.raises(KeyboardInterrupt):
            yield


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow) if kind == "query" else kind for kind in FITS]
)
def test_a_fit_that_was_ended_twice_has_the_bits_of_one_that_was_not(kind, tmp_path, monkeypatch):
    if "compiled" in kind:
        pytest.importorskip("llvmlite")
    make, tasks = FITS[kind]
    data = tasks(0)
    expected = make().fit(data)
    with monkeypatch.context() as patch:
        count = end_after(patch, -1)
        assert_same(make(checkpoint=tmp_path, checkpoint_every=3).fit(data), expected)
    n = len(count)
    assert n >= 3
    assert not os.listdir(tmp_path)
    for last in (n // 2, n - n // 2 - 1):
        with ended_after(monkeypatch, last):
            make(checkpoint=tmp_path, checkpoint_every=3).fit(data)
        assert len(os.listdir(tmp_path)) == 1
    with monkeypatch.context() as patch:
        left = end_after(patch, -1)
        assert_same(make(checkpoint=tmp_path, checkpoint_every=3).fit(data), expected)
    assert len(left) <= 3
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {"early_stopping": True, "n_iter_no_change": 20, "max_iter": 60},
        {"multi_step_share": 0.5, "first_order_share": 0.3, "inner_steps": 3},
        {"learn_inner_lr": "per-parameter", "meta_gradient": "first-order"},
        {"inner_solver": "bayes"},
        {"inner_solver": "evidence", "rank": 2},
        {"normalization": "batch", "support_size": 2, "batch_statistics": "per-step"},
        {"meta_batch_size": 3, "dtype": "float64", "max_batch_bytes": 1},
    ],
)
def test_every_variant_goes_on(settings, tmp_path, monkeypatch):
    make = partial(MAMLRegressor, hidden_layer_sizes=(4,), random_state=1, compile=False)
    settings = {"max_iter": 15, **settings}
    expected = make(**settings).fit(ragged())
    with ended_after(monkeypatch, 2):
        make(**settings, checkpoint=tmp_path, checkpoint_every=4).fit(ragged())
    assert_same(make(**settings, checkpoint=tmp_path, checkpoint_every=4).fit(ragged()), expected)


@pytest.mark.slow
def test_a_fit_that_is_begun_anew_at_a_lower_rate_goes_on(tmp_path, monkeypatch):
    make = partial(
        MAMLRegressor, activation="identity", hidden_layer_sizes=(128,) * 4, max_iter=5, random_state=0, compile=False
    )
    expected, data = make().fit(load_theophylline()), load_theophylline()
    assert expected.inner_lr_ < make().inner_lr
    with monkeypatch.context() as patch:
        count = end_after(patch, -1)
        make(checkpoint=tmp_path, checkpoint_every=1).fit(data)
    assert len(count) > 4  # states of more than one run
    with ended_after(monkeypatch, len(count) - 1):
        make(checkpoint=tmp_path, checkpoint_every=1).fit(data)
    with monkeypatch.context() as patch:
        left = end_after(patch, -1)
        resumed = make(checkpoint=tmp_path, checkpoint_every=1).fit(data)
    assert len(left) == 1
    assert resumed.inner_lr_ == expected.inner_lr_
    assert_same(resumed, expected)


def test_callbacks_see_the_steps_to_come_and_the_history_has_all(tmp_path):
    make, tasks = FITS["network"]
    seen = []

    def ends(info):
        if info.step == 8:
            raise RuntimeError("out of power")

    with pytest.warns(UserWarning, match="cannot be pickled"), pytest.raises(RuntimeError, match="out of power"):
        make(checkpoint=tmp_path, checkpoint_every=3, callbacks=[ends]).fit(tasks())
    model = make(checkpoint=tmp_path, checkpoint_every=3, callbacks=[seen.append]).fit(tasks())
    assert [info.step for info in seen] == [7, 8, 9, 10, 11, 12]
    assert model.history_["step"].tolist() == list(range(1, 13))
    assert (model.history_["seconds"].diff().dropna() >= 0).all()


def damaged(content):
    rng = np.random.default_rng(0)
    place = int(rng.integers(len(content)))
    yield b""
    yield content[:20]
    yield content[: len(content) // 2]
    yield content + b"x"
    yield content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    yield rng.bytes(len(content))


def test_a_damaged_file_is_not_read(tmp_path, monkeypatch):
    make, tasks = FITS["network"]
    expected = make().fit(tasks())
    with ended_after(monkeypatch, 2):
        make(checkpoint=tmp_path, checkpoint_every=3).fit(tasks())
    [path] = tmp_path.iterdir()
    for content in damaged(path.read_bytes()):
        path.write_bytes(content)
        with pytest.warns(UserWarning, match="cannot be read .* starts from the beginning"):
            model = make(checkpoint=tmp_path, checkpoint_every=3).fit(tasks())
        assert_same(model, expected)


@pytest.mark.parametrize(
    ("settings", "seed", "said"),
    [
        ({}, 1, "other data;"),
        ({"inner_lr": 0.04}, 0, "other settings;"),
        ({"meta_lr": 0.02}, 1, "other data and other set"),
    ],
)
def test_another_fit_starts_anew_and_says_so(settings, seed, said, tmp_path, monkeypatch, caplog):
    make, tasks = FITS["network"]
    with ended_after(monkeypatch, 2):
        make(checkpoint=tmp_path, checkpoint_every=3).fit(tasks(0))
    [path] = tmp_path.iterdir()
    with pytest.warns(UserWarning, match=f"checkpoint: .*{path.name} is of a fit on {said}"):
        other = make(checkpoint=tmp_path, checkpoint_every=3, **settings).fit(tasks(seed))
    assert_same(other, make(**settings).fit(tasks(seed)))
    # the first fit still goes on, and what it goes on from is logged
    with caplog.at_level(logging.INFO, logger="metaest"):
        assert_same(make(checkpoint=tmp_path, checkpoint_every=3).fit(tasks(0)), make().fit(tasks(0)))
    assert f"the fit goes on from {path}" in caplog.text


def test_fits_of_a_search_share_a_folder(tmp_path):
    make, tasks = FITS["network"]
    grid = {"inner_lr": [0.02, 0.05], "checkpoint": [tmp_path]}
    with joblib.parallel_config("threading"):
        search = GridSearchCV(make(checkpoint_every=2), grid, cv=3, n_jobs=2).fit(tasks())
    plain = GridSearchCV(make(), {"inner_lr": [0.02, 0.05]}, cv=3).fit(tasks())
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"])
    assert not os.listdir(tmp_path)


def test_a_fit_that_ends_meanwhile_is_not_warned_of(tmp_path, monkeypatch):
    other = Checkpoint(tmp_path, 1, "Model", {"data": "1"})
    other.save({})

    def ends(path, process, host):
        other.__exit__(None)
        return False

    monkeypatch.setattr(module, "_runs", ends)
    assert Checkpoint(tmp_path, 1, "Model", {"data": "2"}).load() is None


@pytest.mark.parametrize(
    "content",
    [b"", b"none", safetensors.torch.save({"json": torch.tensor([49, 50]).byte()})],
    ids=["empty", "none", "JSON"],
)
def test_a_file_of_another_kind_with_a_right_hash_is_not_read(content, tmp_path):
    mine = Checkpoint(tmp_path, 1, "Model", {"data": "1"})
    mine.path.write_bytes(hashlib.blake2b(content, digest_size=32).digest() + content)
    with pytest.warns(UserWarning, match="cannot be read .* the fit starts from the beginning"):
        assert mine.load() is None


def test_a_pipe_is_not_waited_for(tmp_path):
    mine = Checkpoint(tmp_path, 1, "Model", {"data": "1"})
    os.mkfifo(mine.path)
    with pytest.warns(UserWarning, match="no regular file"):
        assert mine.load() is None


@pytest.mark.parametrize("kind", ["network", "JMAK"])
def test_without_a_seed_there_is_nothing_to_go_on_from(kind, tmp_path):
    make, tasks = FITS[kind]
    with pytest.raises(ValueError, match="checkpoint: .* set random_state"):
        make(checkpoint=tmp_path, random_state=None).fit(tasks())
    with pytest.raises(ValueError, match="checkpoint_every"):
        make(checkpoint=tmp_path, checkpoint_every=0).fit(tasks())


def test_a_generator_as_random_state_goes_on_from_its_state(tmp_path, monkeypatch):
    make, tasks = FITS["network"]
    state = np.random.RandomState(3)
    expected = make(random_state=np.random.RandomState(3)).fit(tasks())
    with ended_after(monkeypatch, 2):
        make(checkpoint=tmp_path, checkpoint_every=3, random_state=state).fit(tasks())
    again = np.random.RandomState(3)
    assert_same(make(checkpoint=tmp_path, checkpoint_every=3, random_state=again).fit(tasks()), expected)


def test_glucose_goes_on(tmp_path, monkeypatch):
    time = np.arange(0.0, 3 * 1440, 5)
    people = [(time, 120 + 30 * np.sin(time / seed)) for seed in (100, 125, 155)]
    make = partial(GlucoseForecaster, n_days=1, max_iter=6, random_state=0)
    with ended_after(monkeypatch, 2):
        make(checkpoint=tmp_path, checkpoint_every=2).fit(people)
    resumed = make(checkpoint=tmp_path, checkpoint_every=2).fit(people)
    assert_same(resumed.model_, make().fit(people).model_)
    with pytest.raises(ValueError, match="set random_state"):
        make(checkpoint=tmp_path, random_state=None).fit(people)


def test_a_full_disk_ends_checkpoints_and_not_the_fit(tmp_path, monkeypatch):
    make, tasks = FITS["network"]

    def full(path, content):
        raise OSError("no space left on device")

    monkeypatch.setattr(module, "write_whole", full)
    with pytest.warns(UserWarning, match="cannot be written .no space left") as caught:
        model = make(checkpoint=tmp_path, checkpoint_every=2).fit(tasks())
    assert len(caught) == 1
    assert_same(model, make().fit(tasks()))


def test_halves_of_files_are_cleared(tmp_path, monkeypatch):
    make, tasks = FITS["network"]
    with ended_after(monkeypatch, 1):
        make(checkpoint=tmp_path, checkpoint_every=3).fit(tasks())
    [path] = tmp_path.iterdir()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    half = path.with_name(f".{path.name}.{ended.pid}.1")
    half.write_bytes(b"half")
    make(checkpoint=tmp_path, checkpoint_every=3).fit(tasks())
    assert not os.listdir(tmp_path)


def scaled_by(factor):
    def scaled(X, a, b):
        return factor * a + b * X[:, 0]

    return scaled


def test_what_tells_one_fit_from_another():
    torch.manual_seed(0)
    layers = [nn.Linear(2, 1), nn.Linear(2, 1)]
    settings = [
        1,
        1.0,
        True,
        None,
        "1",
        (1,),
        [1],
        {"a": 1},
        range(3),
        {"a", "b"},
        np.arange(3),
        np.arange(3.0),
        torch.arange(3),
        pd.DataFrame({"a": [1]}),
        scaled_by,
        scaled_by(1.0),
        scaled_by(2.0),
        lambda x: x + 1,
        lambda x: x + 2,
        partial(scaled_by, 1.0),
        partial(scaled_by, factor=1.0),
        np.sin,
        torch.sin,
        dropping,
        nn.Tanh,
        nn.Tanh(),
        *layers,
        nn.Dropout(0.1),
        nn.Dropout(0.2),
    ]
    assert len({digest(own) for own in settings}) == len(settings)
    # the same once more, also where parts are one object or two
    assert digest(scaled_by(2.0)) == digest(scaled_by(2.0))
    twice = np.arange(3)
    assert digest([twice, twice]) == digest([twice, twice.copy()])
    estimator = FITS["JMAK"][0]()
    assert digest(estimator.get_params()) == digest(clone(estimator).get_params())
    itself = []
    itself.append(itself)
    assert digest(itself) != digest([[]])


SCRIPT = """
import sys, warnings
sys.path[:0] = {paths!r}
warnings.simplefilter("ignore")
import torch
torch.set_num_threads(1)
from fits import FITS
from test_checkpoint import numbers
make, tasks = FITS[{kind!r}]
model = make(checkpoint={folder!r}, checkpoint_every=2).fit(tasks(0))
torch.save(numbers(model), {out!r})
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["network", "compiled network", "module", "equation", "compiled equation", "descent"])
def test_killed_at_random_moments(kind, tmp_path):
    make, tasks = FITS[kind]
    expected = numbers(make().fit(tasks(0)))
    rng, out = np.random.default_rng(0), str(tmp_path / "out")
    paths = [*sys.path, os.path.dirname(os.path.dirname(__file__)), os.path.dirname(__file__)]
    folder = tmp_path / "kept"
    program = SCRIPT.format(paths=paths, kind=kind, folder=str(folder), out=out)
    kills = 0
    while not os.path.exists(out):
        process = subprocess.Popen([sys.executable, "-c", program])
        try:
            process.wait(timeout=rng.uniform(2, 8))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        assert kills < 20
    found = torch.load(out)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
