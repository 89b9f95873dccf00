"""Answers of the server are those of the model in this process."""

import base64
import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from http_client import Client
from metaest import AutoMetaClassifier, MAMLClassifier, MAMLPolicy, MAMLRegressor, TaskSet, model_hash
from metaest.selection.class_ensemble import ClassEnsemble
from metaest.selection.ensemble import Member
from metaest.selection.gaussian_classes import HierarchicalGaussianClassifier
from metaest.server import create_app
from metaest_datasets import load_theophylline, make_sinusoids
from metaest_domains.kinetics import MichaelisMentenRegressor

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
PATIENTS = load_theophylline(exclude_time_zero=True)


def objects(X):
    return [dict(zip(PATIENTS.feature_names, row.tolist(), strict=True)) for row in X]


def request(task, support, **more):
    return {"X": objects(task.X[support]), "y": task.y[support].tolist(), "predict": objects(task.X), **more}


@pytest.fixture(scope="module")
def network():
    return MAMLRegressor(max_iter=60, random_state=0).fit(PATIENTS[:8])


@pytest.mark.parametrize("guard", [None, False, True])
def test_a_compartment_model_answers_as_in_this_process(compartment, clinic, guard):
    task, support = PATIENTS[9], [1, 4, 7]
    answer = clinic.post("/adapt", request(task, support, guard=guard, interval=0.8, std=True, constants=True)).json()
    adapted = compartment.adapt(task.X[support], task.y[support], guard=guard)
    assert_allclose(answer["predictions"], adapted.predict(task.X), rtol=1e-9)
    assert_allclose(answer["std"], adapted.predict(task.X, return_std=True)[1], rtol=1e-9)
    lower, upper = adapted.predict_interval(task.X, level=0.8)
    assert_allclose(answer["interval"]["lower"], lower, rtol=1e-9)
    assert_allclose(answer["interval"]["upper"], upper, rtol=1e-9)
    for name, row in adapted.params_.iterrows():
        assert_allclose(answer["constants"][name]["value"], row["value"], rtol=1e-9)
        assert answer["constants"][name]["unit"] == row["unit"]
    assert ("guard" in answer) == (guard is not False)
    if guard is not False:
        assert_allclose(answer["guard"]["share"], adapted.guard_.share)


def test_rows_as_arrays_are_the_same_rows(clinic):
    task = PATIENTS[10]
    body = request(task, [2, 5])
    arrays = {"X": task.X[[2, 5]].tolist(), "y": body["y"], "predict": task.X.tolist()}
    assert clinic.post("/adapt", arrays).json() == clinic.post("/adapt", body).json()


def test_the_order_of_keys_does_not_matter(clinic):
    body = request(PATIENTS[10], [2, 5])
    turned = {**body, "X": [dict(reversed(row.items())) for row in body["X"]]}
    assert clinic.post("/adapt", turned).json() == clinic.post("/adapt", body).json()


@pytest.mark.parametrize("compile", [False, True])
def test_a_network_answers_as_in_this_process(network, compile):
    task, support = PATIENTS[9], [1, 4, 7]
    with Client(create_app(network, compile=compile)) as client:
        answer = client.post("/adapt", request(task, support, guard=True)).json()
        zero = client.post("/predict", {"X": objects(task.X)}).json()
    adapted = network.adapt(task.X[support], task.y[support], guard=True)
    assert_allclose(answer["predictions"], adapted.predict(task.X), rtol=1e-3, atol=1e-3)
    assert zero["predictions"] == network.predict(task.X).tolist()
    assert "interval" not in answer
    assert network.compile == "auto"


def test_requests_at_once_do_not_mix(compartment, clinic):
    bodies = [request(PATIENTS[8 + i % 4], [i % 3, 4, 5 + i % 5], keep=True, guard=i % 2 == 0) for i in range(40)]
    answers = [response.json() for response in clinic.at_once("/adapt", bodies)]
    for i, (body, answer) in enumerate(zip(bodies, answers, strict=True)):
        task, support = PATIENTS[8 + i % 4], [i % 3, 4, 5 + i % 5]
        expected = compartment.adapt(task.X[support], task.y[support], guard=i % 2 == 0).predict(task.X)
        assert_allclose(answer["predictions"], expected, rtol=1e-9)
        again = clinic.post("/predict", {"X": body["predict"], "id": answer["id"]}).json()
        assert_allclose(again["predictions"], expected, rtol=1e-9)
    assert len({answer["id"] for answer in answers}) == len(answers)
    assert "metaest_adaptations_total" in clinic.get("/metrics").text


def test_many_tasks_are_answered_in_their_order(compartment, clinic):
    wanted = [(8 + i % 4, [i % 9, 9]) for i in range(300)]
    body = {"tasks": [request(PATIENTS[t], s, guard=False) for t, s in wanted]}
    answers = clinic.post("/adapt_many", body).json()["tasks"]
    for (t, s), answer in list(zip(wanted, answers, strict=True))[::29]:
        expected = compartment.adapt(PATIENTS[t].X[s], PATIENTS[t].y[s], guard=False).predict(PATIENTS[t].X)
        assert_allclose(answer["predictions"], expected, rtol=1e-9)


def test_no_rows_are_the_population(compartment, clinic):
    body = {"X": [], "y": [], "predict": objects(PATIENTS[9].X), "constants": True}
    answer = clinic.post("/adapt", body).json()
    assert_allclose(answer["predictions"], compartment.predict(PATIENTS[9].X), rtol=1e-12)
    assert answer["n_rows"] == 0
    assert_allclose(answer["constants"]["volume"]["value"], compartment.population_.loc["volume", "value"])


def test_further_doses_are_further_columns(compartment, clinic):
    row = {"time": 20.0, "dose": 4.0, "weight": 70.0, "dose_2": 4.0, "dose_time_2": 12.0}
    answer = clinic.post("/predict", {"X": [row]}).json()

    assert_allclose(answer["predictions"], compartment.predict(pd.DataFrame([row])), rtol=1e-12)
    assert answer["predictions"][0] > clinic.post("/predict", {"X": [[20.0, 4.0, 70.0]]}).json()["predictions"][0]
    adapted = clinic.post("/adapt", {"X": [row], "y": [6.0], "predict": [row], "guard": False}).json()
    expected = compartment.adapt(pd.DataFrame([row]), [6.0], guard=False).predict(pd.DataFrame([row]))
    assert_allclose(adapted["predictions"], expected, rtol=1e-9)


def test_a_kinetic_equation_with_weights_of_its_own_columns():
    rng = np.random.default_rng(0)
    S = np.linspace(0.5, 10, 8)[:, None]
    tasks = TaskSet([(S, v * S[:, 0] / (k + S[:, 0]) + rng.normal(0, 0.02, 8)) for v, k in rng.uniform(1, 3, (8, 2))])
    model = MichaelisMentenRegressor().fit(tasks[:7])
    weight = [1.0, 4.0, 0.25]
    with Client(create_app(model)) as client:
        body = {"X": S[:3].tolist(), "y": tasks[7].y[:3].tolist(), "predict": S.tolist(), "sample_weight": weight}
        answer = client.post("/adapt", body).json()
    expected = model.adapt(S[:3], tasks[7].y[:3], sample_weight=weight).predict(S)
    assert_allclose(answer["predictions"], expected, rtol=1e-9)


def test_labels_of_a_task():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 2))
    y = (X[:, 0] > 0).astype(int) + 2 * (X[:, 1] > 0)
    own = MAMLClassifier(n_way=2, k_shot=3, max_iter=30, random_state=0).fit(X, y)
    shared = MAMLClassifier(max_iter=30, random_state=0).fit(TaskSet([(X[:60], y[:60]), (X[60:], y[60:])]))
    few, labels = X[:6], ["low", "high"] * 3
    with Client(create_app(own)) as client:
        answer = client.post("/adapt", {"X": few.tolist(), "y": labels, "predict": X[:9].tolist(), "keep": True}).json()
        assert client.post("/predict", {"X": X[:1].tolist()}).status_code == 422
        again = client.post("/predict", {"X": X[:9].tolist(), "id": answer["id"]}).json()
    adapted = own.adapt(few, labels)
    assert answer["predictions"] == adapted.predict(X[:9]).tolist()
    assert answer["classes"] == ["high", "low"]
    assert_allclose(answer["probabilities"], adapted.predict_proba(X[:9]), rtol=1e-6)
    assert again["probabilities"] == answer["probabilities"]
    with Client(create_app(shared)) as client:
        zero = client.post("/predict", {"X": X[:9].tolist()}).json()
        assert zero["predictions"] == shared.predict(X[:9]).tolist()
        mixed = client.post("/adapt", {"X": few.tolist(), "y": [0, 1, "a", 1, 2, 3]}).json()["error"]
        assert (mixed["field"], mixed["row"]) == ("y", 2)


@pytest.mark.parametrize("shares", [True, False])
def test_averages_of_classifiers_answer_as_in_this_process(shares):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(12, 20, 2)), np.tile(["ill", "well"], 10)
    tasks = TaskSet([(rows + 2 * (y == "ill")[:, None] + rng.normal(size=2), y) for rows in X])
    candidates = [
        ("gaussian", HierarchicalGaussianClassifier(shared_labels=shares)),
        ("network", MAMLClassifier(hidden_layer_sizes=(4,), inner_solver="ridge", shared_labels=shares, max_iter=2)),
    ]
    model = AutoMetaClassifier(candidates=candidates[:1], shared_labels=shares, shots=2, cv=2, random_state=0).fit(
        tasks
    )
    half = tuple(Member(name, 0.5, one.fit(tasks), False) for name, one in candidates)
    model._ensemble = ClassEnsemble(half, (), model._ensemble.labels)
    task = tasks[3]
    with Client(create_app(model)) as client:
        about = client.get("/model").json()
        body = {"X": task.X[:6].tolist(), "y": y[:6].tolist(), "predict": task.X.tolist(), "keep": True}
        answer = client.post("/adapt", body).json()
        kept = client.post("/predict", {"X": task.X[:2].tolist(), "id": answer["id"]}).json()
        before = client.post("/predict", {"X": task.X.tolist()})
    assert about["hash"] == model_hash(model)
    assert about["classes"] == (["ill", "well"] if shares else None)
    adapted = model.adapt(task.X[:6], y[:6])
    assert answer["predictions"] == adapted.predict(task.X).tolist()
    assert_allclose(answer["probabilities"], adapted.predict_proba(task.X), rtol=1e-5)
    assert kept["probabilities"] == answer["probabilities"][:2]
    if shares:
        assert_allclose(before.json()["probabilities"], model.predict_proba(task.X), rtol=1e-5)
    else:
        assert before.status_code == 422


def test_several_targets_and_intervals_of_a_network():
    tasks = make_sinusoids(40, 10, random_state=0)
    both = TaskSet([(t.X, np.column_stack([t.y, -2 * t.y])) for t in tasks])
    model = MAMLRegressor(max_iter=40, random_state=0).fit(both[:20]).calibrate(both[20:], 3)
    task = both[39]
    with Client(create_app(model)) as client:
        body = {"X": task.X[:3].tolist(), "y": task.y[:3].tolist(), "predict": task.X.tolist(), "interval": 0.5}
        answer = client.post("/adapt", body).json()
        wide = client.post("/adapt", {**body, "interval": 0.99}).json()
        wrong = client.post("/adapt", {**body, "X": body["X"][:2], "y": body["y"][:2]}).json()
    adapted = model.adapt(task.X[:3], task.y[:3])
    assert_allclose(answer["predictions"], adapted.predict(task.X), atol=1e-3)
    assert_allclose(answer["interval"]["upper"], adapted.predict_interval(task.X, 0.5).upper, atol=1e-3)
    assert wide["interval"]["lower"][0] == [None, None]
    assert wrong["error"]["code"] == "invalid"
    assert "calibrat" in wrong["error"]["message"]


def test_a_batch_answers_the_others_of_a_task_that_fails(compartment, clinic):
    good = request(PATIENTS[9], [1, 4, 7], guard=False)
    heavy = {**good, "X": [{**row, "time": -1.0} for row in good["X"]]}
    answers = clinic.at_once("/adapt", [good, heavy, good, good, heavy])
    assert [response.status_code for response in answers] == [200, 422, 200, 200, 422]
    expected = compartment.adapt(PATIENTS[9].X[[1, 4, 7]], PATIENTS[9].y[[1, 4, 7]], guard=False).predict(PATIENTS[9].X)
    for response in answers:
        if response.status_code == 200:
            assert_allclose(response.json()["predictions"], expected, rtol=1e-9)


def test_what_is_far_from_the_population_is_said(clinic):
    task = PATIENTS[9]
    answer = clinic.post("/adapt", {"X": objects(task.X[:4]), "y": (1000 * task.y[:4]).tolist()}).json()
    assert any("no curve of this population" in text for text in answer["warnings"])
    assert clinic.post("/adapt", request(task, [1, 4, 7])).json()["warnings"] == []


def test_models_that_are_not_served_are_refused_in_a_sentence():
    policy = MAMLPolicy()
    with pytest.raises(TypeError, match=r"MAMLPolicy cannot be served; MAMLRegressor"):
        create_app(policy)

    class Own(MAMLRegressor):
        def predict(self, X, return_std=False):
            return super().predict(X, return_std) + 1

    with pytest.raises(TypeError, match="Own cannot be served"):
        create_app(Own(max_iter=1).fit(make_sinusoids(3, random_state=0)))
    rng = np.random.default_rng(0)
    images = [(rng.normal(size=(4, 1, 8, 8)), np.ones(4) + i) for i in range(3)]
    with pytest.raises(TypeError, match="images are not served"):
        create_app(MAMLRegressor(max_iter=1).fit(images))


def test_the_model_is_not_changed(network):
    before = {name: value.clone() for name, value in network._params.items()}
    with Client(create_app(network, compile=False)) as client:
        client.at_once("/adapt", [request(PATIENTS[9], [i, i + 1]) for i in range(6)])
    assert all(value.equal(before[name]) for name, value in network._params.items())


@pytest.mark.parametrize("kind", ["compartment", "network"])
def test_a_predictor_can_be_sent_and_come_back_to_another_process(kind, compartment, network):
    model = {"compartment": compartment, "network": network}[kind]
    body = {"X": objects(PATIENTS[9].X[:3]), "y": PATIENTS[9].y[:3].tolist(), "predict": objects(PATIENTS[9].X)}
    with Client(create_app(model, compile=False)) as client:
        first = client.post("/adapt", {**body, "delta": True}).json()
    with Client(create_app(pickle.loads(pickle.dumps(model)), compile=False)) as client:
        query = {"X": body["predict"], "delta": first["delta"]}
        assert_allclose(client.post("/predict", query).json()["predictions"], first["predictions"], rtol=1e-6)
        for broken in (first["delta"][:-40], first["delta"][4:], "AAAA", "%", "", base64.b64encode(b"{}").decode()):
            answer = client.post("/predict", {**query, "delta": broken})
            assert (answer.status_code, answer.json()["error"]["field"]) == (422, "delta")
    other = {"compartment": network, "network": compartment}[kind]
    with Client(create_app(other, compile=False)) as client:
        assert "hash" in client.post("/predict", query).json()["error"]["message"]
    assert len(first["delta"]) < (14_000 if kind == "compartment" else 100_000)


def test_rows_beyond_the_training_tasks_are_named(compartment, clinic):
    low, high = compartment.feature_range_
    columns = clinic.get("/model").json()["features"]
    assert [column["training"] for column in columns] == np.transpose([low, high]).tolist()
    assert (low <= PATIENTS[:8].X.min(axis=0)).all()
    assert (PATIENTS[:8].X.max(axis=0) <= high).all()
    inside, outside = [1.0, 4.2, 70.0], [1.0, 4.2, 170.0]
    for body in ({"X": [inside, outside]}, {"X": [inside], "y": [8.0], "predict": [inside, outside]}):
        said = clinic.post("/adapt" if "y" in body else "/predict", body).json()["warnings"]
        assert len(said) == 1
        assert "weight is 170 in row 1; in the training tasks it lies between" in said[0]
    assert clinic.post("/predict", {"X": [inside]}).json()["warnings"] == []
