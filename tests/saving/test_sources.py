"""What a function computes is told from its layout."""

import functools
import importlib
import textwrap
import uuid

import pytest
import torch

from metaest.saving.sources import name_of, source_hash

ONE = '''
K = 3.0
def helper(t):
    return t + 1
def curve(X, a):
    """Say one thing."""
    return a * helper(X[:, 0]) + K  # a comment
'''
SAME = {
    "comment and docstring": ONE.replace("# a comment", "").replace("Say one thing", "Say another"),
    "layout": ONE.replace("a * helper(X[:, 0]) + K", "(\n        a * helper(X[:, 0])\n        + K\n    )"),
    "what stands around it": "L = 4\n\n" + ONE + "\ndef other():\n    return 1\n",
}
OTHER = {
    "operation": ONE.replace("a * helper", "a - helper"),
    "constant of the module": ONE.replace("K = 3.0", "K = 4.0"),
    "function that it calls": ONE.replace("t + 1", "t + 2"),
    "default": ONE.replace("def curve(X, a)", "def curve(X, a=2)"),
}


@pytest.fixture
def curve(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))

    def written(text, name="curve"):
        file = f"equations_{uuid.uuid4().hex}"
        (tmp_path / f"{file}.py").write_text(textwrap.dedent(text))
        importlib.invalidate_caches()
        return getattr(importlib.import_module(file), name)

    return written


@pytest.mark.parametrize("change", SAME)
def test_layout_does_not_count(change, curve):
    assert source_hash(curve(SAME[change])) == source_hash(curve(ONE))


@pytest.mark.parametrize("change", OTHER)
def test_what_is_computed_counts(change, curve):
    assert source_hash(curve(OTHER[change])) != source_hash(curve(ONE))


def made(rate):
    def decay(X, a):
        return a * torch.exp(-rate * X[:, 0])

    return decay


class Decay:
    def __init__(self, rate):
        self.rate = rate

    def __call__(self, X, a):
        return a * torch.exp(-self.rate * X[:, 0])


def test_what_is_caught_counts():
    for kind in (made, Decay, lambda rate: functools.partial(made(1.0), k=rate)):
        assert source_hash(kind(1.0)) == source_hash(kind(1.0))
        assert source_hash(kind(1.0)) != source_hash(kind(2.0))
    assert source_hash(lambda X, a: a * X) != source_hash(lambda X, a: a + X)
    assert name_of(functools.partial(made, 1.0)) == "made"
    assert name_of(Decay(1.0)) == name_of(Decay) == "Decay"


def test_modules_are_told_by_layers_and_sources():
    def network(units):
        return torch.nn.Sequential(torch.nn.Linear(2, units), torch.nn.Tanh(), torch.nn.Linear(units, 1))

    assert source_hash(network(3)) == source_hash(network(3))  # whatever their weights
    assert source_hash(network(3)) != source_hash(network(4))


def test_a_function_without_source_has_a_hash():
    space = {}
    exec("def typed(X, a):\n    return a * X[:, 0]", space)  # as at a prompt
    exec("def other(X, a):\n    return a + X[:, 0]", space)
    assert source_hash(space["typed"]) == source_hash(space["typed"]) != source_hash(space["other"])
