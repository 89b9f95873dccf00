"""Pictures of patients: what is drawn is what was computed."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from metaest import Task, TaskError, TaskSet
from metaest_datasets import load_theophylline
from metaest_domains.physiology import (
    OneCompartmentRegressor,
    Regimen,
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


@pytest.fixture(autouse=True)
def no_open_figures():
    yield
    plt.close("all")


def grid(task, times=None):
    times = np.linspace(0.25, 24, 50) if times is None else times
    return np.column_stack([times, np.tile(task.X[0, 1:], (len(times), 1))])


def test_population(study):
    patients, model = study
    ax = plot_population(model, patients[:11], grid(patients[0]))
    assert len(ax.lines) == 12
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), model.predict(grid(patients[0])))
    assert ax.get_ylabel() == "concentration"
    with pytest.raises(TypeError, match="model must be a fitted model"):
        plot_population(patients, model)
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_population(model)


def test_patient(study):
    patients, model = study
    new = patients[11]
    assert plt.get_fignums() == []
    patient = model.adapt(new.X[[1, 4, 7]], new.y[[1, 4, 7]])
    ax = plot_patient(patient, grid(new), model=model, X=new.X, y=new.y, unit="mg/L")
    assert ax is plt.gca()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time (h)", "concentration (mg/L)")
    curves = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(curves["personalised"].get_ydata(), patient.predict(grid(new)))
    np.testing.assert_array_equal(curves["points used"].get_ydata(), new.y[[1, 4, 7]])


def test_a_regimen_marks_its_doses(study):
    patients, model = study
    new = patients[11]
    patient = model.adapt(new.X[[1, 4, 7]], new.y[[1, 4, 7]])
    weight = float(new.X[0, 2])
    regimen = Regimen.repeated(float(new.X[0, 1]), interval=8.0, n=3, weight=weight)
    curves = {line.get_label(): line for line in plot_patient(patient, regimen).lines}
    assert curves["doses"].get_xdata().tolist() == [0, 8, 16]
    time, curve = curves["personalised"].get_data()
    assert (time[0], time[-1]) == (0, 24)  # one interval after the last dose
    np.testing.assert_allclose(curve, patient.predict(model.rows(regimen, time)), rtol=1e-12)
    plt.close("all")
    # the patient's own doses, and those that go on from doses given before
    alone = plot_patient(patient, ax=Figure().subplots())
    personalised = {line.get_label(): line for line in alone.lines}["personalised"]
    np.testing.assert_allclose(
        personalised.get_ydata(), patient.predict(grid(new, personalised.get_xdata())), rtol=1e-12
    )
    assert alone.get_xlim()[1] == patient.X_support_[:, 0].max()
    later = Regimen([16.0], [float(new.X[0, 1])], [0.0], {"weight": weight})
    after = plot_patient(patient, later, given=Regimen(regimen.time[:2], regimen.amount[:2], regimen.duration[:2]), times=[20.0, 23.0], ax=Figure().subplots())  # fmt: skip
    np.testing.assert_allclose(
        after.lines[0].get_ydata(), patient.predict(model.rows(regimen, [20.0, 23.0])), rtol=1e-9
    )
    with pytest.raises(ValueError, match="pass times="):
        plot_population(model, None, Regimen.repeated(4.0, weight=70.0))
    with pytest.raises(ValueError, match="that contain doses; pass a regimen"):
        plot_patient(model.adapt(new.X[:0], new.y[:0]))
    band = plot_population(model, patients[:3], Regimen.repeated(4.0, weight=70.0)).collections[0].get_paths()[0]
    assert band.vertices[:, 0].max() == patients[:3].X[:, 0].max()


@pytest.mark.filterwarnings("ignore::metaest.CorrelatedResidualsWarning")  # absorption differs, and is shared here
def test_what_is_below_the_limit_stands_at_it(study):
    patients, _ = study
    model = OneCompartmentRegressor(noise="additive", random=["clearance"], limit=2.0).fit(patients[:11])
    for code in (0.0, -99.0):
        coded = TaskSet([Task(t.name, t.X, np.where(t.y < 2.0, code, t.y)) for t in patients[:3]])
        frame = pd.DataFrame(coded.X, columns=coded.feature_names)
        tasks = TaskSet.from_arrays(frame, coded.y, coded.names.repeat(coded.sizes))
        ax = plot_population(model, tasks, ax=Figure().subplots())
        assert min(line.get_ydata().min() for line in ax.lines) == 2.0
        ax = plot_predictive_check(model, tasks, n=20, random_state=0, ax=Figure().subplots())
        assert min(line.get_ydata().min() for line in ax.lines) == 2.0


def test_predictive_check(study):
    patients, model = study
    ax = plot_predictive_check(model, patients[:11], n=50, random_state=0)
    assert len(ax.collections) == 3
    for band in ax.collections:  # from the first observation to the last
        ends = band.get_paths()[0].vertices[:, 0]
        assert (ends.min(), ends.max()) == (patients[:11].X[:, 0].min(), patients[:11].X[:, 0].max())
    plt.close("all")
    again = plot_predictive_check(model, patients[:11], n=50, random_state=0)
    for one, other in zip(ax.collections, again.collections, strict=True):
        np.testing.assert_array_equal(one.get_paths()[0].vertices, other.get_paths()[0].vertices)


def test_predictions_and_shrinkage(study):
    patients, model = study
    plt.close("all")
    ax = plot_predictions(model, patients[:11])
    np.testing.assert_allclose(ax.lines[0].get_xdata(), model.predict(patients[:11].X))
    plt.close("all")
    ax = plot_shrinkage(model)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["clearance", "absorption"]
    own = np.sort(model.task_params_["clearance_shrinkage"])
    np.testing.assert_allclose(ax.lines[0].get_ydata(), own)


def test_what_cannot_be_drawn_is_said(study):
    patients, model = study
    patient = model.adapt(patients[0].X, patients[0].y, guard=False)
    for call, message in (
        (
            lambda: plot_predictions(patients, model),
            r"plot_predictions\(model, patients\): model must be a fitted model",
        ),
        (lambda: plot_predictive_check(patient, patients), "model must be a fitted model, got AdaptedEquation"),
        (lambda: plot_shrinkage(patient), r"plot_shrinkage\(model\): model must be a fitted model"),
        (
            lambda: plot_population(model, pd.DataFrame({"time": [1.0]})),
            "patients must be a TaskSet, as read_patients returns",
        ),
        (lambda: plot_patient(patient, [1.0, 2.0]), "regimen must be a Regimen or rows of X"),
        (lambda: plot_shrinkage(model, ax=np.array([1])), "ax must be one Axes of matplotlib, got ndarray"),
    ):
        with pytest.raises(TypeError, match=message):
            call()
    with pytest.raises(TaskError, match="times: time differences were passed"):
        plot_patient(patient, Regimen.repeated(300.0), times=pd.to_timedelta([1, 2], unit="h"))
