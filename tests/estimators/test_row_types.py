"""Rows of a type of the user's: sets of vectors of any number, read by `collate_fn`."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from torch import nn

from metaest import (
    EquationRegressor,
    FewShotRegressor,
    MAMLClassifier,
    MAMLPolicy,
    MAMLRegressor,
    ModelFileError,
    TaskError,
    TaskSet,
    load,
    save,
)
from metaest.scorers import few_shot_r2
from metaest.tasks import ObjectRows


class DeepSets(nn.Module):
    """A function of a set of points, padded by NaN: of the mean of what an encoder makes of each."""

    def __init__(self, n_outputs=1):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2, 16), nn.Tanh())
        self.head = nn.Linear(16, n_outputs)

    def forward(self, sets):
        real = ~sets.isnan().any(dim=-1, keepdim=True)
        codes = self.encoder(sets.nan_to_num()) * real
        return self.head(codes.sum(dim=1) / real.sum(dim=1))


def pad(sets):
    return nn.utils.rnn.pad_sequence([torch.as_tensor(points) for points in sets], True, float("nan"))


def stack(rows):
    return torch.stack([torch.as_tensor(row) for row in rows])


def tasks_of_sets(n_tasks, seed, n_rows=10):
    """Make tasks: y is the mean of a plane, the task's own, over the points of a set."""
    rng = np.random.default_rng(seed)
    tasks = []
    for _ in range(n_tasks):
        slope = rng.normal(1, 0.5, 2)
        sets = [rng.normal(rng.normal(), 1, (rng.integers(1, 6), 2)) for _ in range(n_rows)]
        tasks.append((sets, np.array([(points @ slope).mean() for points in sets])))
    return tasks


def regressor(**settings):
    torch.manual_seed(0)
    plain = {"module": DeepSets(), "collate_fn": pad, "max_iter": 5, "random_state": 0, "inner_steps": 2}
    return MAMLRegressor(**{**plain, **settings})


@pytest.fixture(scope="module")
def fitted():
    return regressor(max_iter=40, meta_lr=0.03).fit(tasks_of_sets(12, 0))


# ------------------------------------------------------------------------------------------------ a user's own rows


def test_sets_of_vectors_go_through_fit_adapt_predict_and_cross_val_score():
    torch.manual_seed(0)
    pairs = tasks_of_sets(20, 0)
    model = MAMLRegressor(module=DeepSets(), collate_fn=pad, max_iter=40, meta_lr=0.03, random_state=0)
    scores = cross_val_score(model, pairs, cv=2)
    sets, y = tasks_of_sets(1, 1)[0]
    adapted = model.fit(pairs).adapt(sets[:5], y[:5])
    error = np.square(adapted.predict(sets[5:]) - y[5:]).mean()
    assert scores.min() > 0.4
    assert error < 0.5 * np.square(y[5:]).mean()


def test_every_form_of_tasks_gives_the_same_fit():
    pairs = tasks_of_sets(8, 0)
    sets = [row for X, _ in pairs for row in X]
    groups, y = np.repeat(np.arange(8), 10), np.concatenate([y for _, y in pairs])
    expected = regressor().fit(pairs).predict(sets[:20])
    for given in ((dict(enumerate(pairs)),), (TaskSet(pairs, object_rows=True),), (sets, y, groups)):
        np.testing.assert_array_equal(regressor().fit(*given).predict(sets[:20]), expected)


def test_the_ways_to_predict_agree(fitted):
    pairs = tasks_of_sets(4, 2)
    many = fitted.adapt_many(pairs)
    common = tasks_of_sets(1, 3)[0][0]
    for i, (sets, y) in enumerate(pairs):
        one = fitted.adapt(sets, y)
        np.testing.assert_allclose(many.predict(common)[i], one.predict(common), atol=1e-5)
        parts = fitted.adapt(sets[:4], y[:4]).partial_adapt(sets[4:], y[4:])
        np.testing.assert_array_equal(parts.predict(common), one.predict(common))
    predicted = many.predict(TaskSet(pairs, object_rows=True))
    np.testing.assert_allclose(predicted[:10], many[0].predict(pairs[0][0]), atol=1e-5)
    assert fitted.adapt_many(pairs, guard=True).predict(common).shape == (4, 10)
    np.testing.assert_array_equal(fitted.adapt([], []).predict(common), fitted.predict(common))


def test_scores_guard_intervals_and_copies(fitted, tmp_path):
    pairs = tasks_of_sets(10, 4)
    sets, y = tasks_of_sets(1, 5)[0]
    assert fitted.score(pairs) > 0.4
    assert few_shot_r2(shots=5)(fitted, pairs) > 0.4
    rows, groups = [row for X, _ in pairs for row in X], np.repeat(np.arange(10), 10)
    flat = np.concatenate([y for _, y in pairs])
    assert fitted.score(rows, flat, groups) == fitted.score(pairs)
    assert few_shot_r2(shots=5)(fitted, rows, flat, groups=groups) > 0.4
    guarded = fitted.adapt(sets[:5], y[:5], guard=True)
    assert 0 <= guarded.guard_.share <= 1
    calibrated = pickle.loads(pickle.dumps(fitted)).calibrate(pairs, support_size=3)
    lower, upper = calibrated.adapt(sets[:3], y[:3]).predict_interval(sets, level=0.7)
    assert (lower < upper).all()
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.adapt(sets[:5], y[:5], guard=True).predict(sets), guarded.predict(sets))
    np.testing.assert_array_equal(clone(fitted).fit(tasks_of_sets(12, 0)).predict(sets), fitted.predict(sets))
    few = FewShotRegressor(fitted).fit(sets[:5], y[:5])
    assert few.predict(sets).shape == (10,)
    assert cross_val_score(FewShotRegressor(fitted), sets, y, cv=2).shape == (2,)
    for model in (fitted, few):
        assert not hasattr(model, "n_features_in_")
    assert "rows of type ndarray" in repr(guarded)
    assert "rows of type ndarray" in guarded._repr_html_()


def test_classes():
    pairs = [(sets, np.where(y > 0, "high", "low")) for sets, y in tasks_of_sets(12, 0, n_rows=16)]
    torch.manual_seed(0)
    model = MAMLClassifier(module=DeepSets(2), collate_fn=pad, max_iter=30, random_state=0).fit(pairs[:10])
    assert model.score(pairs[10:]) > 0.6
    sets, labels = pairs[10]
    assert (model.adapt(sets[:10], labels[:10], guard=True).predict(sets) == labels).mean() > 0.6
    assert model.predict_proba(sets).shape == (16, 2)
    assert clone(model).fit(pairs[:10]).score(pairs[10:]) == model.score(pairs[10:])


def test_warm_start():
    pairs = tasks_of_sets(6, 0)
    model = regressor(max_iter=5, warm_start=True).fit(pairs)
    before = model.predict(pairs[0][0])
    assert (model.fit(pairs).predict(pairs[0][0]) != before).any()
    with pytest.raises(ValueError, match="collate_fn was set, or taken away"):
        model.set_params(collate_fn=None).fit([(np.zeros((4, 2)), np.arange(4.0))] * 3)


# ------------------------------------------------------------------------------------------------------------ laws


@pytest.mark.parametrize("settings", [{}, {"inner_solver": "ridge"}, {"compile": True}])
def test_stacked_vectors_give_the_bits_of_a_plain_fit(settings):
    rng = np.random.default_rng(0)
    pairs = [(X, X @ rng.normal(size=3)) for X in rng.normal(size=(6, 6, 3))]
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    plain, objects = (
        MAMLRegressor(
            module=module, collate_fn=function, standardize=False, max_iter=5, random_state=0, **settings
        ).fit(pairs)
        for function in (None, stack)
    )
    assert plain.compiled_ == objects.compiled_
    X, y = pairs[0]
    np.testing.assert_array_equal(plain.predict(X), objects.predict(list(X)))
    np.testing.assert_array_equal(plain.adapt(X[:3], y[:3]).predict(X), objects.adapt(X[:3], y[:3]).predict(X))
    assert plain.score(pairs) == objects.score(pairs)
    np.testing.assert_array_equal(
        plain.adapt_many(pairs).predict(X[:2]), objects.adapt_many(pairs).predict(list(X[:2]))
    )


def test_the_order_of_points_does_not_matter(fitted):
    sets, y = tasks_of_sets(1, 6)[0]
    turned = [points[::-1].copy() for points in sets]
    np.testing.assert_allclose(
        fitted.adapt(turned[:5], y[:5]).predict(turned), fitted.adapt(sets[:5], y[:5]).predict(sets), atol=1e-5
    )


def test_other_rows_and_their_padding_do_not_matter(fitted):
    sets, y = tasks_of_sets(1, 6)[0]
    adapted = fitted.adapt(sets[:5], y[:5])
    together = adapted.predict([*sets, np.zeros((40, 2))])
    np.testing.assert_allclose(together[:10], adapted.predict(sets), atol=1e-12)


def test_standardize_scales_the_targets_alone():
    pairs = [(sets, 1000 * y) for sets, y in tasks_of_sets(4, 0)]
    wide, narrow = (regressor(standardize=value).fit(pairs) for value in (True, False))
    assert wide._network.targets_scaling.scale > 100
    assert narrow._network.targets_scaling.scale == 1
    for model in (wide, narrow):
        assert (model._network.features_scaling.scale == 1).all()


# -------------------------------------------------------------------------------------------------------- refusals

GOOD = tasks_of_sets(4, 0)
HOLE = [*GOOD[:2], ([*GOOD[2][0][:3], None, *GOOD[2][0][4:]], GOOD[2][1])]
TRIPLE = [*GOOD[:2], ([*GOOD[2][0][:3], np.zeros((2, 3)), *GOOD[2][0][4:]], GOOD[2][1])]


@pytest.mark.parametrize(
    ("settings", "tasks", "message"),
    [
        ({}, HOLE, "task 2: row 3 of X is missing"),
        ({}, TRIPLE, "task 2, row 3: collate_fn raised"),
        (
            {"collate_fn": lambda rows: pad(rows).numpy()},
            GOOD,
            "task 0, row 0: collate_fn returned ndarray; a floating",
        ),
        (
            {"collate_fn": lambda rows: pad(rows)[1:]},
            GOOD,
            r"task 0, row 0: collate_fn returned a tensor of shape \(39, ",
        ),
        ({"collate_fn": lambda rows: pad(rows)[:, 0, 0]}, GOOD, r"returned a tensor of shape \(40,\)"),
        ({"collate_fn": lambda rows: pad(rows).nan_to_num().long()}, GOOD, "tensor of torch.int64; a floating"),
        ({"collate_fn": lambda rows: 1 / 0}, GOOD, "task 0, row 0: collate_fn raised ZeroDivisionError"),
        ({}, TaskSet([(np.zeros((3, 2)), np.zeros(3))]), "task 0: its rows are numbers, and collate_fn="),
        ({"collate_fn": None}, TaskSet(GOOD, object_rows=True), "with collate_fn=, a function that makes a tensor"),
        ({"module": None}, GOOD, "collate_fn needs module="),
        ({"context_dim": 2}, GOOD, "context_dim=2 adds columns"),
        ({"standardize": [0]}, GOOD, r"standardize=\[0\] names columns"),
        ({"collate_fn": "pad"}, GOOD, "collate_fn"),
    ],
)
def test_what_cannot_be_is_refused_in_clear_words(settings, tasks, message):
    with pytest.raises(ValueError, match=message):
        regressor(**settings).fit(tasks)


def test_a_row_that_cannot_be_collated_is_named(fitted):
    sets, y = GOOD[0]
    with pytest.raises(TaskError, match="task 1, row 2: collate_fn raised"):
        fitted.score([GOOD[0], ([*GOOD[1][0][:2], "words", *GOOD[1][0][3:]], GOOD[1][1])])
    with pytest.raises(TaskError, match="predict, row 1: collate_fn raised"):
        fitted.predict([sets[0], "words"])
    with pytest.raises(TaskError, match="adapt: row 1 of X is missing"):
        fitted.adapt([sets[0], None], y[:2])
    with pytest.raises(TaskError, match="tasks were passed where rows are wanted"):
        fitted.predict(TaskSet(GOOD, object_rows=True))
    with pytest.raises(TaskError, match="a list of rows is wanted, got str"):
        fitted.predict("words")


@pytest.mark.parametrize(
    "model", [MAMLPolicy(), EquationRegressor(lambda X, a: a + 0 * X[:, 0], {"a": 1.0}), MAMLClassifier()]
)
def test_other_models_name_the_remedy(model):
    with pytest.raises((TaskError, ValueError, TypeError), match=r"task 0: its rows are objects.*collate_fn="):
        model.fit(TaskSet(GOOD, object_rows=True))


def test_rows_of_numbers_stay_what_they_are():
    model = MAMLRegressor(max_iter=2, random_state=0).fit([(np.ones((4, 2)), np.arange(4.0))] * 3)
    with pytest.raises(TaskError, match="adapt: rows are objects of type ndarray"):
        model.adapt(ObjectRows(GOOD[0][0]), GOOD[0][1])


def test_files_hold_the_model_and_ask_for_the_function(fitted, tmp_path):
    sets, y = GOOD[0]
    save(fitted, tmp_path / "model")
    with pytest.raises(ModelFileError, match=r"pad.*objects=\["):
        load(tmp_path / "model", module=fitted.module)
    model = load(tmp_path / "model", module=fitted.module, objects=[pad])
    np.testing.assert_array_equal(
        model.adapt(sets[:5], y[:5]).predict(sets), fitted.adapt(sets[:5], y[:5]).predict(sets)
    )
    with pytest.raises(ModelFileError, match="rows"):
        save(fitted.adapt(sets, y), tmp_path / "adapted")
    with pytest.raises(ModelFileError, match="rows"):
        save(fitted, tmp_path / "rows", keep_rows=True)


@pytest.mark.filterwarnings("ignore:callbacks that cannot be pickled")
def test_a_checkpoint_goes_on(tmp_path):
    pairs = tasks_of_sets(4, 0)
    expected = regressor().fit(pairs).predict(pairs[0][0])
    steps = []

    def interrupt(info):
        steps.append(info.step)
        if len(steps) == 3:
            raise KeyboardInterrupt

    settings = {"checkpoint": tmp_path / "fit", "checkpoint_every": 2}
    with pytest.raises(KeyboardInterrupt):
        regressor(callbacks=[interrupt], **settings).fit(pairs)
    resumed = regressor(callbacks=[lambda info: steps.append(info.step)], **settings).fit(pairs)
    assert steps[3] == 3  # the third step, after the state of two
    np.testing.assert_array_equal(resumed.predict(pairs[0][0]), expected)


def test_a_warm_start_on_other_targets_is_refused():
    pairs = tasks_of_sets(4, 0)
    model = regressor(warm_start=True).fit(pairs)
    with pytest.raises(TaskError, match="goes on from 1 target, but the tasks have 2"):
        model.fit([(sets, np.column_stack([y, y])) for sets, y in pairs])
