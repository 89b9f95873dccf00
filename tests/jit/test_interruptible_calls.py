"""Work that is cut into calls of machine code, between which an interrupt is heard, gives the same numbers."""

import linecache

import numpy as np
import pytest
import torch

from fits import FITS
from metaest import MAMLRegressor
from metaest.jit import CompiledFunction, function, map_search, meta_steps
from metaest_datasets import make_sinusoids

pytest.importorskip("llvmlite")


def test_a_function_of_many_tasks_is_called_a_few_tasks_at_a_time(monkeypatch):
    slope, x = torch.tensor(2.0), torch.zeros(3)

    def line(slope, x):
        return [slope * x, x.sum(), torch.stack([x, 2 * x])]

    values = np.random.default_rng(0).standard_normal((70, 3)).astype("float32")
    whole = CompiledFunction(line, [slope, x], shared=[True, False])([np.float32(2.0), values], 70)
    monkeypatch.setattr(function, "OPERATIONS_PER_CALL", 1)
    lines = CompiledFunction(line, [slope, x], shared=[True, False])
    assert lines._at_once < 70
    for own, other in zip(lines([np.float32(2.0), values], 70), whole, strict=True):
        np.testing.assert_array_equal(own, other)
    lines.fix([np.float32(2.0)])
    for own, other in zip(lines([values], 70), whole, strict=True):
        np.testing.assert_array_equal(own, other)


def test_an_equation_is_searched_a_few_tasks_at_a_time(monkeypatch):
    make, tasks = FITS["compiled equation"]
    data = tasks(0)
    model = make().fit(data)
    many = [(task.X, task.y) for task in data] * 3
    whole = make().fit(data).adapt_many(many).params_
    calls, call = [], map_search.CompiledMapSearch._call

    def counted(self, how, given, *rest):
        calls.append(given[0].shape[-1])
        return call(self, how, given, *rest)

    monkeypatch.setattr(map_search.CompiledMapSearch, "_call", counted)
    monkeypatch.setattr(map_search, "OPERATIONS_PER_CALL", 1)
    cut = model.adapt_many(many).params_
    assert len(set(calls)) > 1
    np.testing.assert_allclose(cut.select_dtypes("number"), whole.select_dtypes("number"), rtol=1e-12)


def test_the_more_tasks_a_step_has_the_fewer_steps_one_call_takes(monkeypatch):
    tasks = make_sinusoids(200, random_state=0)
    counts, advance = {}, meta_steps.CompiledMetaSteps.advance

    def counted(self, count):
        counts[size] = max(count, counts.get(size, 0))
        return advance(self, count)

    monkeypatch.setattr(meta_steps.CompiledMetaSteps, "advance", counted)
    models = []
    for size in (5, 200):
        settings = {"hidden_layer_sizes": (8,), "meta_batch_size": size, "max_iter": 30, "compile": True}
        monkeypatch.setattr(meta_steps, "OPERATIONS_PER_CALL", 200_000_000)
        models.append(MAMLRegressor(**settings, random_state=0).fit(tasks))
        assert counts.pop(size) == 30
        monkeypatch.setattr(meta_steps, "OPERATIONS_PER_CALL", 500_000)
        models.append(MAMLRegressor(**settings, random_state=0).fit(tasks))
        for name, value in models[-1]._params.items():
            assert torch.equal(value, models[-2]._params[name])
    assert counts[5] > counts[200] >= 1


def test_tracing_leaves_no_source_text_behind():
    make, tasks = FITS["compiled network"]
    make().fit(tasks(0))
    before = len(linecache.cache)
    make().fit(tasks(0))
    assert len(linecache.cache) == before
