"""Compiled fits of classifiers are torch's: labels shared or a task's own, ragged tasks, weights of classes, variants."""

import numpy as np
import pytest

from metaest import MAMLClassifier

pytest.importorskip("llvmlite")
SETTINGS = {
    "hidden_layer_sizes": (8,),
    "dtype": "float64",
    "random_state": 0,
    "max_iter": 12,
    "meta_batch_size": 7,
    "inner_steps": 2,
}


def classes(n_tasks=20, *, own=False, ragged=False):
    rng = np.random.default_rng(0)
    tasks = []
    for i in range(n_tasks):
        n_classes, n_rows = (rng.integers(2, 5), rng.integers(4, 8)) if ragged else (3, 6)
        number = np.repeat(np.arange(n_classes), n_rows)
        X = 2 * rng.normal(size=(n_classes, 4))[number] + rng.normal(size=(len(number), 4))
        prefix = i if own else ""
        tasks.append((X, np.array([f"{prefix}{c}" for c in number])))
    return tasks


CASES = {
    "shared": ({}, {}),
    "ragged": ({"ragged": True}, {}),
    "a task's own": ({"own": True, "ragged": True}, {}),
    "episodes": ({"own": True}, {"n_way": 2, "k_shot": (1, 2), "n_query": 2}),
    "half the rows": ({}, {"support_size": None}),
    "balanced": ({"ragged": True}, {"class_weight": "balanced"}),
    "learned weights": ({"ragged": True}, {"class_weight": "learned", "balanced": True}),
    "given weights": ({"ragged": True}, {"class_weight": {"1": 2.0}}),
    "BOIL": ({"own": True, "ragged": True}, {"adapt_layers": "body"}),
    "ANIL": ({"own": True, "ragged": True}, {"adapt_layers": "head"}),
    "CAVIA": ({}, {"context_dim": 2}),
    "Meta-SGD": ({"own": True}, {"learn_inner_lr": "per-parameter"}),
    "FOMAML": ({"own": True}, {"meta_gradient": "first-order"}),
    "R2D2": ({"own": True, "ragged": True}, {"inner_solver": "ridge"}),
    "ALPaCA": ({}, {"inner_solver": "bayes", "k_shot": 4}),
    "batch normalisation": ({}, {"normalization": "batch", "k_shot": 2}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_compiled_fit_of_classes_is_that_of_torch(name):
    data, settings = CASES[name]
    tasks = classes(**data)
    eager, compiled = (
        MAMLClassifier(**SETTINGS, **settings, compile=compiling).fit(tasks) for compiling in (False, True)
    )
    assert compiled.compiled_, compiled.compiled_reason_
    np.testing.assert_allclose(compiled.history_["meta_loss"], eager.history_["meta_loss"], rtol=1e-9)
    for own, value in eager._params.items():
        np.testing.assert_allclose(compiled._params[own], value, atol=1e-9)
    assert compiled.score(tasks) == eager.score(tasks)


@pytest.mark.usefixtures("optimised")
def test_supports_of_the_tasks_themselves_are_used():
    from metaest import Task

    tasks = [Task(i, X, y, support=[0, 6, 12, 1, 7]) for i, (X, y) in enumerate(classes())]
    eager, compiled = (MAMLClassifier(**SETTINGS, compile=compiling).fit(tasks) for compiling in (False, True))
    assert compiled.compiled_
    np.testing.assert_allclose(compiled.history_["meta_loss"], eager.history_["meta_loss"], rtol=1e-9)


def test_rows_of_many_steps_are_drawn_some_at_a_time(monkeypatch):
    from metaest.estimators.networks import classification

    whole = MAMLClassifier(**SETTINGS, compile=True).fit(classes())
    monkeypatch.setattr(classification, "MOST_NUMBERS", 1)
    single = MAMLClassifier(**SETTINGS, compile=True).fit(classes())
    np.testing.assert_array_equal(whole.predict(classes()[0][0]), single.predict(classes()[0][0]))
    for own, value in whole._params.items():
        np.testing.assert_array_equal(single._params[own], value)
