"""What a function computes is told from its layout."""

import functools
import importlib
import textwrap
import uuid

import pytest
import torch

from metaest.estimators.fingerprint import digest
from metaest.saving.source_hash import name_of, source_hash

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


# what a function takes from elsewhere; X stands for what changes
TAKEN = {
    "a tuple of its module": "K = (1.0, X)\ndef curve(t, a): return K[1] * a * t",
    "a list of its module": "K = [1.0, X]\ndef curve(t, a): return K[1] * a * t",
    "a dict of its module": "K = {'x': X}\ndef curve(t, a): return K['x'] * a * t",
    "an array of its module": "import numpy as np\nK = np.array([X])\ndef curve(t, a): return K[0] * a * t",
    "a tensor of its module": "import torch\nK = torch.tensor([X])\ndef curve(t, a): return K[0] * a * t",
    "a frame of its module": "import pandas\nK = pandas.DataFrame({'k': [X]})\ndef curve(t, a): return K.k[0] * a * t",
    "an object of its module": """
        class Known:
            __slots__ = ("k",)
            def __init__(self, k): self.k = k
        K = Known(X)
        def curve(t, a): return K.k * a * t
        """,
    "an attribute of a class": "class C:\n    K = X\ndef curve(t, a): return C.K * a * t",
    "a function with a cache": """
        import functools
        @functools.cache
        def k(): return X
        def curve(t, a): return k() * a * t
        """,
    "a partial function": """
        import functools
        def times(k, t): return k * t
        twice = functools.partial(times, X)
        def curve(t, a): return twice(a * t)
        """,
    "a decorator": """
        import functools
        def scaled(f):
            @functools.wraps(f)
            def scaling(*of): return X * f(*of)
            return scaling
        @scaled
        def curve(t, a): return a * t
        """,
    "a function that a method calls": """
        def times(t): return X * t
        class Curve:
            def __call__(self, t, a): return times(a * t)
        curve = Curve()
        """,
    "a variable around a class": """
        def made(k):
            class Curve:
                def __call__(self, t, a): return k * a * t
            return Curve()
        curve = made(X)
        """,
    "an attribute of a module of layers": """
        import torch
        class Power(torch.nn.Module):
            def __init__(self, k):
                super().__init__()
                self.k = k
            def forward(self, x): return x**self.k
        curve = torch.nn.Sequential(torch.nn.Linear(1, 1), Power(X))
        """,
    "a buffer that no file holds": """
        import torch
        curve = torch.nn.Linear(1, 1)
        curve.register_buffer("k", torch.tensor(X), persistent=False)
        """,
}
FUNCTIONS = {
    "imported": "from torch import X as f\ndef curve(t, a): return f(a * t)",
    "a default": "import torch\ndef curve(t, a, f=torch.X): return f(a * t)",
    "around it": "import torch\ndef made(f): return lambda t, a: f(a * t)\ncurve = made(torch.X)",
    "of a layer": """
        import torch
        class Layer(torch.nn.Module):
            def __init__(self, f):
                super().__init__()
                self.f = f
            def forward(self, x): return self.f(x)
        curve = Layer(torch.X)
        """,
}


@pytest.mark.parametrize("text", TAKEN.values(), ids=TAKEN)
def test_what_is_taken_from_elsewhere_counts(text, curve):
    one, same, other = (curve(text.replace("X", value)) for value in ("2.0", "2.0", "3.0"))
    assert source_hash(one) == source_hash(same) != source_hash(other)
    assert digest(one) != digest(other)


@pytest.mark.parametrize("text", FUNCTIONS.values(), ids=FUNCTIONS)
def test_functions_of_libraries_count_by_name(text, curve):
    one, same, other = (curve(text.replace("X", name)) for name in ("exp", "exp", "tanh"))
    assert source_hash(one) == source_hash(same) != source_hash(other)
    assert digest(one) == digest(same) != digest(other)


def test_what_is_read_of_another_module_counts(curve, tmp_path):
    hashes = set()
    for k, kind in enumerate(("2", "3", "2")):
        helper = f"helper_{k}"
        (tmp_path / f"{helper}.py").write_text(f"K = {kind}\nelse_ = {k}\ndef twice(t): return {kind} * t")
        for text in ("import {0} as h\ndef curve(t, a): return h.K * a * t", "from {0} import twice\ncurve = twice"):
            hashes.add(source_hash(curve(text.format(helper))))
    assert len(hashes) == 4


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
