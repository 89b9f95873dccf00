"""Gaussian estimators and averages of models are served as networks and equations are."""

import base64
from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.linear_model import Ridge

from gaussians import level_tasks
from http_client import Client
from metaest import (
    AutoMetaRegressor,
    EquationRegressor,
    HierarchicalGPRegressor,
    MAMLRegressor,
    ModelFileError,
    Parameter,
    RandomCoefficientRegressor,
    load,
    model_hash,
    save,
)
from metaest.selection.ensemble import Ensemble, Member, gives_std
from metaest.server import Limits, create_app, served_model
from metaest.server.predictor_size import arrays_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
TASKS, NEW = level_tasks(24, feature_names=("hours",)), level_tasks(4, seed=1, feature_names=("hours",))


def line(X, level, slope):
    return level + slope * X[:, 0]


@cache
def made(kind):
    """Return a fitted model; intervals of the last two are conformal ones."""
    if kind == "random coefficients":
        return RandomCoefficientRegressor(random_state=0).fit(TASKS)
    if kind == "curves":
        return HierarchicalGPRegressor(n_starts=1, warp="none", random_state=0).fit(TASKS[:8])
    members = [RandomCoefficientRegressor(None), HierarchicalGPRegressor(n_starts=1, warp="none", random_state=0)]
    if kind == "average with a network":
        equation = EquationRegressor(line, {"level": Parameter(0.0), "slope": Parameter(1.0)})
        members += [MAMLRegressor(max_iter=5, random_state=0), equation]
    model = AutoMetaRegressor(candidates=[("levels", members[0])], random_state=0).fit(TASKS[:12])
    weight, row = 1 / len(members), TASKS.X[:1]
    fitted = [member.fit(TASKS[:8]) for member in members]
    model._ensemble = Ensemble(tuple(Member(type(m).__name__, weight, m, gives_std(m, row)) for m in fitted))
    return model.calibrate([(task.X, task.y) for task in level_tasks(20, seed=3)], support_size=3)


KINDS = ["random coefficients", "curves", "average", "average with a network"]


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return made(request.param)


def asked(task, support=3, **more):
    return {"X": task.X[:support].tolist(), "y": task.y[:support].tolist(), "predict": task.X.tolist(), **more}


def test_answers_are_those_of_this_process(model):
    method = "conformal" if isinstance(model, AutoMetaRegressor) else "posterior"
    spreads = not isinstance(model, AutoMetaRegressor) or model._ensemble.has_std
    more = {"std": True} if spreads else {}
    with Client(create_app(model, compile=False)) as client:
        about = client.get("/model").json()
        assert about["hash"] == model_hash(model)
        assert [column["name"] for column in about["features"]] == ["hours"]
        assert about["intervals"] == [method]
        bodies = [
            asked(task, guard=guard, **more, **({"interval": 0.8} if not guard or method == "posterior" else {}))
            for task in NEW
            for guard in (True, False)
        ]  # a calibration is one with the guard, or without
        many = client.post("/adapt_many", {"tasks": bodies}).json()["tasks"]
        assert [answer["predictions"] for answer in many] != [many[0]["predictions"]] * len(many)
        for i, answer in enumerate(many):
            adapted = model.adapt(NEW[i // 2].X[:3], NEW[i // 2].y[:3], guard=i % 2 == 0)
            X = NEW[i // 2].X
            assert_allclose(answer["predictions"], adapted.predict(X), rtol=1e-7, atol=1e-6)
            if "interval" in bodies[i]:
                lower, upper = adapted.predict_interval(X, 0.8)
                assert_allclose(answer["interval"]["lower"], lower, rtol=1e-7, atol=1e-6)
                assert_allclose(answer["interval"]["upper"], upper, rtol=1e-7, atol=1e-6)
            assert ("guard" in answer) == (i % 2 == 0)
            if spreads:
                assert_allclose(answer["std"], adapted.predict(X, return_std=True)[1], rtol=1e-7, atol=1e-6)
        nothing = client.post("/adapt", {"X": [], "y": [], "predict": NEW[0].X.tolist()}).json()
        before = client.post("/predict", {"X": NEW[0].X.tolist()}).json()
    assert_allclose(nothing["predictions"], model.predict(NEW[0].X), rtol=1e-7, atol=1e-6)
    assert before["predictions"] == model.predict(NEW[0].X).tolist()


def test_predictors_are_kept_and_sent(model):
    body = asked(NEW[1], keep=True, delta=True)
    with Client(create_app(model)) as client:
        answer = client.post("/adapt", body).json()
        for how in ("id", "delta"):
            again = client.post("/predict", {"X": body["predict"], how: answer[how]}).json()
            assert_allclose(again["predictions"], answer["predictions"], rtol=1e-7, atol=1e-6)
        assert client.ask("DELETE", f"/adapted/{answer['id']}").status_code == 204
    # what was sent is what a file of the predictor holds
    assert len(base64.b64decode(answer["delta"])) < 20_000


def test_an_average_compiles_its_members_where_it_may_only(model):
    if not isinstance(model, AutoMetaRegressor):
        pytest.skip("nothing is compiled")
    served = {compile: served_model.serve(model, Limits(), compile=compile).model for compile in (True, False)}
    for compile, one in served.items():
        settings = [m.model.compile for m in one._ensemble.members if hasattr(m.model, "compile")]
        assert settings == [compile] * len(settings)
        assert model_hash(one) == model_hash(model)
    assert all(m.model.compile == "auto" for m in model._ensemble.members if hasattr(m.model, "compile"))


def test_what_cannot_be_is_refused(model):
    with Client(create_app(model, compile=False)) as client:
        for body, code in (
            ({"X": [[1.0]], "y": [1.0], "constants": True}, "invalid"),
            ({"X": [[1.0]], "y": [1.0], "sample_weight": [1.0]}, "invalid"),
            ({"X": [[1.0, 2.0]], "y": [1.0]}, "invalid"),
            ({"X": [[1e300]], "y": [1e300], "predict": [[1.0]]}, None),
        ):
            answer = client.post("/adapt", body)
            assert answer.status_code == 422 or (code is None and answer.status_code == 200)
            if code:
                assert answer.json()["error"]["code"] == code


def test_a_predictor_counts_with_its_factors():
    rng = np.random.default_rng(0)
    X, y = rng.uniform(0, 2, (50, 1)), rng.standard_normal(50)
    sizes = [sum(array.nbytes for array in arrays_of(made(kind).adapt(X, y))) for kind in KINDS[:3]]
    assert sizes[0] < 2_000
    assert min(sizes[1:]) > 8 * 50**2


def test_tasks_with_large_covariances_are_adapted_to_some_at_a_time(monkeypatch):
    monkeypatch.setattr(served_model, "BATCH_VALUES", 20)
    model = made("curves")
    with Client(create_app(model)) as client:
        many = client.post("/adapt_many", {"tasks": [asked(task, k) for task in NEW for k in (1, 2, 5)]}).json()
    expected = [model.adapt(task.X[:k], task.y[:k]).predict(task.X) for task in NEW for k in (1, 2, 5)]
    for answer, one in zip(many["tasks"], expected, strict=True):
        assert_allclose(answer["predictions"], one, rtol=1e-7, atol=1e-6)


def test_a_file_is_served_and_a_model_without_one_is_refused(tmp_path):
    model = made("random coefficients")
    save(model, tmp_path / "model")
    with Client(create_app(load(tmp_path / "model"))) as client:
        answer = client.post("/adapt", asked(NEW[0])).json()
    assert_allclose(answer["predictions"], model.adapt(NEW[0].X[:3], NEW[0].y[:3]).predict(NEW[0].X), rtol=1e-12)
    with pytest.raises(ModelFileError, match="pickle"):
        create_app(RandomCoefficientRegressor(Ridge(), random_state=0).fit(TASKS))
