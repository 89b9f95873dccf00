"""The studies of sleep deprivation and glucose."""

import numpy as np
import pytest

from metaest import MAMLRegressor, TaskSet
from metaest_datasets import load_reference
from metaest_domains.physiology.study import leave_one_person_out, leave_one_sleeper_out, sleep_table
from metaest_domains.physiology.study.glucose import METHODS
from metaest_domains.physiology.study.guarding import guarded


def test_guarded_adapts_with_a_guard():
    rng = np.random.default_rng(0)
    tasks = TaskSet([(rng.normal(size=(6, 1)), rng.normal(size=6)) for _ in range(8)])
    model = MAMLRegressor(max_iter=2, random_state=0)
    for guard in (True, False):
        own = guarded(model, tasks, guard)
        assert (own.adapt(tasks[0].X, tasks[0].y).guard_ is not None) == guard
        np.testing.assert_array_equal(own.predict(tasks[0].X), own.model.predict(tasks[0].X))


@pytest.mark.slow
def test_a_line_for_every_sleeper_is_lme4():
    errors = leave_one_sleeper_out(n_jobs=2).errors
    assert errors["support"].tolist() == load_reference("sleepstudy")["support"].tolist()
    for scheme in ("random", "first"):
        table = sleep_table(errors, scheme)
        np.testing.assert_allclose(
            table.loc["a line each (EquationRegressor)"], table.loc["mixed-effects model, lme4 (reference)"], rtol=0.01
        )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::metaest.OvershootWarning")
def test_every_person_is_left_out():
    time = np.arange(0.0, 2.5 * 1440, 5)
    rng = np.random.default_rng(0)
    people = TaskSet(
        [(time[:, None], 130 + 30 * np.sin(2 * np.pi * time / rng.uniform(150, 250)) + rng.normal(size=len(time)))
         for _ in range(8)]
    )  # fmt: skip
    result = leave_one_person_out(max_iter=5, n_jobs=1, people=people)
    assert len(result.errors) == 8 * len(METHODS) * 2
    assert set(result.decisions) <= {"kept", "shrunk", "refused"}
    zones = result.errors[["A", "B", "C", "D", "E"]].sum(axis=1)
    np.testing.assert_allclose(zones, 1)
