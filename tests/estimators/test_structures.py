"""noise="auto", covariance="auto", random="auto": structures compared on left-out tasks, and their averages."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone

from equations import averaging
from metaest import AveragedEquation, EquationRegressor, Parameter
from metaest.estimators.equations import structures
from metaest.estimators.equations.structures import _losses, _near_best
from metaest.saving import load, save
from metaest.tasks import TaskSet

pytestmark = pytest.mark.filterwarnings("ignore")


def saturating(X, size, rate):
    return size * (1 - torch.exp(-rate * X[:, 0]))


SIZES = {"size": Parameter(20, lower=0), "rate": Parameter(1, lower=0)}


def tasks_of(n_tasks, seed):
    rng = np.random.default_rng(seed)
    tasks = []
    for size in np.exp(rng.normal(3, 0.5, n_tasks)):
        X = np.sort(rng.uniform(0.1, 6, (7, 1)), axis=0)
        curve = size * (1 - np.exp(-0.6 * X[:, 0]))
        tasks.append((X, curve * (1 + 0.2 * rng.standard_normal(7))))
    return TaskSet(tasks)


NEW = tasks_of(14, 1)
TASK = NEW[0]


def regressor(**settings):
    return EquationRegressor(saturating, SIZES, random_state=0, **settings)


@pytest.fixture(scope="module")
def average():
    """A model that averages two structures, whatever the rule says."""
    with averaging():
        return regressor(noise="auto", random=["size"]).fit(tasks_of(12, 0))


@pytest.fixture(scope="module")
def members():
    return [regressor(noise=noise, random=["size"]).fit(tasks_of(12, 0)) for noise in ("additive", "power")]


def test_structures_within_one_standard_error_of_the_best():
    losses = np.array([[1.0, 2.0, 3.0, 4.0], [1.1, 1.9, 3.2, 3.9], [2.0, 3.0, 4.0, 5.1], [1.0, 2.0, 3.0, 4.0]])
    assert _near_best(losses).tolist() == [0, 1, 3]


def test_losses_are_means_over_the_rows_of_a_task():
    assert _losses(np.array([1.0, 3.0, 2.0]), np.array([4, 4, 7])).tolist() == [5.0, 4.0]


def test_an_average_is_the_mean_of_curves_and_the_mixture_of_the_rest(average, members):
    assert average.structures_["weight"].tolist() == [0.5, 0.5]
    adapted = average.adapt(TASK.X[:3], TASK.y[:3])
    assert isinstance(adapted, AveragedEquation)
    alone = [model.adapt(TASK.X[:3], TASK.y[:3]) for model in members]
    means, sds = zip(*(one.predict(TASK.X, return_std=True) for one in alone), strict=True)
    mean, sd = adapted.predict(TASK.X, return_std=True)
    np.testing.assert_allclose(mean, np.mean(means, axis=0), rtol=1e-9)
    np.testing.assert_allclose(sd**2, np.mean(np.square(sds), axis=0) + np.var(means, axis=0), rtol=1e-9)
    np.testing.assert_array_equal(adapted.predict(TASK.X), mean)
    zero = np.mean([model.predict(TASK.X) for model in members], axis=0)
    np.testing.assert_allclose(average.predict(TASK.X), zero, rtol=1e-9)
    assert average.adapt([], []).predict(TASK.X) == pytest.approx(zero, rel=1e-9)


@pytest.mark.parametrize("rows", [0, 3])
def test_intervals_hold_what_is_simulated(average, rows):
    adapted = average.adapt(TASK.X[:rows], TASK.y[:rows]) if rows else average
    low, high = adapted.predict_interval(TASK.X, level=0.8)
    drawn = adapted.simulate(TASK.X, 4000, random_state=0)
    assert (drawn < low).mean(axis=0) == pytest.approx(0.1, abs=0.02)
    assert ((drawn > high).mean(axis=0)).max() < 0.12
    inner = adapted.predict_interval(TASK.X, level=0.8, of="curve")
    assert (inner[0] >= low).all()
    assert (inner[1] <= high).all()
    assert np.isfinite(adapted.predict_mean(TASK.X)).all()


def test_constants_are_those_of_the_best_structure(average):
    adapted = average.adapt(TASK.X[:3], TASK.y[:3])
    best = adapted.members_[0]
    assert adapted.params_.equals(best.params_)
    assert adapted.derive(lambda size, rate: size).value == best.derive(lambda size, rate: size).value
    assert adapted.status_ == "converged"
    assert adapted.suggest(TASK.X, 2).tolist() == best.suggest(TASK.X, 2).tolist()
    assert average.population_.index.tolist() == ["size", "rate"]
    assert "curves of 2 are averaged, and all above is of the best" in average.summary()
    with pytest.raises(ValueError, match="averages structures"):
        average.with_equation(saturating)
    with pytest.raises(AttributeError, match="nothing"):
        _ = adapted.nothing


@pytest.mark.parametrize("guard", [False, True])
def test_many_tasks_and_more_rows(average, guard):
    many = average.adapt_many(NEW, guard=guard)
    alone = [average.adapt(task.X, task.y, guard=guard) for task in NEW]
    expected = np.concatenate([one.predict(task.X) for one, task in zip(alone, NEW, strict=True)])
    np.testing.assert_allclose(many.predict(NEW), expected, rtol=1e-6)
    np.testing.assert_allclose(many[1].predict(TASK.X), alone[1].predict(TASK.X), rtol=1e-6)
    assert (many.guards_ is None) != guard
    if guard:
        assert alone[0].guard_ == many.guards_[0] == many[0].guard_
    partial = average.adapt(TASK.X[:2], TASK.y[:2], guard=guard).partial_adapt(TASK.X[2:5], TASK.y[2:5])
    once = average.adapt(TASK.X[:5], TASK.y[:5], guard=guard)
    np.testing.assert_allclose(partial.predict(TASK.X), once.predict(TASK.X), rtol=1e-9)


def test_score_and_conformal_intervals(average):
    assert average.score(NEW) == average.score(NEW) > 0.5
    other = pickle.loads(pickle.dumps(average)).calibrate(NEW[1:], support_size=3)
    for predictor in (other, other.adapt(TASK.X[:3], TASK.y[:3])):
        if predictor is not other:
            low, high = predictor.predict_interval(TASK.X, method="conformal")
            assert (low < high).all()


def test_files_and_copies(average, tmp_path):
    adapted = average.adapt(TASK.X[:3], TASK.y[:3])
    many = average.adapt_many(NEW)
    save(average, tmp_path / "model")
    again = load(tmp_path / "model", equation=saturating)
    np.testing.assert_array_equal(again.predict(TASK.X), average.predict(TASK.X))
    assert again.structures_.equals(average.structures_)
    for thing in (adapted, many):
        save(thing, tmp_path / "adapted")
        np.testing.assert_array_equal(load(tmp_path / "adapted", model=average).predict(TASK.X), thing.predict(TASK.X))
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(thing)).predict(TASK.X), thing.predict(TASK.X))
    assert clone(average).noise == "auto"


def test_another_fit_leaves_nothing_of_an_average(average):
    model = pickle.loads(pickle.dumps(average))
    model.set_params(noise="additive").fit(tasks_of(12, 0))
    assert model.structures_ is None
    assert not isinstance(model.adapt(TASK.X[:3], TASK.y[:3]), AveragedEquation)


def test_structures_are_the_same_again_and_bounded(monkeypatch):
    monkeypatch.setattr(structures, "FOLDS", 2)
    monkeypatch.setattr(structures, "EPISODES", 12)
    monkeypatch.setattr(structures, "NOISES", ("additive", "proportional"))
    tables = [
        regressor(noise="auto", covariance="auto", random="auto").fit(tasks_of(6, 0)).structures_ for _ in range(2)
    ]
    assert tables[0].equals(tables[1])
    assert len(tables[0]) == 5  # two kinds of noise by two of covariance, and one with a constant less
    assert tables[0]["weight"].sum() == pytest.approx(1)
    assert (tables[0]["status"] == "compared").all()


def test_where_fits_would_take_long_information_decides(monkeypatch):
    monkeypatch.setattr(structures, "MOST_WORK", 0)
    model = regressor(noise="auto", random=["size"]).fit(tasks_of(40, 0))
    best = model.structures_.sort_values("loss")["noise"].iloc[0]
    assert best in ("proportional", "power", "combined")
    assert (model.structures_.set_index("noise")["weight"]["additive"]) == 0


def test_few_tasks_keep_the_default():
    model = regressor(noise="auto", random=["size"]).fit(tasks_of(4, 0))
    assert model.structures_["status"].item().startswith("not compared: 4 tasks")
    assert model.structures_["noise"].item() == "additive"


def test_fits_that_did_not_converge_take_no_part(monkeypatch):
    fit = structures.fit_population

    def doubtful(settings, *rest, **given):
        result = fit(settings, *rest, **given)
        return result._replace(doubt="it did not") if settings.noise == "power" else result

    monkeypatch.setattr(structures, "fit_population", doubtful)
    monkeypatch.setattr(structures, "FOLDS", 2)
    monkeypatch.setattr(structures, "NOISES", ("additive", "power"))
    monkeypatch.setattr(structures, "_near_best", lambda losses: np.arange(len(losses)))
    monkeypatch.setattr(structures, "_is_better", lambda saved: True)
    table = regressor(noise="auto", random=["size"]).fit(tasks_of(12, 0)).structures_.set_index("noise")
    assert table["weight"].to_dict() == {"additive": 1.0, "power": 0.0}
    assert table["status"]["power"] == "not converged: it did not"
    assert not table["converged"]["power"]


@pytest.mark.parametrize("interrupted", [1, 3])
def test_an_interrupted_fit_goes_on_to_the_same_numbers(interrupted, monkeypatch, tmp_path):
    monkeypatch.setattr(structures, "FOLDS", 2)
    monkeypatch.setattr(structures, "EPISODES", 12)
    monkeypatch.setattr(structures, "NOISES", ("additive", "proportional"))
    tasks, fit, calls = tasks_of(6, 0), structures.fit_population, []

    def counted(*given, **settings):
        calls.append(len(calls))
        if len(calls) == interrupted:
            raise KeyboardInterrupt
        return fit(*given, **settings)

    whole = regressor(noise="auto", random=["size"]).fit(tasks)
    model = regressor(noise="auto", random=["size"], checkpoint=tmp_path / "kept")
    monkeypatch.setattr(structures, "fit_population", counted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(tasks)
    assert "structures_" not in vars(model)
    model.fit(tasks)
    assert model.structures_.equals(whole.structures_)
    np.testing.assert_array_equal(model.predict(TASK.X), whole.predict(TASK.X))


@pytest.mark.parametrize("setting", ["noise", "covariance", "random"])
def test_wrong_words_are_refused(setting):
    with pytest.raises(ValueError, match=setting):
        regressor(**{setting: "automatic"}).fit(tasks_of(6, 0))
