"""Neither a pickle nor a file carries rows of training tasks, and both remember which version made them."""

import copy
import io
import pickle

import joblib
import numpy as np
import pytest
from sklearn.exceptions import InconsistentVersionWarning

from metaest import EquationRegressor, FewShotRegressor, MAMLClassifier, MAMLRegressor, Task, TaskSet, load, save
from savable import wave

NETWORK = {"hidden_layer_sizes": (5,), "max_iter": 5, "random_state": 0}


def numbers(seed=3):
    """Tasks of numbers that occur nowhere else."""
    rng = np.random.default_rng(seed)
    return TaskSet([Task(f"patient-{i}", rng.uniform(0, 3, (9, 1)), rng.uniform(0.5, 2, 9)) for i in range(8)])


def classes():
    rng = np.random.default_rng(5)
    return TaskSet([Task(f"patient-{i}", rng.uniform(0, 3, (12, 2)), np.tile(["a", "b"], 6)) for i in range(6)])


@pytest.fixture(scope="module")
def fitted():
    tasks = numbers()
    network = MAMLRegressor(**NETWORK).fit(tasks)
    return {
        "network": (network, tasks),
        "classifier": (MAMLClassifier(**NETWORK, support_size=4).fit(classes()), classes()),
        "equation": (EquationRegressor(wave, {"amplitude": 1.0, "phase": 0.5}, random_state=0).fit(tasks), tasks),
        "wrapped": (FewShotRegressor(network, guard=True).fit([[0.5], [1.5]], [0.7, 1.1]), tasks),
    }


def rows_in(content, tasks):
    """Return how many training numbers are among some bytes, in any of the forms they may have."""
    columns = [tasks.X.ravel(), tasks.y if tasks.y.dtype.kind == "f" else tasks.X[:, 0]]
    values = np.concatenate(columns).astype(np.float64)
    forms = [(v.tobytes(), np.float32(v).tobytes(), v.astype(">f8").tobytes(), repr(float(v)).encode()) for v in values]
    return sum(any(form in content for form in own) for own in forms)


@pytest.mark.parametrize("name", ["network", "classifier", "equation", "wrapped"])
def test_no_training_number_is_in_a_pickle_or_a_file(name, fitted, tmp_path):
    model, tasks = fitted[name]
    stream = io.BytesIO()
    joblib.dump(model, stream)
    save(model, tmp_path / "model")
    for content in (pickle.dumps(model), stream.getvalue(), (tmp_path / "model").read_bytes()):
        assert rows_in(content, tasks) == 0
    assert b"patient-3" not in (tmp_path / "model").read_bytes()
    save(model, tmp_path / "kept", keep_rows=True)
    assert rows_in((tmp_path / "kept").read_bytes(), tasks) > 0.9 * 2 * len(tasks.X) * (name != "classifier")


@pytest.mark.filterwarnings("ignore::metaest.exceptions.IdentifiabilityWarning")
@pytest.mark.parametrize("name", ["network", "classifier", "equation"])
def test_the_guard_of_a_model_without_rows_is_the_guard_it_had(name, fitted, tmp_path):
    model, tasks = fitted[name]
    model = copy.deepcopy(model)
    passed = {"equation": wave} if name == "equation" else {}
    save(model, tmp_path / "model")
    X, y = tasks[0].X[:6], tasks[0].y[:6]
    expected = model.adapt(X, y, guard=True)
    for again in (pickle.loads(pickle.dumps(model)), load(tmp_path / "model", **passed)):
        got = again.adapt(X, y, guard=True)
        assert got.guard_ == expected.guard_
        np.testing.assert_array_equal(got.predict(X), expected.predict(X))
        with pytest.raises(
            ValueError, match=r"the guard was not learned at gap=3.*save\(model, path, keep_rows=True\)"
        ):
            again.adapt(X, y, guard=True, gap=3)
    save(model, tmp_path / "kept", keep_rows=True)
    kept = load(tmp_path / "kept", **passed)
    assert kept.adapt(X, y, guard=True, gap=3).guard_ == model.adapt(X, y, guard=True, gap=3).guard_


def test_copies_in_the_process_keep_their_rows(fitted):
    model, tasks = fitted["network"]
    for same in (copy.copy(model), copy.deepcopy(model)):
        assert same.adapt(tasks[0].X[:4], tasks[0].y[:4], guard=True, gap=2).guard_ is not None


@pytest.mark.parametrize("what", ["network", "equation", "predictor", "predictors", "wrapped"])
def test_another_version_warns(what, fitted):
    model, tasks = fitted[what if what in fitted else "network"]
    thing = {"predictor": lambda: model.adapt(tasks[0].X, tasks[0].y), "predictors": lambda: model.adapt_many(tasks)}
    thing = thing[what]() if what in thing else model
    content = pickle.dumps(thing)
    assert pickle.loads(content) is not None  # without a warning, which would be an error here
    with pytest.warns(InconsistentVersionWarning, match="of metaest. from version 0.0.9"):
        pickle.loads(content.replace(b"0.1.0.dev0", b"0.0.9.dev0"))
    state = {name: own for name, own in thing.__getstate__().items() if name != "_metaest_version"}
    with pytest.warns(InconsistentVersionWarning, match="before 0.1"):
        type(thing).__new__(type(thing)).__setstate__(state)
