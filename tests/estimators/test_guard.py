"""The guard: what it keeps of an adaptation, and that it does no harm."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from metaest import (
    DivergenceError,
    EquationRegressor,
    FewShotRegressor,
    MAMLClassifier,
    MAMLRegressor,
    Parameter,
    Task,
    TaskSet,
    adapt,
)
from metaest.estimators.guard import Answers, FittedGuard, GuardRule, Moments, learn_rule
from metaest_datasets import make_sinusoids

pytestmark = pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning", "ignore::metaest.OvershootWarning")


def rmse(a, b):
    return float(np.sqrt(np.square(np.asarray(a) - np.asarray(b)).mean()))


def patients(n, spread, noise, seed, rows=12):
    """Lines through a common point, their slopes apart by `spread`."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(n):
        x = rng.uniform(-2, 2, (rows, 1))
        pairs.append((x, np.sin(x[:, 0]) + spread * rng.normal() * x[:, 0] + noise * rng.normal(size=rows)))
    return TaskSet(pairs)


def errors(model, tasks, k, **own):
    """Errors of population, adapted and guarded predictions on the rows after the first k."""
    found = []
    for task in tasks:
        X, y, rest = task.X[:k], task.y[:k], slice(k, None)
        plain, guarded = model.adapt(X, y), model.adapt(X, y, guard=True, **own)
        found.append([np.square(p.predict(task.X[rest]) - task.y[rest]).mean() for p in (model, plain, guarded)])
    return np.sqrt(np.mean(found, axis=0))


@pytest.fixture(scope="module")
def waves():
    tasks = make_sinusoids(90, 12, noise=0.1, random_state=0)
    return MAMLRegressor(max_iter=300, random_state=0).fit(tasks[:60]), tasks[60:]


@pytest.fixture(scope="module")
def hasty():
    """A pooled network that takes long steps after noise: adapting it does harm."""
    tasks = patients(60, 0.0, 1.0, 0)
    model = MAMLRegressor(inner_steps=0, max_iter=300, alpha=1.0, random_state=0).fit(tasks[:40])
    return model.set_params(inner_steps=15, inner_lr=0.2), tasks[40:]


@pytest.mark.parametrize("k", [1, pytest.param(3, marks=pytest.mark.slow), 6])
def test_harm_is_prevented(hasty, k):
    model, tasks = hasty
    before, after, guarded = errors(model, tasks, k)
    assert after > 1.04 * before
    assert guarded < 1.01 * before
    assert any(model.adapt(task.X[:k], task.y[:k], guard=True).guard_.decision == "refused" for task in tasks)


@pytest.mark.parametrize("k", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_gain_is_kept(waves, k):
    model, tasks = waves
    before, after, guarded = errors(model, tasks, k)
    assert after < 0.8 * before
    assert before - guarded > 0.8 * (before - after)


def test_share_of_everything_is_plain_adaptation(waves):
    model, tasks = waves
    for task in tasks:
        guarded = model.adapt(task.X[:8], task.y[:8], guard=True)
        if guarded.guard_.decision == "kept":
            np.testing.assert_array_equal(guarded.predict(task.X), model.adapt(task.X[:8], task.y[:8]).predict(task.X))
            return
    pytest.fail("no adaptation was kept")


def test_share_is_that_of_predictions(hasty):
    model, tasks = hasty
    X, y = tasks[3].X[:4], tasks[3].y[:4]
    guarded, plain = model.adapt(X, y, guard=True), model.adapt(X, y)
    before, share = model.predict(X), guarded.guard_.share
    np.testing.assert_allclose(guarded.predict(X), before + share * (plain.predict(X) - before), rtol=1e-12)


def test_guard_says_what_it_saw(hasty):
    model, tasks = hasty
    guard = model.adapt(tasks[0].X[:6], tasks[0].y[:6], guard=True).guard_
    assert guard.n_judged == 6
    assert guard.adapted_rmse > 0
    assert guard.population_rmse > 0
    assert f"{guard.n_judged} rows" in guard.reason
    assert "40 training tasks" in guard.reason
    alone = model.adapt(tasks[0].X[:1], tasks[0].y[:1], guard=True).guard_
    assert alone.n_judged == 0
    assert np.isnan(alone.adapted_rmse)
    assert alone.reason.startswith("1 row cannot tell")
    assert model.adapt(tasks[0].X[:6], tasks[0].y[:6]).guard_ is None


def test_leave_one_out_by_hand(waves):
    model, tasks = waves
    X, y = tasks[1].X[:5], tasks[1].y[:5]
    guard = model.adapt(X, y, guard=True).guard_
    rest = [np.delete(np.arange(5), i) for i in range(5)]
    left_out = [model.adapt(X[own], y[own]).predict(X[[i]])[0] for i, own in enumerate(rest)]
    assert guard.adapted_rmse == pytest.approx(rmse(left_out, y), rel=1e-5)
    assert guard.population_rmse == pytest.approx(rmse(model.predict(X), y), rel=1e-6)


def test_order_of_rows_and_partial_adapt(waves):
    model, tasks = waves
    X, y = tasks[2].X, tasks[2].y
    whole = model.adapt(X, y, guard=True)
    order = np.random.default_rng(0).permutation(len(X))
    assert model.adapt(X[order], y[order], guard=True).guard_.share == pytest.approx(whole.guard_.share, rel=1e-4)
    later = model.adapt(X[:4], y[:4], guard=True).partial_adapt(X[4:], y[4:])
    assert later.guard_ == whole.guard_
    again = pickle.loads(pickle.dumps(whole))
    np.testing.assert_array_equal(again.predict(X), whole.predict(X))
    assert again.partial_adapt(X[:1], y[:1]).guard_ is not None


def test_settings_after_the_fit_are_judged_anew(waves):
    model, tasks = waves
    X, y = tasks[2].X[:5], tasks[2].y[:5]
    first = model.adapt(X, y, guard=True).guard_
    try:
        other = model.set_params(inner_steps=0).adapt(X, y, guard=True).guard_
    finally:
        model.set_params(inner_steps=5)
    assert other.adapted_rmse == pytest.approx(other.population_rmse)
    assert model.adapt(X, y, guard=True).guard_ == first


@pytest.mark.parametrize("gap", [0, 3])
def test_ordered_rows_are_judged_on_later_ones(gap):
    judge = FittedGuard(None, (), np.ones(1), True, gap, 1)
    folds = judge._folds(np.zeros((30, 1)), np.zeros(30))
    assert len(folds) == 5
    for known, judged in folds:
        assert known.max() + gap < judged.min()
        assert known.min() == 0
    assert folds[-1][1].max() == 29


def test_gap_reaches_the_judge():
    tasks = make_sinusoids(40, 15, noise=0.1, random_state=0)
    model = MAMLRegressor(split="first", max_iter=50, random_state=0).fit(tasks[:30])
    near, far = (model.adapt(tasks[30].X, tasks[30].y, guard=True, gap=gap).guard_ for gap in (0, 4))
    assert near.n_judged > far.n_judged > 0
    for gap in (-1, 1.5, True):
        with pytest.raises(ValueError, match="gap must be a whole number"):
            model.adapt(tasks[30].X, tasks[30].y, guard=True, gap=gap)


def test_short_training_tasks_lead_to_half_a_share():
    tasks = make_sinusoids(8, 1, random_state=0)
    model = MAMLRegressor(max_iter=5, random_state=0).fit(tasks)
    guard = model.adapt(tasks[0].X, tasks[0].y, guard=True).guard_
    assert guard.share == 0.5
    assert "no training task" in guard.reason


def test_rule_is_the_best_of_a_normal_model():
    # r = w d + e, w ~ N(0.4, 0.3^2): the posterior mean of w has strength sigma^2 / 0.3^2
    rng = np.random.default_rng(0)
    n, k, sigma = 4000, 6, 0.5
    w = 0.4 + 0.3 * rng.normal(size=(n, 1))
    own, other = (rng.normal(size=(n, m)) for m in (k, 20))
    r_own, r_other = w * own + sigma * rng.normal(size=own.shape), w * other + sigma * rng.normal(size=other.shape)

    def moments(r, d):
        return Moments((r * r).sum(1), (r * d).sum(1), (d * d).sum(1), np.full(n, float(d.shape[1])))

    rule = learn_rule(k, moments(r_own, own), moments(r_other, other), n)
    best = sigma**2 / 0.3**2
    assert rule.share == pytest.approx(0.4, abs=0.05)
    found = rule.apply((r_own * own).sum(1), (own * own).sum(1))
    ideal = ((best * 0.4 + (r_own * own).sum(1)) / (best + (own * own).sum(1))).clip(0, 1)
    assert np.square(found - w[:, 0]).mean() < 1.1 * np.square(ideal - w[:, 0]).mean()


def line(X, slope, height):
    return height + slope * X[:, 0]


@pytest.fixture(scope="module")
def lines():
    tasks = TaskSet([(t.X, 2 + t.y) for t in patients(40, 1.0, 0.5, 1)])
    return EquationRegressor(line, {"slope": Parameter(0.0), "height": Parameter(1.0)}, random_state=1).fit(
        tasks[:30]
    ), tasks[30:]


def test_infinite_errors_tell_nothing_for_the_adaptation():
    infinite = np.array([np.inf])
    with np.errstate(invalid="ignore"):
        for along in (infinite, -infinite, np.array([np.nan])):
            assert GuardRule(2, 0.9, 1.0, 12).apply(along, infinite) == 0


def test_equation_keeps_its_gain(lines):
    model, tasks = lines
    before, after, guarded = errors(model, tasks, 4)
    assert before - guarded > 0.8 * (before - after) > 0


@pytest.mark.parametrize("k", [1, 3, 8])
def test_equation_without_differences(k):
    tasks = TaskSet([(t.X, 2 + 0.0 * t.X[:, 0] + n) for t, n in _noise()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = EquationRegressor(line, {"slope": Parameter(0.0), "height": Parameter(1.0)}, random_state=1).fit(
            tasks[:30]
        )
        before, _, guarded = errors(model, tasks[30:], k)
    assert guarded < 1.01 * before


def _noise():
    rng = np.random.default_rng(5)
    return [(task, rng.normal(size=len(task))) for task in patients(80, 0.0, 0.0, 5)]


def test_shrunk_equation_lies_between(lines):
    model, tasks = lines
    supports = [(task.X[:k], task.y[:k]) for task in tasks for k in (1, 2, 3)]
    X, y = next(own for own in supports if model.adapt(*own, guard=True).guard_.decision == "shrunk")
    plain, start = model.adapt(X, y), model.population_["value"]
    guarded = model.adapt(X, y, guard=True)
    share = guarded.guard_.share
    assert 0 < share < 1
    blend = start + share * (plain.params_["value"] - start)
    np.testing.assert_allclose(guarded.params_["value"], blend, rtol=1e-9)
    width = [np.diff(p.predict_interval(X), axis=0).mean() for p in (plain, guarded)]
    assert width[1] > width[0]
    again = pickle.loads(pickle.dumps(guarded))
    np.testing.assert_array_equal(again.predict_interval(X), guarded.predict_interval(X))
    later = guarded.partial_adapt(tasks[0].X, tasks[0].y)
    joined = np.concatenate([X, tasks[0].X]), np.concatenate([y, tasks[0].y])
    assert later.guard_ == model.adapt(*joined, guard=True).guard_


def test_guard_of_a_bayesian_head():
    tasks = make_sinusoids(50, 12, noise=0.1, random_state=0)
    model = MAMLRegressor(inner_solver="bayes", max_iter=100, random_state=0).fit(tasks[:40])
    guarded = model.adapt(tasks[40].X[:3], tasks[40].y[:3], guard=True)
    mean, sd = guarded.predict(tasks[40].X, return_std=True)
    np.testing.assert_array_equal(mean, guarded.predict(tasks[40].X))
    assert (sd > 0).all()


def test_guard_of_several_targets():
    tasks = TaskSet([(t.X, np.column_stack([t.y, 100 * t.y])) for t in make_sinusoids(30, 10, random_state=0)])
    model = MAMLRegressor(max_iter=50, random_state=0).fit(tasks[:25])
    assert model.adapt(tasks[26].X[:4], tasks[26].y[:4], guard=True).predict(tasks[26].X).shape == (10, 2)


@pytest.fixture(scope="module")
def classes():
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(40):
        X = rng.normal(size=(24, 2))
        pairs.append((X, np.where(X[:, 0] + 1.5 * rng.normal() + 0.3 * rng.normal(size=24) > 0, "ill", "well")))
    return MAMLClassifier(max_iter=80, random_state=0).fit(pairs[:30]), pairs[30:]


def test_classes_keep_their_gain(classes):
    model, tasks = classes
    scores = np.zeros(3)
    for X, y in tasks:
        truth = (y[8:, None] == model.classes_).astype(float)
        predictors = model, model.adapt(X[:8], y[:8]), model.adapt(X[:8], y[:8], guard=True)
        scores += [np.square(p.predict_proba(X[8:]) - truth).mean() for p in predictors]
    assert scores[0] - scores[2] > 0.8 * (scores[0] - scores[1]) > 0
    probabilities = predictors[2].predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def test_classes_by_hand(classes):
    model, tasks = classes
    X, y = tasks[0][0][:6], tasks[0][1][:6]
    guard = model.adapt(X, y, guard=True).guard_
    rest = [np.delete(np.arange(6), i) for i in range(6)]
    left_out = [model.adapt(X[own], y[own]).predict_proba(X[[i]])[0] for i, own in enumerate(rest)]
    assert guard.adapted_rmse == pytest.approx(rmse(left_out, y[:, None] == model.classes_), rel=1e-5)


def test_an_adaptation_that_diverges_tells_nothing():
    def answer(tasks):
        if any(task.y[0] > 9 for task in tasks):
            raise DivergenceError("beyond all bounds")
        rows = np.arange(len(tasks.X))
        return Answers(tasks.y[:, None], 0.5 * tasks.y[:, None], 0 * tasks.y[:, None], rows)

    X, y = np.arange(5.0)[:, None], np.array([1.0, 2.0, 3.0, 4.0, 10.0])
    judge = FittedGuard(answer, (), np.ones(1), True, 0, 1)
    whole = judge._moments([Task(i, X[[i]], y[[i]]) for i in range(5)], np.zeros(5, dtype=np.intp), 1)
    assert whole.rows[0] == 4
    assert whole.residual[0] == 30


def test_no_population_of_own_labels():
    X, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 6
    model = MAMLClassifier(n_way=3, k_shot=2, max_iter=5, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="there is none where each task has labels of its own"):
        model.adapt(X[:12], y[:12], guard=True)


def test_guard_through_pipeline_and_few_shot(waves):
    model, tasks = waves
    pipeline = make_pipeline(StandardScaler(), MAMLRegressor(max_iter=20, random_state=0))
    groups = tasks.names.repeat(tasks.sizes)
    pipeline.fit(tasks.X, tasks.y, mamlregressor__groups=groups)
    X, y = tasks[0].X, tasks[0].y
    assert adapt(pipeline, X, y, guard=True).steps[-1][1].guard_ is not None
    assert FewShotRegressor(model, guard=True).fit(X, y).adapted_.guard_ is not None
    assert FewShotRegressor(model).fit(X, y).adapted_.guard_ is None
    with pytest.raises(ValueError, match="gap must be"):
        FewShotRegressor(model, guard=True, gap=-1).fit(X, y)


def test_guard_with_batch_normalisation():
    tasks = make_sinusoids(8, 10, random_state=0)
    settings = {
        "normalization": "batch",
        "support_size": (2, 5),
        "hidden_layer_sizes": (8,),
        "inner_steps": 2,
        "compile": False,
    }
    model = MAMLRegressor(**settings, max_iter=5, random_state=0).fit(tasks[:6])
    assert model.adapt(tasks[7].X[:2], tasks[7].y[:2], guard=True).guard_.n_judged == 0
    assert model.adapt(tasks[7].X[:3], tasks[7].y[:3], guard=True).guard_.n_judged == 3


def test_guarded_equation_with_covariates():
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(20):
        x, z = rng.uniform(0, 2, 8), rng.normal()
        pairs.append((np.column_stack([x, np.full(8, z)]), 1 + (z + 0.3 * rng.normal()) * x + 0.1 * rng.normal(size=8)))
    model = EquationRegressor(line, {"slope": Parameter(0.0), "height": Parameter(1.0)}, covariates={"slope": [1]})
    model.fit(pairs[:15])
    guarded = model.adapt(pairs[16][0][:3], pairs[16][1][:3], guard=True)
    assert np.isfinite(guarded.predict(pairs[16][0])).all()
    assert guarded.guard_.population_rmse == pytest.approx(rmse(model.predict(pairs[16][0][:3]), pairs[16][1][:3]))
