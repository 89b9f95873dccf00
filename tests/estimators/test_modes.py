"""Fits and answers have the same bits in whatever modes of torch and numpy the caller has switched on."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from metaest import EquationRegressor, MAMLClassifier, MAMLPolicy, MAMLRegressor, Parameter, TaskError, TaskSet
from problems import ragged_tasks

TASKS = ragged_tasks()
NEW = TASKS[0]
LABELS = (TASKS.y > np.median(TASKS.y)).astype(int)
GROUPS = TASKS.names.repeat(TASKS.sizes)
SMALL = {"hidden_layer_sizes": (3,), "max_iter": 2, "random_state": 0, "compile": False}
pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning")


def line(X, a, b):
    return a * X[:, 0] + b


def networks():
    model = MAMLRegressor(**SMALL).fit(TASKS)
    adapted = model.adapt(NEW.X[:2], NEW.y[:2])
    yield from (model.predict(NEW.X), adapted.predict(NEW.X), adapted.partial_adapt(NEW.X, NEW.y).predict(NEW.X))
    yield from (model.adapt_many(TASKS).predict(NEW.X), model.score(TASKS))
    yield model.adapt(NEW.X, NEW.y, guard=True).predict(NEW.X)
    new = TaskSet([(task.X + 1, task.y) for task in TASKS])
    yield from model.calibrate(new, support_size=1).adapt(NEW.X[:1], NEW.y[:1]).predict_interval(NEW.X, level=0.5)
    classifier = MAMLClassifier(**SMALL, shared_labels=True).fit(TASKS.X, LABELS, groups=GROUPS)
    yield classifier.adapt(TASKS.X[:4], LABELS[:4]).predict_proba(NEW.X)
    policy = MAMLPolicy(**SMALL, support_size=1, query_size=1).fit(TASKS)
    yield from (policy.adapt(NEW.X, NEW.y).predict(NEW.X), policy.adapt_many(TASKS)[0].predict(NEW.X))


def equations():
    model = EquationRegressor(line, {"a": Parameter(1.0), "b": 0.0}, max_iter=3, random_state=0).fit(TASKS)
    adapted = model.adapt(NEW.X[:2], NEW.y[:2])
    yield from (model.predict(NEW.X), adapted.predict(NEW.X), *adapted.predict_interval(NEW.X))
    yield from (adapted.params_["value"].to_numpy(), adapted.suggest(NEW.X, 1), adapted.simulate(NEW.X, random_state=0))
    yield from (model.adapt_many(TASKS).predict(NEW.X), model.adapt(NEW.X, NEW.y, guard=True).predict(NEW.X))


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default dtype": lambda: default_dtype(torch.float64),
    "default device": lambda: torch.device("meta"),
    "numpy errors": lambda: np.errstate(all="raise"),
}


@pytest.fixture(scope="module", params=[networks, equations])
def answers(request):
    return request.param, list(request.param())


@pytest.mark.parametrize("mode", MODES)
def test_the_same_bits_in_every_mode(answers, mode):
    work, expected = answers
    with MODES[mode]():
        found = list(work())
        assert torch.is_inference_mode_enabled() == (mode == "inference_mode")
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_call_inside_a_function_transform_says_so():
    model = MAMLRegressor(**SMALL).fit(TASKS)
    with pytest.raises(TaskError, match=r"MAMLRegressor.predict was called inside torch.func"):
        torch.func.vmap(lambda x: x + float(model.predict(NEW.X)[0]))(torch.zeros(2))


def test_a_device_that_is_not_there_is_refused_before_any_work():
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(ValueError, match="device='cuda': torch finds no CUDA device here; take device='cpu'"):
        MAMLRegressor(**SMALL, device="cuda").fit(object())
    with pytest.raises(ValueError, match="'device' parameter"):
        MAMLRegressor(**SMALL, device="meta").fit(TASKS)
