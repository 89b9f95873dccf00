"""What a setting may be comes back as what it was, and what cannot be written is named before anything is written."""

import datetime
import fractions
import math
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metaest import MAMLRegressor, Parameter, load, save
from metaest.exceptions import ModelFileError
from metaest.saving.container import pack, unpack
from metaest.saving.decode import Decoder
from metaest.saving.encode import Encoder
from metaest.saving.user_code import UserCode
from savable import WAVES

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(codec="utf-8")), st.binary(),
    st.sampled_from([np.float32(0.1), np.int8(-3), np.bool_(True), np.float64("nan"), range(2, 9, 3), Path("a/b")]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.dictionaries(st.integers(), inner, max_size=3),
    ),
    max_leaves=8,
)


def there_and_back(value, inline=True):
    encoder = Encoder(inline=inline)
    node = encoder.encode({"setting": value}, "")
    header, tensors = unpack(
        pack({"metaest": "model", "format": 1, "object": node}, None if inline else encoder.tensors)
    )
    return Decoder(tensors, UserCode(None, None, (), True), {}).decode(header["object"])["setting"]


def same(one, other):
    """Tell whether two values are equal in type and value, with NaN equal to itself and -0.0 unlike 0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one), list(other)) and same(list(one.values()), list(other.values()))
    if isinstance(one, (float, np.floating)):
        signs = math.copysign(1, one) == math.copysign(1, other) or math.isnan(one)  # the sign of a NaN says nothing
        return repr(one) == repr(other) and signs
    return one == other


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES)
def test_values_come_back_in_type_and_value(value):
    assert same(there_and_back(value), value)


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.array([[1, 2], [3, 4]], dtype=">i2"),
        np.array([np.nan, np.inf, -0.0, 5e-324], dtype=np.float64),
        np.float32([0.1, 1e38]),
        np.array(["a", "längere"]),
        np.array(["a", None, 3], dtype=object),
        np.array(["2020-01-01", "NaT"], dtype="datetime64[ns]"),
        np.empty((0, 4)),
        np.array(7, dtype=np.uint64),
        np.asfortranarray(np.arange(6.0).reshape(2, 3))[:, ::2],
    ],
)
def test_arrays_come_back(array, inline):
    got = there_and_back(array, inline)
    assert got.dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
    assert got.shape == array.shape
    np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize("inline", [True, False])
def test_tensors_come_back_as_they_lie_in_memory(inline):
    for tensor in (
        torch.arange(6.0).reshape(2, 3).T,
        torch.ones(1, 3).expand(4, 3),
        torch.zeros(0, 2),
        torch.tensor(3),
    ):
        got = there_and_back(tensor, inline)
        assert got.dtype == tensor.dtype
        assert torch.equal(got, tensor)
        assert got.stride() == tensor.stride() or got.numel() < 2


def test_tables_come_back():
    frame = pd.DataFrame({"a": [1.0, np.nan], "b": ["x", None], "c": [1, 2]}, index=pd.Index(["p", "q"], name="task"))
    pd.testing.assert_frame_equal(there_and_back(frame), frame)
    pd.testing.assert_frame_equal(there_and_back(frame.reset_index(drop=True)), frame.reset_index(drop=True))
    pd.testing.assert_series_equal(there_and_back(frame["a"]), frame["a"])


def test_what_is_shared_is_shared_again():
    shared = np.arange(3.0)
    one, other = there_and_back([shared, {"x": shared}])[0:2]
    assert one is other["x"]


def test_random_states_and_parameters_come_back(tmp_path):
    state = np.random.RandomState(3)
    state.normal(size=3)
    again = there_and_back({"state": state, "constant": Parameter(1.0, lower=0, upper=math.inf, unit="mg/L")})
    np.testing.assert_array_equal(again["state"].normal(size=5), state.normal(size=5))
    assert again["constant"] == Parameter(1.0, lower=0, upper=math.inf, unit="mg/L")


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (fractions.Fraction(1, 3), "Fraction"),
        (datetime.time(12), "time"),
        (OrderedDict(a=1), "OrderedDict"),
        (np.ma.masked_array([1.0], mask=[True]), "MaskedArray"),
        (np.array([1 + 2j]), "complex128"),
    ],
)
def test_what_cannot_be_written_is_named(value, named, tmp_path):
    model = MAMLRegressor(hidden_layer_sizes=(3,), max_iter=1, random_state=0).fit(WAVES[:4])
    model.standardize = value
    with pytest.raises(ModelFileError, match=rf"standardize is an? .*{named}"):
        save(model, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_settings_of_every_kind_survive(tmp_path):
    settings = {
        "hidden_layer_sizes": np.array([3, 2]), "support_size": range(1, 4), "standardize": [0], "alpha": 1,
        "max_grad_norm": None, "inner_lr": np.float64(0.01), "compile": False, "random_state": np.random.RandomState(1),
    }  # fmt: skip
    model = MAMLRegressor(max_iter=1, **settings).fit(WAVES[:4])
    save(model, tmp_path / "model")
    again = load(tmp_path / "model").get_params()
    for name, value in model.get_params().items():
        assert type(again[name]) is type(value)
        if name not in ("random_state", "hidden_layer_sizes"):
            assert again[name] == value
    assert list(again["hidden_layer_sizes"]) == [3, 2]
