"""Records hold copies that nobody can change, before and after a pickle or a deep copy, and are equal by value."""

import copy
import pickle

import numpy as np
import pytest

from metaest_datasets import LinearPopulation, relative_crystallinity
from metaest_domains.physiology import Regimen, Windows, glucose_windows


def regimen():
    return Regimen(np.array([0.0, 12.0]), np.array([320.0, 160.0]), np.zeros(2), {"weight": 70.0})


def windows():
    return glucose_windows(np.arange(0.0, 300, 5), 100 + np.arange(60.0))


def crystallinity():
    t = np.arange(600.0)
    return relative_crystallinity(t, 1.4 * np.exp(-((t / 15) ** 2)) + np.exp(-(((t - 90) / 25) ** 2)))


def population():
    return LinearPopulation(np.zeros(2), np.eye(2), 0.3, np.ones((5, 2)))


MAKERS = [regimen, windows, crystallinity, population]


def arrays(record):
    return {name: value for name, value in vars(record).items() if isinstance(value, np.ndarray)}


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("again", [lambda r: r, copy.copy, copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))])
def test_arrays_are_read_only_and_equal_after_every_copy(make, again):
    record = make()
    other = again(record)
    assert other == record
    assert hash(other) == hash(record)
    assert arrays(other)
    for array in arrays(other).values():
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    assert other != object()


def test_a_record_is_a_copy_of_what_it_was_given():
    time, amount, weight = np.array([0.0, 12.0]), np.ones(2), {"weight": 70.0}
    given = Regimen(time, amount, np.zeros(2), weight)
    time[1], amount[0], weight["weight"] = 99.0, 99.0, 99.0
    assert given == Regimen([0.0, 12.0], [1.0, 1.0], 0.0, {"weight": 70.0})
    with pytest.raises(TypeError, match="does not support item assignment"):
        given.covariates["weight"] = 80.0
    assert given != Regimen([0.0, 12.0], [1.0, 1.0])
    assert given != given.scaled(2.0)
    assert hash(Regimen([0.0], [1.0], [-0.0])) == hash(Regimen([0.0], [1.0], [0.0]))


def test_records_refuse_parts_that_do_not_belong_together():
    found = windows()
    with pytest.raises(ValueError, match="history must be an array of numbers with"):
        Windows(found.end, found.history[:-1], found.ahead, found.row)
    with pytest.raises(ValueError, match="row must contain"):
        Windows(found.end, found.history, found.ahead, found.row[:-1])
    with pytest.raises(ValueError, match="covariance"):
        LinearPopulation(np.zeros(2), np.eye(3), 0.3, np.ones((5, 2)))
