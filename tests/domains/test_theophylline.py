import numpy as np
import pytest

from metaest import MAMLRegressor
from metaest_datasets import load_reference
from metaest_domains.physiology.study import leave_one_patient_out, plot_patients, rmse_table


@pytest.fixture(scope="module")
def result():
    model = MAMLRegressor(hidden_layer_sizes=(8,), max_iter=20, random_state=0)
    return leave_one_patient_out(model, methods=("maml", "pooled", "equation_guarded"), n_jobs=1)


@pytest.fixture(scope="module", params=["equation_guarded", "maml"])
def plotted(result, request):
    return request.param, plot_patients(result, method=request.param)


def test_every_support_set_of_the_reference_is_used(result):
    reference = load_reference("theophylline")
    assert result.errors["support"].tolist() == reference["support"].tolist()
    assert np.isfinite(result.errors[["maml", "pooled"]]).all(axis=None)


def test_the_table_repeats_the_reference(result):
    table = rmse_table(result.errors)
    assert table.columns.tolist() == [0, 1, 2, 3, 5]
    assert table.loc["mixed-effects model, nlme (reference)", 5] == pytest.approx(1.236, abs=1e-3)
    assert table.loc["pooled network, not adapted"].notna().all()


def test_the_figure_has_a_panel_a_patient(plotted, tmp_path):
    _, figure = plotted
    assert len(figure.axes) == 12
    used, predicted = figure.axes[0].lines[2:4]
    assert (len(used.get_xdata()), len(predicted.get_xdata())) == (3, 7)
    figure.savefig(tmp_path / "patients.png", dpi=40)
    assert (tmp_path / "patients.png").stat().st_size > 10_000


def test_a_panel_says_where_personalising_harms(plotted):
    method, figure = plotted
    for ax in figure.axes:
        (text,) = ax.texts
        before, after = map(float, text.get_text().split("RMSE ")[1].split(" mg/L")[0].split(" → "))
        assert ("worse than the population" in text.get_text()) == (after > before)
        assert ("guard: " in text.get_text()) == (method == "equation_guarded")


@pytest.mark.slow
def test_with_the_defaults_adapting_beats_the_pooled_network():
    table = rmse_table(leave_one_patient_out().errors)
    ours = table.loc["meta-learned, adapted (MAMLRegressor)"]
    theirs = table.loc["pooled network, not adapted"]
    assert (ours[[2, 3, 5]] < theirs[[2, 3, 5]]).all()
