"""The description of the server's paths by OpenAPI, made of the model's columns, units and bounds."""

from typing import Any

from metaest.server.columns import Columns
from metaest.server.errors import STATUS
from metaest.server.limits import Limits
from metaest.server.requests import Reader
from metaest.server.served_model import ServedModel

__all__ = ["describe_api"]

_NUMBER = {"type": "number"}
_NUMBER_OR_NULL = {"type": ["number", "null"]}
_STRING = {"type": "string"}


def describe_api(served: ServedModel, limits: Limits, token: bool) -> dict[str, Any]:
    """Return the description of all paths."""
    reader = served.reader
    schemas = _schemas(served, reader, limits)
    paths: dict[str, Any] = {
        "/adapt": {"post": _posted("Adapt to one task, and predict rows of it", "AdaptRequest", "AdaptAnswer")},
        "/adapt_many": {"post": _posted("Adapt to many tasks", "AdaptManyRequest", "AdaptManyAnswer")},
        "/predict": {
            "post": _posted(
                "Predict rows by an adapted predictor, or before adaptation",
                "PredictRequest",
                "PredictAnswer",
                (404,) * reader.keeps,
            )
        },
        "/adapted/{id}": {
            "delete": {
                "summary": "Forget a kept predictor",
                "parameters": [{"name": "id", "in": "path", "required": True, "schema": _STRING}],
                "responses": {"204": {"description": "It is forgotten."}, **_errors(404, 503)},
            }
        },
        "/health": {"get": _got("Whether the server runs", "Health")},
        "/model": {"get": _got("The fitted model: its columns, targets and constants", "Model")},
        "/openapi.json": {"get": _got("This description", None)},
        "/metrics": {
            "get": {
                "summary": "Counters in Prometheus' format",
                "responses": {
                    "200": {"description": "Counters.", "content": {"text/plain": {"schema": _STRING}}},
                },
            }
        },
    }
    api: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": f"metaest: {type(served.model).__name__}", "version": "1"},
        "paths": paths,
        "components": {"schemas": schemas},
    }
    if token:
        api["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, operations in paths.items():
            for operation in operations.values():
                if path != "/health":
                    operation["security"] = [{"token": []}]
                    operation["responses"].update(_errors(401))
    else:
        for operations in paths.values():
            for operation in operations.values():
                operation["responses"].update(_errors(400))
    return api


def _schemas(served: ServedModel, reader: Reader, limits: Limits) -> dict[str, Any]:
    number_of_rows = {"maxItems": limits.max_rows}
    rows = _rows(reader.columns, number_of_rows)
    wanted = _wanted(reader)
    adapt: dict[str, Any] = {
        "X": {**rows, "description": "Rows to adapt to; without rows, predictions are those before adaptation."},
        "y": {
            "type": "array",
            "items": _target(served),
            **number_of_rows,
            "description": "One value for each row of X.",
        },
        "predict": {**rows, "description": "Rows to predict."},
        "guard": {
            "type": ["boolean", "null"],
            "description": "Whether the adaptation is judged on rows it did not see, and kept, shrunk or refused; "
            f"{'true' if served.guards else 'false'} by default.",
        },
        **wanted,
    }
    if reader.weighs:
        weights = {"type": "number", "minimum": 0}
        adapt["sample_weight"] = {"type": "array", "items": weights, **number_of_rows, "description": "1/variance."}
    if reader.constants:
        adapt["constants"] = {"type": "boolean", "description": "Whether the constants are wanted."}
    predict: dict[str, Any] = {"X": _rows(reader.columns, {**number_of_rows, "minItems": 1}), **wanted}
    if reader.keeps:
        adapt["keep"] = {"type": "boolean", "description": "Whether the predictor is kept here under an id."}
        predict["id"] = {"type": "string", "description": "The id of a kept predictor."}
    adapt["delta"] = {"type": "boolean", "description": "Whether the predictor is sent, as base64."}
    predict["delta"] = {"type": "string", "description": "A predictor as it was sent."}
    tasks = {"type": "array", "items": _ref("AdaptRequest"), "minItems": 1, "maxItems": limits.max_tasks}
    predictions = _predictions(served)
    return {
        "AdaptRequest": _object(adapt, ("X", "y")),
        "AdaptManyRequest": _object({"tasks": tasks}, ("tasks",)),
        "PredictRequest": _object(predict, ("X",)),
        "AdaptAnswer": _object({**_answer(served), **predictions}, ("n_rows", "warnings")),
        "AdaptManyAnswer": _object({"tasks": {"type": "array", "items": _ref("AdaptAnswer")}}, ("tasks",)),
        "PredictAnswer": _object({**predictions, "warnings": _list(_STRING)}, ("predictions", "warnings")),
        "Health": _object({"status": {"const": "ok"}}, ("status",)),
        "Model": {"type": "object", "required": ["class", "features", "targets"]},
        "Error": _error(),
    }


def _rows(columns: Columns, number: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of rows: arrays all, or objects all."""
    array: dict[str, Any] = {
        "type": "array",
        "prefixItems": [column.schema() for column in columns.columns],
        "items": False,
        "minItems": len(columns.columns),
        "description": ", ".join(columns.names),
    }
    arrays = {"type": "array", "items": array, **number}
    if not columns.named:
        return arrays
    by_name: dict[str, Any] = _object(
        {column.name: column.schema() for column in columns.columns}, tuple(columns.names)
    )
    if columns.further:
        by_name["additionalProperties"] = _NUMBER
    return {"anyOf": [{"type": "array", "items": by_name, **number}, arrays]}


def _target(served: ServedModel) -> dict[str, Any]:
    if served.reader.labels:
        return {"type": ["string", "number", "boolean"]}
    targets = [target.schema() for target in served.targets]
    if len(targets) == 1:
        return targets[0]
    return {"type": "array", "prefixItems": targets, "items": False, "minItems": len(targets)}


def _wanted(reader: Reader) -> dict[str, Any]:
    """Return what may be wanted of predictions."""
    wanted: dict[str, Any] = {}
    if reader.methods:
        level = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
        wanted["interval"] = {**level, "description": "Level of an interval around each prediction, such as 0.9."}
        wanted["method"] = {"enum": list(reader.methods), "description": "How the interval is made."}
    if reader.spreads:
        wanted["std"] = {"type": "boolean", "description": "Whether standard deviations are wanted."}
    return wanted


def _predictions(served: ServedModel) -> dict[str, Any]:
    reader = served.reader
    if reader.labels:
        label = {"type": ["string", "number", "boolean"]}
        return {
            "predictions": _list(label),
            "classes": _list(label),
            "probabilities": _list(_list({"type": "number", "minimum": 0})),
        }
    alone = len(served.targets) == 1
    value, end = (schema if alone else _list(schema) for schema in (_NUMBER, _NUMBER_OR_NULL))
    unit = served.targets[0].unit
    properties: dict[str, Any] = {"predictions": _list(value)}
    if unit and alone:
        properties["predictions"]["description"] = f"Unit: {unit}"
    if reader.spreads:
        properties["std"] = _list(value)
    if reader.methods:
        ends = {**_list(end), "description": "null where there is no bound."}
        properties["interval"] = _object(
            {"level": _NUMBER, "method": _STRING, "lower": ends, "upper": ends}, ("level", "method", "lower", "upper")
        )
    return properties


def _answer(served: ServedModel) -> dict[str, Any]:
    guard = {"decision": {"enum": ["kept", "shrunk", "refused"]}, "share": _NUMBER, "reason": _STRING}
    answer: dict[str, Any] = {
        "n_rows": {"type": "integer", "description": "Rows adapted to."},
        "warnings": _list(_STRING),
        "guard": _object(guard, tuple(guard)),
    }
    if served.reader.keeps:
        answer["id"] = {"type": ["string", "null"]}
        answer["expires_in"] = {**_NUMBER, "description": "Seconds that the predictor is kept."}
    answer["delta"] = _STRING
    if served.constants:
        answer["constants"] = _object(
            {name: _constant(constant) for name, constant in served.constants.items()}, tuple(served.constants)
        )
        ends = dict.fromkeys(("value", "lower_90", "upper_90"), _NUMBER_OR_NULL)
        answer["derived"] = {
            "type": "object",
            "additionalProperties": _object({**ends, "unit": _STRING, "meaning": _STRING}, tuple(ends)),
        }
    return answer


def _constant(constant: Any) -> dict[str, Any]:
    value: dict[str, Any] = dict(_NUMBER_OR_NULL)
    for key, bound in (("minimum", constant["lower"]), ("maximum", constant["upper"])):
        if bound is not None:
            value[key] = bound
    ends = dict.fromkeys(("value", "lower_90", "upper_90"), value)
    more = {"unit": {"const": constant["unit"]}, "identified": {"type": "boolean"}, "reason": _STRING}
    schema = _object({**ends, "standard_error": _NUMBER_OR_NULL, **more}, ("value", "unit"))
    if constant["meaning"]:
        schema["description"] = constant["meaning"]
    return schema


def _error() -> dict[str, Any]:
    place = {
        "field": {"type": ["string", "null"]},
        "task": {"type": ["integer", "null"], "description": "Number of the task, from 0."},
        "row": {"type": ["integer", "null"], "description": "Number of the row, from 0."},
        "column": {"type": ["string", "integer", "null"]},
    }
    codes = {"enum": list(STATUS), "description": " ".join(f"{code}: {text}" for code, (_, text) in STATUS.items())}
    inner = _object({"code": codes, "message": _STRING, **place}, ("code", "message", *place))
    return _object({"error": inner}, ("error",))


def _posted(summary: str, request: str, answer: str, more: tuple[int, ...] = ()) -> dict[str, Any]:
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref(request)}}},
        "responses": {
            "200": {"description": "The answer.", "content": {"application/json": {"schema": _ref(answer)}}},
            **_errors(400, *more, 408, 413, 415, 422, 503),
        },
    }


def _got(summary: str, answer: str | None) -> dict[str, Any]:
    schema = {"type": "object"} if answer is None else _ref(answer)
    content = {"application/json": {"schema": schema}}
    return {"summary": summary, "responses": {"200": {"description": "The answer.", "content": content}}}


def _errors(*statuses: int) -> dict[str, Any]:
    content = {"application/json": {"schema": _ref("Error")}}
    return {
        str(status): {
            "description": " ".join(text for other, text in STATUS.values() if other == status),
            "content": content,
        }
        for status in statuses
    }


def _object(properties: dict[str, Any], required: tuple[str, ...]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}
