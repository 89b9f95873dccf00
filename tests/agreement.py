"""Numbers of two different calls agree to rounding; only the same call repeated gives the same bits."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

# Sums of some hundred terms, added up in another order on another processor, differ by some hundred roundings.
ROUNDINGS = 1000


def assert_agree(actual, expected, dtype="float32"):
    """Assert equality to rounding in the type in which the numbers were fitted or adapted, relative to the largest."""
    expected = np.asarray(expected)
    tolerance = ROUNDINGS * float(np.finfo(dtype).eps)
    scale = float(np.abs(expected).max()) if expected.size else 0.0
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * scale)


def assert_same_in_threads(model, tasks, calls, workers=4):
    """Adapt to tasks in turn in several threads that begin together; assert the bits of one thread."""
    expected = [model.adapt(task.X, task.y).predict(task.X) for task in tasks]
    together = threading.Barrier(workers, timeout=30)

    def work(i):
        if i < workers:
            together.wait()
        task = tasks[i % len(tasks)]
        return i % len(tasks), model.adapt(task.X, task.y).predict(task.X)

    with ThreadPoolExecutor(workers) as pool:
        for i, prediction in pool.map(work, range(calls)):
            np.testing.assert_array_equal(prediction, expected[i])
