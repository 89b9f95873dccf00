"""The life of an estimator: whatever is done to it in whatever order, its promises hold.

Adaptation leaves the population as it is, a refused call changes nothing, a copy and a pickle predict the same bits.
"""

import copy
import pickle
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sklearn.base import clone

from attacks.models import CURVE_PROBE, PROBE, decay_tasks, linear_tasks, new_equation, new_regressor

BAD = [np.nan, np.inf, "abc", None]


class Life(RuleBasedStateMachine):
    """Fit, fail, adapt, calibrate, judge, set, clone and pickle one estimator; a subclass says which."""

    probe: np.ndarray

    def new(self):
        raise NotImplementedError

    def tasks(self, seed, n=6):
        raise NotImplementedError

    @initialize(seed=st.integers(0, 3))
    def start(self, seed):
        self.quiet = warnings.catch_warnings()
        self.quiet.__enter__()
        warnings.simplefilter("ignore")
        self.model, self.adapted, self.seed = self.new().fit(self.tasks(seed)), [], seed
        self.remember()

    def teardown(self):
        if hasattr(self, "quiet"):
            self.quiet.__exit__(None, None, None)

    def remember(self):
        self.population = self.model.predict(self.probe)

    @rule(seed=st.integers(0, 3))
    def fit(self, seed):
        self.model.fit(self.tasks(seed))
        self.seed = seed
        self.remember()

    @rule(bad=st.sampled_from(BAD), where=st.sampled_from(["X", "y", "tasks"]))
    def refused_fit(self, bad, where):
        pairs = [(np.array(t.X, dtype=object), np.array(t.y, dtype=object)) for t in self.tasks(5)]
        if where == "tasks":
            pairs.append(bad)
        else:
            pairs[2]["Xy".index(where)].reshape(-1)[0] = bad
        with pytest.raises((ValueError, TypeError)):
            self.model.fit(pairs)

    @rule(seed=st.integers(10, 13), rows=st.integers(0, 4), guard=st.booleans())
    def adapt(self, seed, rows, guard):
        task = self.tasks(seed, 1)[0]
        adapted = self.model.adapt(task.X[:rows], task.y[:rows], guard=guard and rows > 0)
        self.adapted = [*self.adapted[-3:], (adapted, adapted.predict(self.probe))]

    @rule(bad=st.sampled_from(BAD), where=st.sampled_from(["X", "y"]))
    def refused_adapt(self, bad, where):
        task = self.tasks(5, 1)[0]
        rows = [np.array(task.X, dtype=object), np.array(task.y, dtype=object)]
        rows["Xy".index(where)].reshape(-1)[0] = bad
        for one in (self.model.adapt, *(a.partial_adapt for a, _ in self.adapted)):
            with pytest.raises((ValueError, TypeError)):
                one(*rows)

    @precondition(lambda self: self.adapted)
    @rule(rows=st.integers(1, 3))
    def partial_adapt(self, rows):
        task, (adapted, _) = self.tasks(14, 1)[0], self.adapted[-1]
        more = adapted.partial_adapt(task.X[:rows], task.y[:rows])
        assert len(more.X_support_) == len(adapted.X_support_) + rows
        self.adapted = [*self.adapted[-3:], (more, more.predict(self.probe))]

    @rule(n=st.integers(4, 6))
    def calibrate(self, n):
        self.model.calibrate(self.tasks(20, n), support_size=2)
        task = self.tasks(21, 1)[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lower, upper = self.model.adapt(task.X[:2], task.y[:2]).predict_interval(self.probe, method="conformal")
        assert (lower <= upper).all()

    @rule()
    def refused_calibrate(self):
        with pytest.raises(ValueError, match="was in the fit"):
            self.model.calibrate(self.tasks(self.seed), support_size=2)

    @rule(
        name=st.sampled_from(["max_iter", "random_state", "split", "no_such_setting"]), bad=st.sampled_from([-1, "abc"])
    )
    def refused_setting(self, name, bad):
        if name == "no_such_setting":
            with pytest.raises(ValueError, match=name):
                self.model.set_params(**{name: bad})
            return
        before = self.model.get_params()[name]
        self.model.set_params(**{name: bad})
        with pytest.raises(ValueError, match=name):
            self.model.fit(self.tasks(5))
        self.model.set_params(**{name: before})

    @rule()
    def pickle(self):
        self.model, self.adapted = pickle.loads(pickle.dumps((self.model, self.adapted)))

    @rule()
    def copy(self):
        self.model = copy.deepcopy(self.model)

    @rule()
    def clone(self):
        fresh = clone(self.model)
        assert not [name for name in vars(fresh) if name.endswith("_") and not name.startswith("_")]
        np.testing.assert_array_equal(fresh.fit(self.tasks(self.seed)).predict(self.probe), self.population)

    @invariant()
    def population_is_what_the_fit_left(self):
        if hasattr(self, "model"):
            np.testing.assert_array_equal(self.model.predict(self.probe), self.population)

    @invariant()
    def predictors_never_change(self):
        for adapted, predicted in getattr(self, "adapted", []):
            np.testing.assert_array_equal(adapted.predict(self.probe), predicted)


class RegressorLife(Life):
    probe = PROBE

    def new(self):
        return new_regressor(max_iter=3)

    def tasks(self, seed, n=6):
        return linear_tasks(n, seed=seed)


class EquationLife(Life):
    probe = CURVE_PROBE

    def new(self):
        return new_equation(max_iter=2)

    def tasks(self, seed, n=6):
        return decay_tasks(n, seed=seed)


def live(machine, lives, steps):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=lives,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("machine", [RegressorLife, EquationLife])
def test_a_short_life(machine):
    live(machine, 2, 8)


@pytest.mark.slow
@pytest.mark.parametrize("machine", [RegressorLife, EquationLife])
def test_a_long_life(machine):
    live(machine, 60, 40)
