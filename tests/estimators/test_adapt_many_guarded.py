"""`adapt_many` with a guard judges every task as `adapt` does."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose

from metaest import EquationRegressor, MAMLRegressor, Parameter, Task, TaskSet
from metaest_datasets import load_theophylline, make_sinusoids
from metaest_domains.physiology import OneCompartmentRegressor


def waves(n, seed):
    """Sinusoids of which some are pure noise, so that the guard decides differently."""
    rng = np.random.default_rng(seed)
    tasks = make_sinusoids(n, 12, noise=0.1, random_state=seed)
    return TaskSet([Task(i, t.X, rng.normal(0, 2, len(t)) if i % 4 == 0 else t.y) for i, t in enumerate(tasks)])


@pytest.fixture(scope="module")
def network():
    return MAMLRegressor(max_iter=200, random_state=0).fit(make_sinusoids(40, 12, noise=0.1, random_state=0))


def test_a_network_judges_many_as_each(network):
    tasks = waves(12, 1)
    many = network.adapt_many(tasks, guard=True)
    each = [network.adapt(task.X, task.y, guard=True) for task in tasks]
    assert len({guard.decision for guard in many.guards_}) > 1
    rows = np.linspace(-4, 4, 5)[:, None]
    query = TaskSet([Task(i, task.X[: 1 + i % 3], task.y[: 1 + i % 3]) for i, task in enumerate(tasks)])
    at = np.split(many.predict(query), query.offsets[1:-1])
    for i, one in enumerate(each):
        assert_allclose(many.guards_[i].share, one.guard_.share, atol=1e-4)
        assert many[i].guard_ == many.guards_[i]
        for predicted in (many.predict(rows)[i], many[i].predict(rows)):
            assert_allclose(predicted, one.predict(rows), atol=1e-3)
        assert_allclose(at[i], one.predict(query[i].X), atol=1e-3)
    assert_allclose(many[0].partial_adapt([[0.0]], [1.0]).guard_.n_judged, 13)
    assert network.adapt_many(tasks).guards_ is None


def test_an_equation_judges_many_as_each():
    patients = load_theophylline(exclude_time_zero=True)
    model = OneCompartmentRegressor(noise="additive", random=["clearance", "absorption"]).fit(patients[:8])
    rng = np.random.default_rng(0)
    new = TaskSet(
        [
            *(Task(t.name, t.X[:5], t.y[:5]) for t in patients[8:]),
            *(Task(f"noise {i}", t.X[:4], rng.uniform(1, 9, 4)) for i, t in enumerate(patients[:4])),
        ]
    )
    with pytest.warns(UserWarning, match="adapt"):
        many, each = model.adapt_many(new, guard=True), [model.adapt(task.X, task.y, guard=True) for task in new]
    assert min(guard.share for guard in many.guards_) < 1
    predicted = np.split(many.predict(new), new.offsets[1:-1])
    for i, one in enumerate(each):
        assert_allclose(many.guards_[i].share, one.guard_.share, rtol=1e-9)
        for other in (many[i].predict(new[i].X), predicted[i]):
            assert_allclose(other, one.predict(new[i].X), rtol=1e-9)
        assert_allclose(many[i].params_["value"], one.params_["value"], rtol=1e-9)
        assert_allclose(many.params_["clearance"].iloc[i], one.params_.loc["clearance", "value"], rtol=1e-9)
        for end, wanted in zip(many[i].predict_interval(new[i].X), one.predict_interval(new[i].X), strict=True):
            assert_allclose(end, wanted, rtol=1e-9)


@pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")
def test_a_compartment_model_is_adapted_and_judged_in_machine_code(caplog):
    patients = load_theophylline(exclude_time_zero=True)
    model = OneCompartmentRegressor(noise="additive", random=["clearance", "absorption"]).fit(patients[:8])
    new = TaskSet([Task(t.name, t.X[1:6:2], t.y[1:6:2]) for t in patients[8:]])
    eager = model.adapt_many(new, guard=True)
    alone = model.adapt(new[0].X, new[0].y)
    model.set_params(compile=True)
    compiled = model.adapt_many(new, guard=True)
    again = model.adapt(new[0].X, new[0].y)
    assert "not compiled" not in caplog.text
    assert_allclose(compiled.predict(new), eager.predict(new), rtol=1e-7)
    assert_allclose(again.predict(new[0].X), alone.predict(new[0].X), rtol=1e-7)
    assert_allclose(again.guard_.adapted_rmse, alone.guard_.adapted_rmse, rtol=1e-6)
    assert pickle.loads(pickle.dumps(again)).partial_adapt(new[1].X[:1], new[1].y[:1]).guard_.n_judged == 4


def test_weights_of_rows_reach_the_guard():
    def line(X, slope):
        return slope * X[:, 0]

    rng = np.random.default_rng(0)
    X = np.linspace(1, 3, 6)[:, None]
    tasks = [(X, (1 + rng.normal()) * X[:, 0] + rng.normal(0, 0.3, 6)) for _ in range(12)]
    model = EquationRegressor(line, {"slope": Parameter(1.0)}).fit(tasks[:10])
    weight = np.array([1.0, 4.0, 0.25, 1.0, 2.0, 1.0])
    new = TaskSet([Task(i, *tasks[10 + i], sample_weight=weight) for i in range(2)])
    many = model.adapt_many(new, guard=True)
    for i in range(2):
        one = model.adapt(*tasks[10 + i], sample_weight=weight, guard=True)
        assert_allclose(many.guards_[i].adapted_rmse, one.guard_.adapted_rmse, rtol=1e-9)
        assert many.guards_[i].adapted_rmse != model.adapt(*tasks[10 + i], guard=True).guard_.adapted_rmse


def test_a_gap_of_no_rows_is_refused(network):
    with pytest.raises(ValueError, match="gap must be a whole number"):
        network.adapt_many(make_sinusoids(2, 5, random_state=3), guard=True, gap=-1)
