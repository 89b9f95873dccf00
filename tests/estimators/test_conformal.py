"""Conformal intervals: their level, their limits, and what they refuse."""

import pickle
import warnings

import numpy as np
import pytest

from metaest import (
    ConformalInterval,
    CoverageWarning,
    EquationRegressor,
    MAMLRegressor,
    Parameter,
    Task,
    TaskError,
    TaskSet,
)
from metaest.estimators.conformal import Scores
from metaest_datasets import make_sinusoids

pytestmark = pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning", "ignore::metaest.OvershootWarning")


def line(X, slope, height):
    return height + slope * X[:, 0]


def patients(n, seed, rows=12, noise=0.3):
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(n):
        x = rng.uniform(0, 2, (rows, 1))
        pairs.append((x, 2 + (1 + rng.normal()) * x[:, 0] + noise * rng.normal(size=rows)))
    return TaskSet(pairs)


@pytest.fixture(scope="module")
def lines():
    return EquationRegressor(line, {"slope": Parameter(0.0), "height": Parameter(1.0)}).fit(patients(30, 0))


@pytest.fixture(scope="module")
def waves():
    return MAMLRegressor(max_iter=100, random_state=0).fit(make_sinusoids(60, 12, noise=0.1, random_state=0))


@pytest.mark.parametrize("simultaneous", [False, True])
@pytest.mark.parametrize(("n_tasks", "level"), [(9, 0.9), (19, 0.9), (40, 0.75)])
def test_level_of_exchangeable_scores(n_tasks, level, simultaneous):
    """Tasks that differ much, of very different lengths: the level holds on average over calibrations."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(3000):
        sizes = rng.integers(1, 9, n_tasks + 1)
        values = [np.exp(rng.normal()) * rng.exponential(size=n) for n in sizes]
        scores = Scores(np.concatenate(values[:-1])[:, None], np.repeat(np.arange(n_tasks), sizes[:-1]), n_tasks)
        q = scores.quantile(level, simultaneous)[0]
        covered.append(values[-1].max() <= q if simultaneous else (values[-1] <= q).mean())
    error = 3 * np.std(covered) / len(covered) ** 0.5
    assert level - error < np.mean(covered) < level + 1 / (n_tasks + 1) + error


def test_quantile_by_hand():
    scores = Scores(np.array([[1.0], [2.0], [3.0], [10.0]]), np.array([0, 0, 1, 2]), 3)
    # one task of four has no scores: a quarter of the weight lies at infinity
    assert scores.quantile(0.125, False)[0] == 1
    assert scores.quantile(0.5, False)[0] == 3
    assert scores.quantile(0.75, False)[0] == 10
    assert scores.quantile(0.76, False)[0] == np.inf
    assert scores.quantile(0.25, True)[0] == 2
    assert scores.quantile(0.75, True)[0] == 10
    assert scores.quantile(0.76, True)[0] == np.inf


def test_rank_is_not_lost_to_rounding():
    scores = Scores(np.arange(9.0)[:, None], np.arange(9), 9)
    assert scores.quantile(0.9, True)[0] == scores.quantile(0.9, False)[0] == 8


@pytest.mark.parametrize("k", [0, 2, 5])
def test_new_patients_are_covered(lines, k):
    model = lines.calibrate(patients(60, 1), support_size=k)
    inside, whole = [], []
    for task in patients(150, 2):
        predictor = model.adapt(task.X[:k], task.y[:k]) if k else model
        for simultaneous, found in ((False, inside), (True, whole)):
            low, high = predictor.predict_interval(task.X[k:], level=0.8, method="conformal", simultaneous=simultaneous)
            within = (low <= task.y[k:]) & (task.y[k:] <= high)
            found.append(within.all() if simultaneous else within.mean())
    assert 0.72 < np.mean(inside) < 0.9
    assert 0.68 < np.mean(whole) < 0.92


def test_networks_have_one_width(waves):
    tasks = make_sinusoids(40, 12, noise=0.1, random_state=1)
    model = waves.calibrate(tasks[:39], support_size=(3, 4))
    predictor = model.adapt(tasks[39].X[:3], tasks[39].y[:3])
    low, high = predictor.predict_interval(tasks[39].X)
    np.testing.assert_allclose(high - low, (high - low)[0], rtol=1e-5)
    np.testing.assert_allclose((low + high) / 2, predictor.predict(tasks[39].X), atol=1e-5)
    at_zero = np.diff(model.predict_interval(tasks[39].X), axis=0).mean()
    assert at_zero > (high - low).mean()
    assert predictor.partial_adapt(tasks[39].X[3:4], tasks[39].y[3:4]).predict_interval(tasks[39].X)[0].shape == (12,)
    again = pickle.loads(pickle.dumps(predictor))
    np.testing.assert_array_equal(again.predict_interval(tasks[39].X), (low, high))


def test_interval_says_what_it_is(lines):
    model = lines.calibrate(patients(9, 1), support_size=2)
    new = patients(1, 3)[0]
    interval = model.adapt(new.X[:2], new.y[:2]).predict_interval(new.X, method="conformal")
    assert isinstance(interval, ConformalInterval)
    assert (interval.level, interval.simultaneous, interval.n_tasks, interval.greatest_level) == (0.9, False, 9, 0.9)
    np.testing.assert_array_equal(interval.lower, interval[0])
    again = pickle.loads(pickle.dumps(interval))
    assert repr(again) == repr(interval)
    assert again.n_tasks == 9


def test_levels_that_cannot_be_promised(lines):
    model = lines.calibrate(patients(8, 1), support_size=2)
    new = patients(1, 3)[0]
    predictor = model.adapt(new.X[:2], new.y[:2])
    with pytest.warns(CoverageWarning, match=r"8 calibration tasks cannot promise level 0.9.*0.8888"):
        low, high = predictor.predict_interval(new.X, method="conformal")
    assert np.isneginf(low).all()
    assert np.isposinf(high).all()
    assert np.isfinite(predictor.predict_interval(new.X, level=0.88, method="conformal")).all()


def test_scheme_must_be_the_same(lines):
    model = lines.calibrate(patients(20, 1), support_size=(2, 3))
    new = patients(1, 3)[0]
    with pytest.raises(ValueError, match=r"adapted on 5 rows, the calibration tasks on 0, 2, 3; .*support_size=5"):
        model.adapt(new.X[:5], new.y[:5]).predict_interval(new.X, method="conformal")
    with pytest.raises(ValueError, match="adapted with guard, the calibration tasks without"):
        model.adapt(new.X[:2], new.y[:2], guard=True).predict_interval(new.X, method="conformal")
    guarded = model.calibrate(patients(20, 1), support_size=2, guard=True).adapt(new.X[:2], new.y[:2], guard=True)
    assert np.isfinite(guarded.predict_interval(new.X, method="conformal")).all()


def test_own_supports(lines):
    tasks = TaskSet([Task(i, t.X, t.y, support=[0, 3]) for i, t in enumerate(patients(20, 1))])
    model = lines.calibrate(tasks)
    new = patients(1, 3)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error", CoverageWarning)
        model.adapt(new.X[:2], new.y[:2]).predict_interval(new.X, method="conformal")
    with pytest.warns(CoverageWarning, match="adapted on 4 rows, the calibration tasks on 2"):
        model.adapt(new.X[:4], new.y[:4]).predict_interval(new.X, method="conformal")
    with pytest.raises(TaskError, match="some tasks carry their own support and some do not"):
        model.calibrate([tasks[0], Task("x", new.X, new.y)])


def test_a_support_may_be_empty(lines):
    tasks = [Task(i, t.X, t.y, support=[0, 3] if i % 2 else []) for i, t in enumerate(patients(20, 1))]
    half = [Task(i, t.X, t.y, support=[0, 3]) for i, t in enumerate(patients(20, 1)) if i % 2]
    mixed, adapted = (np.sort(lines.calibrate(group)._conformal.by_support.values[:, 0]) for group in (tasks, half))
    assert np.isin(adapted, mixed).all()
    X, y = tasks[0].X, tasks[0].y
    mean, scale = lines._center_and_scale(X)
    assert np.isin(np.abs(y - mean) / scale, mixed).all()


def test_what_calibrate_refuses(lines, waves):
    with pytest.raises(TaskError, match="task 3 was in the fit"):
        lines.calibrate([patients(5, 1)[0], patients(30, 0)[3]])
    with pytest.raises(TaskError, match="no task has more than 12 rows"):
        lines.calibrate(patients(5, 1), support_size=12)
    with pytest.raises(TaskError, match="features"):
        lines.calibrate([(np.zeros((4, 2)), np.zeros(4))])
    with pytest.raises(ValueError, match="gap must be"):
        lines.calibrate(patients(5, 1), gap=-1)
    fresh = MAMLRegressor(max_iter=2, random_state=0).fit(patients(5, 0))
    for predictor in (fresh, fresh.adapt([[0.0]], [1.0])):
        with pytest.raises(ValueError, match=r"call model.calibrate\(tasks\), then adapt"):
            predictor.predict_interval([[1.0]])
    with pytest.raises(ValueError, match="method must be 'conformal'"):
        fresh.predict_interval([[1.0]], method="posterior")
    with pytest.raises(ValueError, match="level must"):
        waves.calibrate(patients(5, 1)).predict_interval([[1.0]], level=1.5)
    with pytest.raises(ValueError, match="the curve itself is not observed"):
        lines.predict_interval([[1.0]], method="conformal", of="curve")
    with pytest.raises(ValueError, match="simultaneous=True needs method='conformal'"):
        lines.predict_interval([[1.0]], simultaneous=True)


def test_a_fit_forgets_the_calibration():
    model = MAMLRegressor(max_iter=2, random_state=0).fit(patients(5, 0)).calibrate(patients(5, 1))
    model.fit(patients(5, 2))
    with pytest.raises(ValueError, match="call model.calibrate"):
        model.predict_interval([[1.0]])


def test_several_targets_have_widths_of_their_own():
    def tasks(n, seed):
        return TaskSet([(t.X, np.column_stack([t.y, 100 * t.y])) for t in make_sinusoids(n, 8, random_state=seed)])

    model = MAMLRegressor(max_iter=20, random_state=0).fit(tasks(20, 0)).calibrate(tasks(20, 1), support_size=2)
    new = tasks(1, 2)[0]
    low, high = model.adapt(new.X[:2], new.y[:2]).predict_interval(new.X)
    assert low.shape == (8, 2)
    assert (high - low)[0, 1] > 20 * (high - low)[0, 0]
