"""The server keeps to its own description, whatever is sent: schemathesis makes the requests."""

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from metaest import MAMLClassifier, MAMLRegressor, TaskSet
from metaest.server import Limits, create_app
from metaest_datasets import load_theophylline, make_sinusoids
from metaest_domains.physiology import OneCompartmentRegressor

# schemathesis calls applications through starlette's test client, which would rather have a newer httpx
pytestmark = pytest.mark.filterwarnings("ignore")
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.allow_header_conformance,
]
MODES = {"right": GenerationMode.POSITIVE, "wrong": GenerationMode.NEGATIVE}


def compartment():
    patients = load_theophylline(exclude_time_zero=True)
    return OneCompartmentRegressor(noise="additive", random=["clearance", "absorption"]).fit(patients[:8])


def network():
    tasks = make_sinusoids(30, 8, random_state=0)
    model = MAMLRegressor(max_iter=10, inner_solver="bayes", random_state=0).fit(tasks[:20])
    return model.calibrate(tasks[20:], 2)


def classifier():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    y = np.where(X[:, 0] > 0, "high", "low")
    return MAMLClassifier(max_iter=5, random_state=0).fit(TaskSet([(X[:30], y[:30]), (X[30:], y[30:])]))


def even(body):
    """Give tasks as many values of y as rows of X, which a schema cannot ask for."""
    for task in body.get("tasks", [body]) if isinstance(body, dict) else []:
        if "y" in task:
            n = min(len(task["X"]), len(task["y"]))
            for name in ("X", "y", "sample_weight"):
                if name in task:
                    task[name] = task[name][:n]


def send_all(make, mode, n_examples):
    """Send generated requests to every path; return how many there were by status."""
    app = create_app(make(), compile=False, hosts=None, limits=Limits(max_rows=20, max_tasks=5))
    api = schemathesis.openapi.from_asgi("/openapi.json", app)
    counts = {}
    for result in api.get_all_operations():
        operation = result.ok()
        if mode == "wrong" and operation.method != "post":
            continue

        @seed(0)
        @settings(
            max_examples=n_examples if operation.method == "post" else 5,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=MODES[mode]))
        def check(case):
            if mode == "right":
                even(case.body)
            response = case.call()
            case.validate_response(response, checks=CHECKS)
            counts[response.status_code] = counts.get(response.status_code, 0) + 1

        check()
    return counts


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", [compartment, network, classifier])
def test_the_server_keeps_to_its_description(make, mode):
    counts = send_all(make, mode, 12)
    assert counts
    assert 500 not in counts


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", [compartment, network, classifier])
def test_thousands_of_requests(make, mode):
    counts = send_all(make, mode, 400)
    print(f"{make.__name__}, {mode}: {sum(counts.values())} requests, by status {dict(sorted(counts.items()))}")
    assert 500 not in counts
