"""Columns of codes reach a module as they are, and a code without an entry is named."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from agreement import assert_agree
from metaest import MAMLClassifier, MAMLRegressor, TaskError, TaskSet

N_SITES = 4


class Embedded(nn.Module):
    """Dose, a site as a code, weight."""

    def __init__(self, n_features, n_targets):
        super().__init__()
        self.sites = nn.Embedding(N_SITES, 3)
        self.body = nn.Sequential(nn.Linear(n_features - 1 + 3, 8), nn.Tanh(), nn.Linear(8, n_targets))

    def forward(self, X):
        return self.body(torch.cat([X[:, :1], X[:, 2:], self.look_up(X[:, 1].long())], dim=1))

    def look_up(self, codes):
        return self.sites(codes)


class OneHot(Embedded):
    def look_up(self, codes):
        return nn.functional.one_hot(codes, N_SITES)[:, :3].to(self.sites.weight)


class Functional(Embedded):
    def look_up(self, codes):
        return nn.functional.embedding(codes, self.sites.weight)


MODULES = [Embedded, OneHot, Functional]
COLUMNS = ["dose", "site", "weight"]


def frame(n_tasks=8, highest=N_SITES - 1, seed=0):
    rng = np.random.default_rng(seed)
    n_rows = 6 * n_tasks
    table = pd.DataFrame(
        {
            "patient": np.repeat([f"p{i}" for i in range(n_tasks)], 6),
            "dose": rng.uniform(100, 200, n_rows),
            "site": rng.integers(0, highest + 1, n_rows),
            "weight": rng.normal(70, 10, n_rows),
        }
    )
    table.loc[n_rows - 1, "site"] = highest
    return table.assign(y=table["dose"] / 50 + table["site"] + rng.normal(0, 0.1, n_rows))


def tasks(**settings):
    return TaskSet.from_frame(frame(**settings), task="patient", features=COLUMNS, target="y")


def fitted(module=Embedded, standardize=("dose", "weight"), data=None, **settings):
    data = tasks() if data is None else data
    return MAMLRegressor(module=module, standardize=standardize, max_iter=3, random_state=0, **settings).fit(data)


@pytest.mark.parametrize("module", MODULES)
def test_codes_are_not_standardised_without_a_word(module):
    wanted = r"'site' holds whole numbers only.*standardize=\['dose', 'weight'\]"
    with pytest.raises(TaskError, match=wanted):
        fitted(module, standardize=True)
    with pytest.raises(TaskError, match=r"'site' holds whole numbers only.*standardize=\['dose'\]"):
        fitted(module, standardize=["dose", "site"])


@pytest.mark.parametrize("module", MODULES)
def test_named_columns_are_standardised_and_the_others_arrive_as_they_are(module):
    seen = []

    class Looking(module):
        def forward(self, X):
            if not torch._C._functorch.is_batchedtensor(X):
                seen.append(X.detach().clone())
            return super().forward(X)

    data = tasks()
    model = fitted(Looking)
    seen.clear()
    model.predict(data.X)
    rows = seen[-1].numpy()
    np.testing.assert_array_equal(rows[:, 1], data.X[:, 1])
    np.testing.assert_allclose(rows[:, [0, 2]].mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(rows[:, [0, 2]].std(axis=0), 1)
    np.testing.assert_allclose(fitted(Looking, standardize=[2, 0]).predict(data.X), model.predict(data.X))


def test_mapped_and_looped_fits_agree():
    data = tasks()
    by_map, by_loop = fitted(), fitted(vectorize=False)
    assert (by_map.batching_, by_loop.batching_) == ("vmap", "loop")
    np.testing.assert_allclose(by_loop.predict(data.X), by_map.predict(data.X), rtol=1e-4, atol=1e-4)
    assert by_loop.score(data) == pytest.approx(by_map.score(data), abs=1e-4)


@pytest.mark.parametrize("module", MODULES)
def test_a_code_without_an_entry_is_named(module):
    """Mapped over tasks it would be read from the embedding of the next task."""
    model, unseen = fitted(module), tasks(n_tasks=3, highest=N_SITES, seed=1)
    row = pd.DataFrame({"dose": [150.0, 150.0], "site": [0, N_SITES], "weight": [70.0, 70.0]})
    with pytest.raises(TaskError, match=r"row 1 of X.*no entry.*column 'site' holds 4"):
        model.adapt(row, [1.0, 2.0])
    with pytest.raises(TaskError, match="column 'site' holds 4"):
        model.predict(row)
    with pytest.raises(TaskError, match="column 'site' holds -1"):
        model.predict(row.assign(site=-1))
    for use in (model.score, model.adapt_many, clone(model).fit):
        with pytest.raises(TaskError, match=r"task 'p\d', row \d: the module has no entry.*column 'site' holds 4"):
            use(unseen)


@pytest.mark.parametrize("module", MODULES)
def test_the_fraction_of_a_code_is_not_cut_off(module):
    model = fitted(module)
    rows = frame(2)[COLUMNS].astype(float)
    rows.loc[4, "site"] = 1.5
    for call in (model.predict, lambda X: model.adapt(X, np.zeros(len(X)))):
        with pytest.raises(
            TaskError, match=r"row 4 of X: column 'site' holds 1.5, and the module looks up whole codes"
        ):
            call(rows)
    # a fraction in a column that is no code is one
    model.predict(rows.assign(site=1, dose=100.5))


def test_the_setting_is_one_that_scikit_learn_searches_and_clones():
    model = clone(MAMLRegressor(standardize=("dose",), max_iter=1, random_state=0))
    assert model.get_params()["standardize"] == ("dose",)
    search = GridSearchCV(model, {"standardize": [True, False, [], ["dose", 2], np.array([1])]}, cv=2).fit(tasks())
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_all_columns_named_is_the_default_and_none_named_leaves_x_alone():
    data = tasks()

    def predictions(standardize):
        return MAMLRegressor(standardize=standardize, max_iter=3, random_state=0).fit(data).predict(data.X)

    assert_agree(predictions(COLUMNS), predictions(True))
    assert not np.allclose(predictions([]), predictions(False))  # y is standardised, where it is not False


@pytest.mark.parametrize(
    ("standardize", "message"),
    [
        (["age"], r"no column 'age'; the columns are \['dose', 'site', 'weight'\]"),
        ([3], "no column 3;.*from 0 to 2"),
        ([-1], "no column -1"),
        (["dose", 0], "column 0 occurs twice"),
        ([True, False, True], "no column True"),
        ("dose", "must be an instance of 'bool'"),
    ],
)
def test_bad_settings(standardize, message):
    with pytest.raises(ValueError, match=message):
        MAMLRegressor(standardize=standardize, max_iter=1).fit(tasks())


def test_codes_beyond_single_precision():
    large = frame().assign(site=2**24 + 1)

    class Hashed(Embedded):
        def look_up(self, codes):
            return self.sites(codes % N_SITES)

    data = TaskSet.from_frame(large, task="patient", features=COLUMNS, target="y")
    with pytest.raises(TaskError, match="beyond 16777216"):
        fitted(Hashed, data=data)
    fitted(Hashed, data=data, dtype="float64")


def test_codes_of_a_classifier_and_codes_that_begin_at_one():
    class FromOne(Embedded):
        def look_up(self, codes):
            return self.sites(codes - 1)

    table = frame()
    table["site"] = table["site"].clip(lower=1)
    table["y"] = np.tile([0, 1], len(table) // 2)
    data = TaskSet.from_frame(table, task="patient", features=COLUMNS, target="y")
    with pytest.raises(TaskError, match="'site' holds whole numbers only"):
        MAMLClassifier(module=FromOne, max_iter=2).fit(data)
    model = MAMLClassifier(module=FromOne, standardize=["dose", "weight"], max_iter=2, random_state=0).fit(data)
    assert model.predict_proba(data.X.astype(np.float64)).shape == (48, 2)


def test_whole_numbers_that_are_no_codes_stay_standardised(tasks):
    """A module that rounds continuous columns down, and an embedding of positions that no column enters."""

    class Binned(nn.Linear):
        def forward(self, X):
            return super().forward(X + 0.1 * (2 * X).long())

    class Positions(nn.Linear):
        def __init__(self, n_features, n_targets):
            super().__init__(n_features, n_targets)
            self.positions = nn.Embedding(n_features, 1)

        def forward(self, X):
            return super().forward(X + self.positions.weight[:, 0])

    for module in (Binned, Positions):
        MAMLRegressor(module=lambda d, t, module=module: module(d, t), max_iter=2, random_state=0).fit(tasks)
