"""What a server refuses, and how: an object that names field, task, row and column, and no inside of the server."""

import json
import logging
import re

import pytest

from http_client import Client
from metaest import MAMLRegressor, TaskError
from metaest.server import Limits, create_app
from metaest.server.predictor_cache import PredictorCache
from metaest.server.served_model import ServedNetwork
from metaest_datasets import load_theophylline

PATIENTS = load_theophylline(exclude_time_zero=True)
ROW = {"time": 1.0, "dose": 4.0, "weight": 70.0}
GOOD = {"X": [ROW, {**ROW, "time": 5.0}], "y": [8.0, 6.0], "predict": [ROW], "guard": False}


@pytest.fixture(scope="module")
def network():
    return MAMLRegressor(max_iter=5, random_state=0).fit(PATIENTS[:8])


def place(response, *names):
    error = response.json()["error"]
    return tuple(error[name] for name in names)


def row(**values):
    return {**GOOD, "X": [ROW, {**ROW, **values}]}


@pytest.mark.parametrize(
    ("body", "field", "number", "column", "words"),
    [
        (row(dose=None), "X", 1, "dose", "is null; a number is wanted"),
        (row(dose="4"), "X", 1, "dose", "is a string"),
        (row(dose=True), "X", 1, "dose", "is a boolean"),
        (row(dose=[4.0]), "X", 1, "dose", "is an array"),
        (row(mass=70.0), "X", 1, "mass", "no column of row 0"),
        ({**GOOD, "X": [{**ROW, "sex": 1.0}] * 2}, "X", None, "sex", "'sex' is no column of the model."),
        ({**GOOD, "predict": [{**ROW, "sex": 1.0}]}, "predict", None, "sex", "'sex' is no column of the model."),
        ({**GOOD, "X": [ROW, {"time": 1.0, "dose": 4.0}]}, "X", 1, "weight", "has no 'weight'"),
        ({**GOOD, "X": [ROW, [1.0, 4.0, 70.0]]}, "X", 1, None, "row 1 is not"),
        ({**GOOD, "X": [[1.0, 4.0, 70.0], [1.0, 4.0]]}, "X", 1, None, "3 numbers, got 2 numbers"),
        ({**GOOD, "X": [[1.0, 4.0, 70.0], ROW]}, "X", 1, None, "got an object"),
        ({**GOOD, "X": {"time": [1.0]}}, "X", None, None, "array of rows"),
        (row(time=10**400), "X", 1, "time", "too large a number"),
        ({**GOOD, "y": [8.0, None]}, "y", 1, None, "is null"),
        ({**GOOD, "y": [8.0]}, "y", None, None, "1 values, but X has 2 rows"),
        ({**GOOD, "y": 8.0}, "y", None, None, "an array"),
        ({**GOOD, "predict": [{**ROW, "time": "soon"}]}, "predict", 0, "time", "is a string"),
        ({**GOOD, "sample_weight": [1.0, -1.0]}, "X", 1, None, "weight"),
        (row(time=-1.0), "X", 1, "time", "cannot be negative"),
        ({**GOOD, "predict": [ROW, {**ROW, "time": -1.0}]}, "predict", 1, "time", "cannot be negative"),
        ({**GOOD, "interval": 90}, "interval", None, None, "between 0 and 1"),
        ({**GOOD, "interval": 0.9, "method": "bootstrap"}, "method", None, None, "posterior"),
        ({**GOOD, "method": "posterior"}, "method", None, None, "needs interval"),
        ({**GOOD, "interval": 0.9, "method": "conformal"}, "method", None, None, "not calibrated"),
        ({"X": [ROW], "y": [8.0], "interval": 0.9}, "interval", None, None, "send them as predict"),
        ({**GOOD, "predict": [], "std": True}, "std", None, None, "send them as predict"),
        ({**GOOD, "guard": "yes"}, "guard", None, None, "true or false"),
        ({**GOOD, "patient": "Smith"}, "patient", None, None, "no field 'patient'"),
        ({"X": [ROW]}, "y", None, None, "y is missing"),
        ([], None, None, None, 'an object is wanted: {"X": [...], "y": [...]}.'),
    ],
)
def test_errors_name_field_row_and_column(clinic, body, field, number, column, words):
    response = clinic.post("/adapt", body)
    assert response.status_code == 422
    assert place(response, "field", "row", "column", "task") == (field, number, column, None)
    assert words in place(response, "message")[0]
    many = clinic.post("/adapt_many", {"tasks": [GOOD, body]})
    assert place(many, "field", "row", "column", "task") == (field, number, column, 1)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "expecting value"),
        (b'{"X": [[NaN]]}', "NaN is no number"),
        (b'{"X": [[-Infinity]]}', "-Infinity is no number"),
        (b'{"y": [1], "y": [2]}', "'y' stands twice"),
        (b'{"X": [{"time": 1, "time": 2}]}', "'time' stands twice"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"X": ' + b"9" * 10_000 + b"}", "thousands of digits"),
        ('{"X": "\u00e9"}'.encode("latin-1"), "not UTF-8"),
        ('{"X": 1}'.encode("utf-16"), "not UTF-8"),
        (b'{"X": 1} {}', "extra data"),
        (b'{"X": [{"\\ud800": 1}]}', "half of a surrogate pair"),
        (b'{"id": "\\uDFFF"}', "half of a surrogate pair"),
    ],
)
def test_what_is_no_json_is_refused(clinic, body, words):
    for path in ("/adapt", "/adapt_many", "/predict"):
        response = clinic.post(path, body)
        assert response.status_code == 400
        assert words in place(response, "message")[0]


def test_numbers_are_taken_in_every_form_json_has(clinic):
    body = json.dumps(GOOD).replace("70.0", "7e1").replace("4.0", "4").encode()
    assert clinic.post("/adapt", body).json() == clinic.post("/adapt", GOOD).json()
    infinite = clinic.post("/adapt", json.dumps(GOOD).replace("70.0", "1e999").encode())
    assert place(infinite, "field", "row", "column") == ("X", 0, "weight")


def test_whole_pairs_of_surrogates_are_characters(clinic):
    answer = clinic.post("/predict", b'{"X": [], "id": "\\ud83d\\ude00"}')
    assert answer.status_code == 422
    assert "no rows" in place(answer, "message")[0]


@pytest.mark.parametrize("dose", [1e100, 1e153])
def test_rows_that_are_very_far_off_are_answered_by_the_population(clinic, compartment, dose):
    answer = clinic.post("/adapt", {**row(dose=dose), "guard": True})
    assert answer.status_code == 200
    assert answer.json()["guard"]["share"] == 0
    assert answer.json()["predictions"] == pytest.approx(compartment.predict([list(ROW.values())]))


@pytest.mark.parametrize(
    ("dose", "words"), [(1e160, "not finite near the population"), (1e308, "derivative .* is nan in row 1")]
)
def test_rows_at_which_the_equation_is_not_finite_are_refused_as_by_adapt(clinic, compartment, dose, words):
    answer = clinic.post("/adapt", {**row(dose=dose), "guard": True})
    assert answer.status_code == 422
    assert re.search(words, place(answer, "message")[0])
    with pytest.raises(TaskError, match=words):
        compartment.adapt([list(ROW.values()), list({**ROW, "dose": dose}.values())], GOOD["y"], guard=True)


def test_a_path_with_a_slash_more_is_another(clinic):
    assert place(clinic.post("/adapt/", GOOD), "code") == ("not_found",)


def test_sizes_are_bounded(compartment):
    limits = Limits(max_bytes=2_000, max_rows=3, max_tasks=2)
    with Client(create_app(compartment, limits=limits)) as client:
        assert client.post("/adapt", GOOD).status_code == 200
        rows = client.post("/adapt", {**GOOD, "X": [ROW] * 4, "y": [1.0] * 4})
        assert rows.status_code == 422
        assert "X has 4 rows; at most 3" in place(rows, "message")[0]
        assert client.post("/adapt_many", {"tasks": [GOOD] * 3}).status_code == 422
        whole = client.post("/adapt", b" " * 3_000)
        assert whole.status_code == 413
        assert whole.headers["connection"] == "close"

        async def endless():
            for _ in range(10_000):
                yield b" " * 1_000
            raise AssertionError("the body was read on")

        assert client.post("/adapt", endless()).status_code == 413


def test_a_body_that_does_not_come_is_not_waited_for(network):
    import asyncio

    async def slowly():
        yield b'{"X":'
        await asyncio.sleep(30)

    with Client(create_app(network, compile=False, limits=Limits(read_seconds=0.05))) as client:
        assert client.post("/predict", slowly()).status_code == 408


def test_other_paths_methods_and_types(clinic):
    for path in ("/nothing", "/adapt/", "/health/"):
        assert clinic.get(path).json()["error"]["code"] == "not_found"
    wrong = clinic.get("/adapt")
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "POST"
    form = clinic.ask("POST", "/adapt", b"X=1", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert form.status_code == 415
    with Client(clinic.app, host="rebound.example") as client:
        assert client.post("/adapt", GOOD).json()["error"]["code"] == "host"


def test_a_token_is_wanted_everywhere_but_for_health(network):
    app = create_app(network, token="correct horse battery", compile=False)
    rows = {"X": [[1.0, 4.0, 70.0]]}
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic correct horse battery"}):
        with Client(app, headers, host="any.example") as client:
            assert client.get("/health").json() == {"status": "ok"}
            for path in ("/model", "/metrics", "/openapi.json", "/nothing"):
                assert client.get(path).status_code == 401
            refused = client.post("/predict", rows)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
    with Client(
        create_app(network, token="correct horse battery", compile=False),
        {"Authorization": "Bearer correct horse battery"},
    ) as client:
        assert client.post("/predict", rows).status_code == 200


def test_kept_predictors_are_forgotten(network):
    clock = [0.0]
    kept = PredictorCache(Limits(keep=3, keep_bytes=100, expiry_seconds=10.0), lambda: clock[0])
    first, second = kept.put("a", 30), kept.put("b", 30)
    assert kept.get(first) == "a"
    third = kept.put("c", 45)  # b was not used for longest
    assert (kept.get(first), kept.get(second), kept.get(third)) == ("a", None, "c")
    assert kept.size == 75
    assert kept.put("d", 101) is None
    clock[0] = 10.0
    assert (kept.get(first), len(kept)) == (None, 1)
    kept.sweep()
    assert (len(kept), kept.size) == (0, 0)
    with Client(create_app(network, compile=False, limits=Limits(expiry_seconds=0.2))) as client:
        answer = client.post("/adapt", {**GOOD, "keep": True}).json()
        assert client.post("/predict", {"X": [ROW], "id": answer["id"]}).status_code == 200
        client.wait(0.5)
        assert "metaest_kept_predictors 0.0" in client.get("/metrics").text
        gone = client.post("/predict", {"X": [ROW], "id": answer["id"]})
        assert (gone.status_code, place(gone, "code")) == (404, ("unknown_id",))
    with Client(create_app(network, compile=False, limits=Limits(keep=0))) as client:
        assert client.post("/adapt", {**GOOD, "keep": True}).status_code == 422


def test_a_kept_predictor_can_be_deleted(network):
    with Client(create_app(network, compile=False)) as client:
        name = client.post("/adapt", {**GOOD, "keep": True}).json()["id"]
        assert client.ask("DELETE", f"/adapted/{name}").status_code == 204
        assert client.ask("DELETE", f"/adapted/{name}").status_code == 404
        assert client.post("/predict", {"X": [ROW], "id": name}).status_code == 404


def test_units_and_bounds_that_the_operator_states(compartment):
    columns = {"weight": {"unit": "kg", "minimum": 2, "maximum": 300}, "y": {"unit": "mg/L", "minimum": 0}}
    with Client(create_app(compartment, columns=columns)) as client:
        heavy = client.post("/adapt", row(weight=70_000.0))
        assert place(heavy, "row", "column") == (1, "weight")
        assert "weight is 70000 kg in row 1; it must lie between 2 and 300" in place(heavy, "message")[0]
        below = client.post("/adapt", {**GOOD, "y": [8.0, -1.0]})
        assert place(below, "field", "row") == ("y", 1)
        api = client.get("/openapi.json").json()
        by_name = api["components"]["schemas"]["AdaptRequest"]["properties"]["X"]["anyOf"][0]["items"]
        assert by_name["properties"]["weight"] == {
            "type": "number",
            "minimum": 2,
            "maximum": 300,
            "description": "Unit: kg. In the training tasks between 54 and 80",
        }
        assert client.get("/model").json()["features"][2]["unit"] == "kg"
    with pytest.raises(ValueError, match="there is no column 'mass'; there are time, dose, weight, y"):
        create_app(compartment, columns={"mass": {}})
    with pytest.raises(ValueError, match="'weight' has 'units'"):
        create_app(compartment, columns={"weight": {"units": "kg"}})
    with pytest.raises(TypeError, match="minimum of 'weight' must be a number"):
        create_app(compartment, columns={"weight": {"minimum": "0"}})


def test_a_fault_of_the_server_says_nothing_of_the_rows(network, monkeypatch, caplog):
    def broken(self, wanted):
        raise RuntimeError(f"cannot do {wanted[0].X}")

    monkeypatch.setattr(ServedNetwork, "_adapt", broken)
    caplog.set_level(logging.INFO, "metaest.server")
    with Client(create_app(network, compile=False)) as client:
        response = client.post("/adapt", row(weight=71.125))
        assert response.status_code == 500
        assert "71.125" not in response.text + caplog.text
        number = response.json()["error"]["message"].rsplit(" ", 1)[1].rstrip(".")
        assert number in caplog.text
        assert "RuntimeError" in caplog.text
        assert client.post("/predict", {"X": [ROW]}).status_code == 200


def test_too_many_requests_are_told_to_come_again(network):
    with Client(create_app(network, compile=False, limits=Limits(max_waiting=3))) as client:
        answers = client.at_once("/adapt", [GOOD] * 30)
        busy = [response for response in answers if response.status_code == 503]
        assert {response.status_code for response in answers} == {200, 503}
        assert busy[0].headers["retry-after"] == "1"
        assert place(busy[0], "code") == ("busy",)
        assert 'metaest_rejected_total{code="busy"}' in client.get("/metrics").text
        assert client.post("/adapt", GOOD).status_code == 200


def test_an_answer_that_takes_too_long_is_not_waited_for(network, monkeypatch):
    import time

    slow = ServedNetwork._adapt
    monkeypatch.setattr(ServedNetwork, "_adapt", lambda self, wanted: time.sleep(0.3) or slow(self, wanted))
    with Client(create_app(network, compile=False, limits=Limits(answer_seconds=0.05))) as client:
        response = client.post("/adapt", GOOD)
        assert (response.status_code, place(response, "code")) == (503, ("timeout",))


def test_logs_have_no_ids_and_no_rows(network, caplog):
    caplog.set_level(logging.INFO, "metaest.server")
    with Client(create_app(network, compile=False)) as client:
        name = client.post("/adapt", {**row(weight=71.125), "keep": True}).json()["id"]
        client.ask("DELETE", f"/adapted/{name}")
        client.get(f"/adapted/{name}?who=Smith")
    assert "POST /adapt 200" in caplog.text
    assert not any(word in caplog.text for word in (name, "71.125", "Smith"))


@pytest.mark.parametrize(("name", "value"), [("max_rows", 0), ("max_bytes", -1), ("expiry_seconds", float("nan"))])
def test_limits_must_be_above_nothing(name, value):
    with pytest.raises(ValueError, match=f"{name} must be above 0"):
        Limits(**{name: value})
    with pytest.raises(TypeError, match=f"{name} must be a"):
        Limits(**{name: "many"})
