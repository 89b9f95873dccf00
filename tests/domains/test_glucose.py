"""Windows of readings, forecasts of glucose, and their errors."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import LeaveOneOut, cross_val_score

from metaest import Task, TaskError, TaskSet
from metaest_datasets import fetch_hall2018
from metaest_domains.physiology import (
    GlucoseForecaster,
    clarke_zones,
    glucose_errors,
    glucose_windows,
    plot_clarke,
)


def test_windows_of_a_regular_series():
    time = np.arange(0.0, 300, 5)
    glucose = np.arange(100.0, 160)
    windows = glucose_windows(time, glucose)
    assert windows.history.shape == (60 - 24 + 1 - 12, 24)
    np.testing.assert_array_equal(windows.history[0], glucose[:24])
    np.testing.assert_array_equal(windows.ahead[0], [glucose[23 + 6], glucose[23 + 12]])
    assert windows.end[0] == 115
    open_ended = glucose_windows(time, glucose, complete=False)
    assert open_ended.end[-1] == 295
    assert np.isnan(open_ended.ahead[-1]).all()


def test_nothing_later_enters_a_window():
    rng = np.random.default_rng(0)
    time = np.delete(np.arange(0.0, 700, 5), [30, 31, 32, 60, 61, 90])
    time = time + rng.uniform(-1, 1, len(time))
    glucose = rng.uniform(80, 200, len(time))
    windows = glucose_windows(time, glucose)
    for end, history in zip(windows.end, windows.history, strict=True):
        changed = np.where(time > end, -1e6, glucose)
        other = glucose_windows(time, changed, complete=False)
        np.testing.assert_array_equal(other.history[other.end == end][0], history)


def test_series_is_cut_at_gaps():
    first = np.arange(0.0, 180, 5)
    second = np.arange(215.0, 400, 5)
    together = glucose_windows(np.concatenate([first, second]), np.ones(len(first) + len(second)))
    assert len(together.end) == sum(len(glucose_windows(own, np.ones(len(own))).end) for own in (first, second))
    assert len(glucose_windows(first[:10], np.ones(10)).end) == 0


@pytest.mark.parametrize(
    ("time", "horizons", "message"),
    [
        ([0, 5, 5], (30,), "times must rise"),
        (np.array([0, 5, 10]).reshape(1, 3, 1), (30,), "time must be one column"),
        ([0, 5, 10], (33,), "multiples of 5"),
        ([0, 5], (30,), "they must have the same number"),
    ],
)
def test_bad_series(time, horizons, message):
    with pytest.raises(ValueError, match=message):
        glucose_windows(time, [100.0, 110.0, 120.0], horizons=horizons)


def person(rise, days=3, seed=0):
    time = np.arange(0.0, days * 1440, 5)
    noise = np.random.default_rng(seed).normal(size=len(time))
    return time[:, None], 130 + rise * np.sin(2 * np.pi * time / 200) + noise


@pytest.fixture(scope="module")
def forecaster():
    people = TaskSet([person(rise, seed=i) for i, rise in enumerate((20, 25, 30, 40, 45))])
    return GlucoseForecaster(max_iter=60, n_days=2, random_state=0).fit(people)


def test_weights_are_refused_by_fit_and_score(forecaster):
    X, y = person(20)
    weighted = [Task("a", X, y, sample_weight=np.linspace(1, 2, len(y)))]
    for question in (GlucoseForecaster().fit, forecaster.score):
        with pytest.raises(TaskError, match="'a' carries a sample_weight"):
            question(weighted)


def test_forecast_is_better_than_the_last_reading(forecaster):
    X, y = person(35, seed=9)
    adapted = forecaster.adapt(X[:288], y[:288])
    assert adapted.guard_.decision in ("kept", "shrunk", "refused")
    forecast = adapted.predict(X[288:], y[288:])
    truth = adapted.truth(X[288:], y[288:])
    assert list(forecast.columns) == [30.0, 60.0]
    last = glucose_windows(X[288:, 0], y[288:], complete=False).history[:, -1]
    known = truth[30.0].notna()
    errors = {name: np.sqrt(np.square(own[known] - truth[30.0][known]).mean())
              for name, own in (("forecast", forecast[30.0]), ("last", last), ("anybody", forecaster.predict(X[288:], y[288:])[30.0]))}  # fmt: skip
    assert errors["forecast"] < 0.5 * errors["last"]
    assert errors["forecast"] < 1.02 * errors["anybody"]


def test_forecaster_is_reproducible(forecaster):
    X, y = person(35, seed=9)
    again = GlucoseForecaster(**forecaster.get_params()).fit(
        TaskSet([person(rise, seed=i) for i, rise in enumerate((20, 25, 30, 40, 45))])
    )
    np.testing.assert_array_equal(again.predict(X, y), forecaster.predict(X, y))


def test_bad_readings(forecaster):
    X, y = person(20)
    with pytest.raises(TaskError, match=r"adapt: no window is complete, which takes 36 readings"):
        forecaster.adapt(X[:30], y[:30])
    with pytest.raises(TaskError, match=r"X has (2 columns|shape \(864, 2\))"):
        forecaster.predict(np.hstack([X, X]), y)
    with pytest.raises(TaskError, match="task 1: more than a day"):
        GlucoseForecaster(max_iter=1).fit(TaskSet([(X, y), (X[:200], y[:200])]))


def test_clarke_zones_at_known_places():
    places = {"A": [(100, 119), (60, 40), (300, 245)], "B": [(100, 150), (200, 130), (300, 390)],
              "C": [(100, 220), (150, 25), (200, 315)], "D": [(50, 100), (250, 150), (65, 100)],
              "E": [(60, 200), (200, 50)]}  # fmt: skip
    for zone, pairs in places.items():
        r, p = np.array(pairs, dtype=float).T
        assert clarke_zones(r, p).tolist() == [zone] * len(pairs)
    with pytest.raises(ValueError, match="above 0"):
        clarke_zones([0.0], [100.0])


def test_errors_by_hand():
    found = glucose_errors([100, 100, 200], [110, 90, 200])
    assert found["rmse"] == pytest.approx(np.sqrt(200 / 3))
    assert found["mae"] == pytest.approx(20 / 3)
    assert found["A"] == 1
    assert glucose_errors([100, 200], [100, 170])["time_in_range_error"] == 0.5


def test_grid_is_drawn():
    ax = plot_clarke([100, 250, 50], [110, 150, 200])
    assert "A: 33.3 %" in ax.get_legend().get_texts()[0].get_text()


def test_hall_as_published():
    try:
        people = fetch_hall2018()
    except OSError as error:
        pytest.skip(str(error))
    assert len(people) == 19
    assert len(people.X) == 34_890
    assert (people.sizes.min(), people.sizes.max()) == (1775, 2013)
    windows = [glucose_windows(task.X, task.y) for task in people]
    assert min(len(own.end) for own in windows) > 1000


def in_dates(X, unit="min", zone=None):
    return pd.DataFrame({"time": pd.Timestamp("2024-03-30 21:00", tz=zone) + pd.to_timedelta(X[:, 0], unit=unit)})


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])  # the clocks change in the night
def test_dates_and_durations_are_minutes(forecaster, zone):
    X, y = person(30, seed=4)
    expected = forecaster.adapt(X[:288], y[:288]).predict(X[288:400], y[288:400])
    dates = in_dates(X, zone=zone)
    adapted = forecaster.adapt(dates[:288], y[:288])
    forecast = adapted.predict(dates[288:400], y[288:400])
    np.testing.assert_allclose(forecast, expected, rtol=1e-9)
    assert list(forecast.index) == list(dates["time"].iloc[expected.index.to_numpy(dtype=int) // 5])
    differences = (dates["time"] - dates["time"].iloc[0]).astype("timedelta64[s]")
    np.testing.assert_allclose(adapted.predict(differences[288:400], y[288:400]), expected, rtol=1e-9)
    learned = [GlucoseForecaster(max_iter=2, n_days=1, random_state=0).fit(people)
               for people in ([(X, y), (X, y)], [(dates, y), (dates["time"], y)])]  # fmt: skip
    assert learned[0].score([(X, y)]) == pytest.approx(learned[1].score({"one": (dates, y)}), rel=1e-9)


def test_a_missing_reading_is_a_gap(forecaster):
    X, y = person(30, seed=4)
    missing = y.copy()
    missing[[40, 41, 100]] = np.nan
    there = ~np.isnan(missing)
    one = forecaster.adapt(X[:288], missing[:288])
    other = forecaster.adapt(X[:288][there[:288]], y[:288][there[:288]])
    pd.testing.assert_frame_equal(one.predict(X, missing), other.predict(X[there], y[there]))
    assert np.isnan(one.truth(X, missing).loc[35 * 5.0, 30.0])
    with pytest.raises(TaskError, match="all readings are missing"):
        forecaster.predict(X, np.full(len(y), np.nan))
    with pytest.raises(TaskError, match="glucose is infinite in reading 7"):
        forecaster.predict(X, np.where(np.arange(len(y)) == 7, np.inf, y))


def test_units_mean_what_they_say(forecaster):
    X, y = person(30, seed=4)
    people = [(X, y), person(40, seed=5)]
    settings = {"max_iter": 3, "n_days": 1, "random_state": 0}
    one = GlucoseForecaster(**settings).fit(people)
    other = GlucoseForecaster(**settings, unit="mmol/L").fit([(X, y / 18.0156) for X, y in people])
    np.testing.assert_allclose(18.0156 * other.predict(X, y / 18.0156), one.predict(X, y), rtol=1e-5)
    np.testing.assert_allclose(18.0156 * other.truth(X, y / 18.0156), one.truth(X, y), rtol=1e-12)
    assert other.score([(X, y / 18.0156)]) == pytest.approx(one.score([(X, y)]), abs=1e-4)
    for model, readings, looks_like in ((one, y / 18.0156, "mmol/L"), (other, y, "mg/dL")):
        for call in (model.adapt, model.predict):
            with pytest.raises(TaskError, match=f"look like {looks_like}"):
                call(X, readings)
    with pytest.raises(TaskError, match="task 1: readings: the median is"):
        GlucoseForecaster(**settings).fit([(X, y), (X, y / 18.0156)])
    with pytest.raises(TaskError, match=r"value 5 is 6 mg/dL.*perhaps some values are in mmol/L"):
        one.predict(X, np.where(np.arange(len(y)) == 5, 6.0, y))
    assert one.set_params(check_plausibility=False).predict(X, y / 18.0156).shape[1] == 2
    with pytest.raises(TaskError, match="look like hours"):
        forecaster.predict(X / 60, y)
    with pytest.raises(ValueError, match="unit must be"):
        clarke_zones([100.0], [100.0], unit="mg")


def test_error_grid_in_either_unit():
    reference = np.array([72.0, 126, 270, 54, 360])
    prediction = np.array([270.0, 130, 72, 216, 54])
    zones = clarke_zones(reference, prediction).tolist()
    mmol = reference / 18.0156, prediction / 18.0156
    assert clarke_zones(*mmol, unit="mmol/L").tolist() == zones
    in_mg = glucose_errors(reference, prediction)
    in_mmol = glucose_errors(*mmol, unit="mmol/L")
    np.testing.assert_allclose(in_mmol[["rmse", "mae"]] * 18.0156, in_mg[["rmse", "mae"]])
    pd.testing.assert_series_equal(in_mmol[list("ABCDE")], in_mg[list("ABCDE")])
    for question in (clarke_zones, glucose_errors, plot_clarke):
        with pytest.raises(ValueError, match=r"reference: the median is .* look like mmol/L"):
            question(*mmol)
        with pytest.raises(ValueError, match=r"prediction: the median is .* look like mmol/L"):
            question(reference, mmol[1])
        with pytest.raises(ValueError, match="look like mg/dL"):
            question(reference, prediction, unit="mmol/L")
    with pytest.raises(ValueError, match="prediction is nan in pair 1"):
        glucose_errors([100.0, 110.0], [100.0, np.nan])
    assert clarke_zones([30.0], [20.0], check_plausibility=False).tolist() == ["A"]


def test_cross_validation_is_over_people():
    people = TaskSet([person(rise, days=2, seed=i) for i, rise in enumerate((20, 30, 40))])
    model = GlucoseForecaster(max_iter=20, n_days=1, random_state=0)
    scores = cross_val_score(model, people, cv=LeaveOneOut())
    fitted = model.fit(people[1:])
    X = people[0].X
    y = people[0].y
    adapted = fitted.adapt(X[:288], y[:288])
    forecast = adapted.predict(X[288:], y[288:]).to_numpy()
    truth = adapted.truth(X[288:], y[288:]).to_numpy()
    spread = np.nansum(np.square(truth - fitted.mean_glucose_))
    assert scores[0] == pytest.approx(1 - np.nansum(np.square(truth - forecast)) / spread, rel=1e-6)
    assert scores.mean() > 0.5
    with pytest.raises(TaskError, match="task 0: more than a day"):
        fitted.score([(X[:100], y[:100])])
    with pytest.raises(TaskError, match="few_shot"):
        fitted.predict(people)


def test_settings_of_the_windows_do_not_change_after_the_fit():
    people = TaskSet([person(rise, seed=i) for i, rise in enumerate((20, 30, 40))])
    model = GlucoseForecaster(max_iter=2, random_state=0).fit(people)
    X = people[0].X
    y = people[0].y
    for name, value in (("unit", "mmol/L"), ("horizons", (60, 120)), ("n_readings", 12)):
        changed = clone(model).fit(people).set_params(**{name: value}, check_plausibility=False)
        for call in (
            lambda c=changed: c.adapt(X, y),
            lambda c=changed: c.predict(X, y),
            lambda c=changed: c.score(people),
        ):
            with pytest.raises(ValueError, match=f"{name} is .*, but was .* in the fit; fit again"):
                call()


@pytest.mark.parametrize("word", ["LOW", "HI"])
def test_words_among_readings_are_shown(word):
    words = np.array([120.0, 130.0, word, 140.0], dtype=object)
    with pytest.raises(ValueError, match=f"glucose: value 2 is '{word}'; a number is wanted; use NaN for"):
        glucose_windows(np.arange(0.0, 20, 5), words)
    with pytest.raises(ValueError, match=f"prediction: value 2 is '{word}'"):
        glucose_errors([120.0, 130.0, 60.0, 140.0], words)
