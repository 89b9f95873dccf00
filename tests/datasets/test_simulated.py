import numpy as np
import pytest

from metaest_datasets import make_linear_tasks, make_sinusoids


def test_sinusoids_are_sinusoids():
    for task in make_sinusoids(20, 12, frequency=2.0, random_state=0):
        basis = np.column_stack([np.sin(2 * task.X[:, 0]), np.cos(2 * task.X[:, 0])])
        coefficients, residual, *_ = np.linalg.lstsq(basis, task.y, rcond=None)
        assert residual[0] < 1e-18
        assert 0.1 <= np.hypot(*coefficients) <= 5
        assert np.abs(task.X).max() <= 5


def test_sinusoids_differ_in_frequency_where_asked_and_are_seeded():
    one, two = (make_sinusoids(3, 5, frequency=(0.8, 1.2), noise=0.1, random_state=7) for _ in range(2))
    np.testing.assert_array_equal(one.y, two.y)
    assert not np.array_equal(one.y, make_sinusoids(3, 5, random_state=7).y)


def test_the_bayes_answer_is_that_of_conditioning_a_joint_normal():
    """Check the posterior mean against Gaussian conditioning of (w, y) by block inversion."""
    tasks, population = make_linear_tasks(4, 6, 2, noise=0.4, between_task_sd=0.7, random_state=1)
    for task in tasks:
        A = np.column_stack([task.X, np.ones(6)])
        precision = np.linalg.inv(population.covariance) + A.T @ A / 0.4**2
        right = np.linalg.solve(population.covariance, population.mean) + A.T @ task.y / 0.4**2
        np.testing.assert_allclose(population.posterior_mean(task.X, task.y), np.linalg.solve(precision, right))


def test_no_other_linear_prediction_beats_the_bayes_answer():
    tasks, population = make_linear_tasks(3000, 8, random_state=2)
    X = tasks.X.reshape(3000, 8, 1)
    y = tasks.y.reshape(3000, 8)
    errors = {"bayes": [], "least squares": [], "population": []}
    for i in range(3000):
        predictions = {
            "bayes": population.predict(X[i, :3], y[i, :3], X[i, 3:]),
            "least squares": np.polyval(np.polyfit(X[i, :3, 0], y[i, :3], 1), X[i, 3:, 0]),
            "population": X[i, 3:, 0] * population.mean[0] + population.mean[1],
        }
        for name, prediction in predictions.items():
            errors[name].append(np.square(prediction - y[i, 3:]).mean())
    means = {name: np.mean(values) for name, values in errors.items()}
    assert means["bayes"] < means["least squares"]
    assert means["bayes"] < means["population"]
    assert means["bayes"] > 0.3**2


def test_without_rows_the_bayes_answer_is_the_population():
    _, population = make_linear_tasks(3, random_state=0)
    np.testing.assert_allclose(population.posterior_mean(np.empty((0, 1)), []), population.mean)


def test_coefficients_belong_to_their_tasks():
    tasks, population = make_linear_tasks(5, 200, noise=1e-6, random_state=3)
    for task, own in zip(tasks, population.coefficients, strict=True):
        assert np.polyfit(task.X[:, 0], task.y, 1) == pytest.approx(own, abs=1e-5)
