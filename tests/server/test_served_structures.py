"""An equation that averages structures is served, and its predictors count with all members."""

import pytest
from numpy.testing import assert_allclose

from attacks.models import averaged_equation, decay_tasks
from http_client import Client
from metaest.server import create_app
from metaest.server.predictor_size import arrays_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
NEW = decay_tasks(3, seed=5)


@pytest.fixture(scope="module")
def client():
    with Client(create_app(averaged_equation())) as opened:
        yield opened


def asked(task, **more):
    X, y = task.X[:3].tolist(), task.y[:3].tolist()
    return {"X": X, "y": y, "predict": task.X.tolist(), "interval": 0.8, "std": True, "constants": True, **more}


@pytest.mark.parametrize("guard", [False, True])
def test_answers_are_those_of_this_process(client, guard):
    bodies = [asked(task, guard=guard) for task in NEW]
    answers = [*client.post("/adapt_many", {"tasks": bodies}).json()["tasks"], client.post("/adapt", bodies[0]).json()]
    for task, answer in zip([*NEW, NEW[0]], answers, strict=True):
        adapted = averaged_equation().adapt(task.X[:3], task.y[:3], guard=guard)
        mean, sd = adapted.predict(task.X, return_std=True)
        assert_allclose(answer["predictions"], mean, rtol=1e-6, atol=1e-7)
        assert_allclose(answer["std"], sd, rtol=1e-5, atol=1e-7)
        lower, upper = adapted.predict_interval(task.X, 0.8)
        assert_allclose(answer["interval"]["lower"], lower, rtol=1e-5, atol=1e-6)
        assert_allclose(answer["interval"]["upper"], upper, rtol=1e-5, atol=1e-6)
        value = adapted.params_.loc["a", "value"]
        assert_allclose(answer["constants"]["a"]["value"], value, rtol=1e-5)


@pytest.mark.parametrize("how", ["id", "delta"])
def test_predictors_are_kept_and_sent(client, how):
    answer = client.post("/adapt", asked(NEW[1], keep=True, delta=True)).json()
    again = client.post("/predict", {"X": NEW[1].X.tolist(), how: answer[how]}).json()
    assert_allclose(again["predictions"], answer["predictions"], rtol=1e-9)


def test_a_predictor_counts_with_all_members():
    adapted = averaged_equation().adapt(NEW[0].X, NEW[0].y)
    members = [sum(int(array.nbytes) for array in arrays_of(member)) for member in adapted.members_]
    assert len(members) == 2
    assert sum(int(array.nbytes) for array in arrays_of(adapted)) > sum(members)


def test_a_search_that_did_not_converge_is_told_of_every_member(client, monkeypatch):
    from metaest.server import served_model

    told = iter([[[]], [["a word"]]])
    monkeypatch.setattr(served_model, "_warnings_of", lambda posterior: next(told))
    assert client.post("/adapt", asked(NEW[0], guard=False)).json()["warnings"][0] == "a word"
