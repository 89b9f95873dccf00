"""Policies: support before query, the laws of every inner solver, compiled and eager alike, bad input."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import LeaveOneOut, cross_val_score

from agreement import assert_agree
from metaest import MAMLPolicy, Task, TaskError, TaskSet
from metaest.estimators.networks.policies import PolicySampler

SETTINGS = {"support_size": 20, "query_size": 30, "max_iter": 30, "dtype": "float64", "random_state": 0}


def markets(n_tasks=12, n_rows=90, *, scaled=False, ragged=False, seed=0):
    """What pays in one task loses in another."""
    rng = np.random.default_rng(seed)
    tasks = []
    for i in range(n_tasks):
        n = n_rows - 5 * (i % 4) * ragged
        X = rng.standard_normal((n, 2))
        y = 0.5 * rng.choice([-1.0, 1.0]) * X[:, 0] + rng.standard_normal(n)
        tasks.append(Task(f"asset {i}", X, np.column_stack([y, np.exp(0.3 * X[:, 1])]) if scaled else y))
    return TaskSet(tasks)


@pytest.fixture(scope="module")
def model():
    return MAMLPolicy(**{**SETTINGS, "max_iter": 150}).fit(markets(40))


def test_it_learns_to_tell_tasks_apart(model):
    others = markets(40, seed=1)
    assert model.score(others) > 0.2
    assert clone(model).set_params(inner_steps=0).fit(markets(40)).score(others) < 0.1
    assert abs(model.set_params(inner_steps=0).score(others)) < 0.1
    model.set_params(inner_steps=3)


def test_where_nothing_can_be_earned_nothing_is_learned():
    still = TaskSet([Task(task.name, task.X, 0 * task.y) for task in markets(4)])
    with pytest.raises(TaskError, match="all outcomes are 0 in all tasks"):
        MAMLPolicy(**SETTINGS).fit(still)


def test_no_step_is_the_policy_before_it_has_seen_anything(model):
    own = markets(1, seed=2)[0]
    still = model.set_params(inner_steps=0).adapt(own.X, own.y)
    np.testing.assert_array_equal(still.predict(own.X), model.predict(own.X))
    model.set_params(inner_steps=3)


@pytest.mark.parametrize("setting", [{}, {"utility": "sharpe"}, {"utility": "sortino"}, {"cost": 0.05, "limit": 2.0},
                                     {"risk_aversion": 0.5}, {"adapt_layers": "head"}, {"context_dim": 2},
                                     {"learn_inner_lr": False}, {"meta_gradient": "first-order"}, {"gap": 3},
                                     {"scaled": True}, {"scaled": True, "cost": 0.05, "limit": 2.0}])  # fmt: skip
def test_compiled_is_eager(setting):
    pytest.importorskip("llvmlite")
    if "context_dim" in setting:
        setting = {**setting, "learn_inner_lr": "one"}
    tasks = markets(scaled=setting.get("scaled", False), ragged=True)
    setting = {name: value for name, value in setting.items() if name != "scaled"}
    eager, compiled = (
        MAMLPolicy(**{**SETTINGS, "max_iter": 8, "inner_steps": 2, **setting}, compile=compiling).fit(tasks)
        for compiling in (False, True)
    )
    assert compiled.compiled_, compiled.compiled_reason_
    np.testing.assert_allclose(compiled.history_["meta_loss"], eager.history_["meta_loss"], rtol=1e-8)
    assert compiled.score(tasks) == pytest.approx(eager.score(tasks), rel=1e-7)


def source(tasks, support_size, gap, query_size, seed=0):
    fitted = MAMLPolicy(**{**SETTINGS, "max_iter": 1}).fit(markets())
    rng = np.random.default_rng(seed)
    return PolicySampler(fitted._network, tasks, fitted._adaptation(), rng, support_size, gap, query_size)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("support_size", "gap", "query_size"), [(20, 0, 30), (5, 4, None), (40, 2, 10), (70, 4, 5)])
def test_a_support_is_earlier_than_its_query(training, support_size, gap, query_size):
    tasks = markets(ragged=True)
    drawn = source(tasks, support_size, gap, query_size)
    starts = set()
    for _ in range(20):
        chosen = np.arange(len(tasks))
        split = drawn.split(chosen, training=training)
        for i in chosen:
            support, query = split.support[i][split.support_mask[i]], split.query[i][split.query_mask[i]]
            assert len(support) == support_size
            np.testing.assert_array_equal(np.diff(support), 1)
            np.testing.assert_array_equal(np.diff(query), 1)
            assert query[0] == support[-1] + 1 + gap
            assert tasks.offsets[i] <= support[0]
            assert query[-1] < tasks.offsets[i + 1]
            if not training:
                assert support[0] == tasks.offsets[i]
                if query_size is None:
                    assert query[-1] == tasks.offsets[i + 1] - 1
            starts.add(support[0] - tasks.offsets[i])
    assert (len(starts) > 5) == (training and query_size is not None)


def test_a_meta_gradient_is_that_of_differences():
    tasks, model = (
        markets(4),
        MAMLPolicy(**{**SETTINGS, "max_iter": 1, "hidden_layer_sizes": (3,), "cost": 0.1}).fit(markets(4)),
    )
    adaptation, network = model._adaptation(), model._network
    from metaest.functional import QueryLoss, mapped

    sampler = model.kind.sampler(network, tasks, adaptation, np.random.default_rng(0), training=True)
    episodes = sampler.episodes(np.arange(4))
    params = {name: value.clone().requires_grad_() for name, value in model._params.items()}
    names = list(params)

    def loss(*values):
        params = dict(zip(names, values, strict=True))
        return adaptation.losses(mapped(network.forward), network.loss, params, episodes, (QueryLoss(), None)).mean()

    assert torch.autograd.gradcheck(loss, tuple(params.values()), eps=1e-6, atol=1e-6)


def test_adapting_to_many_is_adapting_to_each(model):
    tasks = [(task.X[: 10 + i], task.y[: 10 + i]) for i, task in enumerate(markets(5, seed=3))]
    for (X, y), own in zip(tasks, model.adapt_many(tasks), strict=True):
        one = model.adapt(X, y)
        np.testing.assert_allclose(own.predict(X), one.predict(X), rtol=1e-9)
        assert np.abs(own.predict(X)).max() <= 1


def test_an_action_depends_on_its_own_row_alone(model):
    own = markets(1, seed=4)[0]
    policy = model.adapt(own.X[:20], own.y[:20])
    # a matrix kernel may add up in another order for another number of rows
    assert_agree(policy.predict(own.X[:7]), policy.predict(own.X)[:7], "float64")


def test_going_on_is_adapting_to_all(model):
    own = markets(1, seed=5)[0]
    once = model.adapt(own.X[:30], own.y[:30])
    twice = model.adapt(own.X[:20], own.y[:20]).partial_adapt(own.X[20:30], own.y[20:30])
    np.testing.assert_array_equal(once.predict(own.X), twice.predict(own.X))
    again = pickle.loads(pickle.dumps(once))
    np.testing.assert_array_equal(again.predict(own.X), once.predict(own.X))
    assert again.score(own.X[30:], own.y[30:]) == once.score(own.X[30:], own.y[30:])


def test_scores_are_mean_utilities(model):
    tasks = markets(6, seed=6)
    by_hand = [model.adapt(t.X[:20], t.y[:20]).score(t.X[20:], t.y[20:]) for t in tasks]
    assert model.score(tasks) == pytest.approx(np.mean(by_hand), rel=1e-9)


def test_scikit_learn_slices_tasks():
    scores = cross_val_score(MAMLPolicy(**{**SETTINGS, "max_iter": 3}), markets(4), cv=LeaveOneOut())
    assert scores.shape == (4,)
    assert np.isfinite(scores).all()


def test_the_same_seed_gives_the_same_bits():
    one, other = (MAMLPolicy(**SETTINGS).fit(markets()) for _ in range(2))
    np.testing.assert_array_equal(one.predict(markets().X), other.predict(markets().X))


def test_named_columns_are_checked(model):
    frame = pd.DataFrame(markets(1)[0].X, columns=["a", "b"])
    tasks = TaskSet.from_arrays(
        markets().X, markets().y, np.repeat(markets().names, markets().sizes), feature_names=["a", "b"]
    )
    named = MAMLPolicy(**{**SETTINGS, "max_iter": 2}).fit(tasks)
    with pytest.raises(TaskError, match="adapt"):
        named.adapt(frame[["b", "a"]], markets(1)[0].y)
    assert named.adapt(frame, markets(1)[0].y).feature_names_in_.tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.fit(markets(n_rows=20)), "task 'asset 0': it has 20 rows; a look of support_size=20, gap=0"),
        (lambda m: m.fit([(np.ones((50, 1)), np.ones((50, 3)))]), "y has 3 columns"),
        (lambda m: m.adapt(np.ones((5, 2)), None), "y is missing"),
        (lambda m: m.adapt(np.ones((5, 3)), np.ones(5)), "3 features"),
        (lambda m: m.adapt(np.ones((5, 2)), np.ones((5, 2))), "fitted on 1"),
        (lambda m: m.adapt([[1.0, np.nan]], [1.0]), "NaN"),
        (lambda m: m.score(markets(), sample_weight=[1.0]), "cannot be weighted"),
        (lambda m: m.predict([[1.0]]), "1 features"),
    ],
)
def test_bad_input_is_said(model, call, message):
    with pytest.raises(ValueError, match=message):
        call(model)


@pytest.mark.parametrize(
    "setting", [{"limit": 0}, {"cost": -1}, {"utility": "profit"}, {"support_size": 0}, {"gap": -1}]
)
def test_bad_settings_are_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        MAMLPolicy(**setting).fit(markets())
