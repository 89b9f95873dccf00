"""Pictures of patients: what is drawn is what was computed."""

import numpy as np
import pytest

from metaest_datasets import load_theophylline
from metaest_domains.physiology import (
    OneCompartmentRegressor,
    plot_patient,
    plot_population,
    plot_predictions,
    plot_predictive_check,
    plot_shrinkage,
)

pytestmark = pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")


@pytest.fixture(scope="module")
def study():
    patients = load_theophylline(exclude_time_zero=True)
    model = OneCompartmentRegressor(noise="additive", random=["clearance", "absorption"]).fit(patients[:11])
    return patients, model


def grid(task):
    times = np.linspace(0.25, 24, 50)
    return np.column_stack([times, np.tile(task.X[0, 1:], (50, 1))])


def test_population(study):
    patients, model = study
    ax = plot_population(patients[:11], model, grid(patients[0]))
    assert len(ax.lines) == 12
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), model.predict(grid(patients[0])))
    assert ax.get_ylabel() == "concentration"


def test_patient(study):
    patients, model = study
    new = patients[11]
    patient = model.adapt(new.X[[1, 4, 7]], new.y[[1, 4, 7]])
    ax = plot_patient(patient, grid(new), model=model, X=new.X, y=new.y)
    curves = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(curves["personalised"].get_ydata(), patient.predict(grid(new)))
    np.testing.assert_array_equal(curves["points used"].get_ydata(), new.y[[1, 4, 7]])


def test_predictive_check(study):
    patients, model = study
    ax = plot_predictive_check(model, patients[:11], n=50, random_state=0)
    assert len(ax.collections) == 3
    again = plot_predictive_check(model, patients[:11], n=50, random_state=0)
    for one, other in zip(ax.collections, again.collections, strict=True):
        np.testing.assert_array_equal(one.get_paths()[0].vertices, other.get_paths()[0].vertices)


def test_predictions_and_shrinkage(study):
    patients, model = study
    ax = plot_predictions(model, patients[:11])
    np.testing.assert_allclose(ax.lines[0].get_xdata(), model.predict(patients[:11].X))
    ax = plot_shrinkage(model)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["clearance", "absorption"]
    own = np.sort(model.task_params_["clearance_shrinkage"])
    np.testing.assert_allclose(ax.lines[0].get_ydata(), own)
