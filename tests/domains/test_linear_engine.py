"""Amounts in linear compartments: exact at all rates and times; steady states, resets and constants that change."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from mpmath import mp, mpf
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from metaest_domains.physiology import Regimen, TimeVarying
from metaest_domains.physiology.changing import Changing, Coefficient
from metaest_domains.physiology.doses import Doses
from metaest_domains.physiology.linear_flow import flow_after, rates_of, solved
from metaest_domains.physiology.mammillary import Mammillary
from metaest_domains.physiology.pharmacokinetics import OneCompartment, TwoCompartments

ONE = {"clearance": 4.0, "volume": 70.0}
TWO = {**ONE, "exchange": 6.0, "peripheral": 40.0}
ORAL = {"absorption_rate": 1.1}
MODELS = {
    "one, iv": (OneCompartment, ONE, False), "one, oral": (OneCompartment, ONE | ORAL, True),
    "two, iv": (TwoCompartments, TWO, False), "two, oral": (TwoCompartments, TWO | ORAL, True),
}  # fmt: skip


def tensor(value):
    return torch.tensor([[value]], dtype=torch.float64)


def equation(name, X, changing=None):
    cls, _, oral = MODELS[name]
    doses = Doses.find(list(X.columns), X.shape[1])
    return cls(doses, None, {}, oral, tuple(X.columns), "rate", changing)


def concentrations(name, regimen, times, *, changing=None, by_events=None, **further):
    """Return concentrations; `by_events` says whether they are carried from event to event."""
    X = regimen.rows(times)
    if by_events and not any(column.startswith("dose_reset") for column in X):
        none = pd.DataFrame(0.0, X.index, [f"dose_reset_{i}" for i in range(1, len(regimen.time) + 1)])
        X = pd.concat([X, none], axis=1)
    constants = {
        key: torch.full((len(X),), value, dtype=torch.float64) for key, value in {**MODELS[name][1], **further}.items()
    }
    return equation(name, X, changing)(torch.tensor(X.to_numpy()), **constants).numpy()


RATES = [
    (0.1, 0.05, 0.03, 1.0), (0.1, 0.05, 0.03, 0.1), (1e-3, 5.0, 1.0, 2.0), (3.0, 1e-9, 3.0, 3.0),
    (0.2, 0.0513, 0.1, 0.2 + 1e-12),
]  # fmt: skip


@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize("time", [1e-6, 0.3, 7.0, 200.0])
def test_closed_forms_equal_the_matrix_exponential_of_any_system(rates, time):
    out, there, back, entering = map(tensor, rates)
    for system in (
        Mammillary(out), Mammillary(out, entering=entering), Mammillary(out, there, back),
        Mammillary(out, there, back, entering),
    ):  # fmt: skip
        closed, general = (part.after(tensor(time), inflow=True) for part in (system, system.rates()))
        between, leaving = (part[0, 0].numpy() for part in system.rates())
        matrix = between - np.diag(between.sum(axis=0) + leaving)
        np.testing.assert_allclose(closed.share[0, 0], expm(matrix * time), rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(closed.share, general.share, rtol=1e-10, atol=1e-15)
        np.testing.assert_allclose(closed.inflow, general.inflow, rtol=1e-10, atol=1e-13 * time)
        np.testing.assert_allclose(closed.gone, general.gone, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(general.share.sum(dim=2) + general.gone, 1.0, rtol=1e-14)


@pytest.mark.parametrize("fast", [1e3, 1e7, 1e11])
def test_a_slow_rate_keeps_its_digits_beside_one_that_is_eleven_orders_of_magnitude_faster(fast):
    out, there, back, entering, time = 0.7, fast, 0.3 * fast, 0.9 * fast, 5.0
    leaf = tensor(out).requires_grad_()
    system = Mammillary(leaf, tensor(there), tensor(back), tensor(entering))
    with mp.workdps(60):
        matrix = mp.matrix(3, 3)
        for (i, j), rate in {(1, 0): entering, (2, 1): there, (1, 2): back}.items():
            matrix[i, j] += mpf(rate)
            matrix[j, j] -= mpf(rate)
        matrix[1, 1] -= mpf(out)
        exact = np.array([[float(x) for x in row] for row in mp.expm(matrix * mpf(time)).tolist()])
        step = mpf(10) ** -25
        first = mp.expm(matrix * mpf(time))[1, 0]
        matrix[1, 1] -= step
        slope = float((mp.expm(matrix * mpf(time))[1, 0] - first) / step)
    for flow in (flow_after(system.rates(), tensor(time), inflow=False), system.after(tensor(time), inflow=False)):
        share = flow.share[0, 0].detach().numpy()
        there_is = exact > 1e-250
        np.testing.assert_allclose(share[there_is], exact[there_is], rtol=1e-12)
        (gradient,) = torch.autograd.grad(flow.share[0, 0, 1, 0], leaf)
        assert gradient.item() == pytest.approx(slope, rel=1e-11)


def test_amounts_at_which_inflow_equals_outflow():
    rng = np.random.default_rng(0)
    between, out = rng.uniform(size=(4, 4)), rng.uniform(size=4)
    np.fill_diagonal(between, 0.0)
    entering = rng.uniform(size=4)
    amounts = solved(*(torch.tensor(part) for part in (between, out, entering))).numpy()
    np.testing.assert_allclose((np.diag(between.sum(axis=0) + out) - between) @ amounts, entering, rtol=1e-12)
    # a loss that is hardly there: the sum of what leaves is what enters, to all digits
    little = solved(torch.tensor(between), torch.tensor(1e-13 * out), torch.tensor(entering)).numpy()
    assert (1e-13 * out * little).sum() == pytest.approx(entering.sum(), rel=1e-13)


def test_rates_stand_where_they_belong():
    rates = rates_of(2, {(1, 0): tensor(2.0)}, {1: tensor(3.0)})
    assert rates.between[0, 0].tolist() == [[0.0, 0.0], [2.0, 0.0]]
    assert rates.out[0, 0].tolist() == [0.0, 3.0]


TIMES = np.array([0.0, 0.2, 1.0, 5.0, 11.0, 12.0, 13.5, 26.0, 100.0])


@pytest.mark.parametrize("name", MODELS)
def test_events_and_superposition_agree(name):
    duration = 0.0 if MODELS[name][2] else [2.0, 0.0, 20.0]
    regimen = Regimen([0.0, 5.0, 12.0], [100.0, 50.0, 80.0], duration)
    lag = {"lag": 0.3} if MODELS[name][2] else {}
    plain, events = (concentrations(name, regimen, TIMES, by_events=b, **lag) for b in (False, True))
    np.testing.assert_allclose(events, plain, rtol=1e-10, atol=1e-15)


def test_derivatives_of_both_agree():
    X = Regimen([0.0, 12.0], [100.0, 80.0]).rows(TIMES)
    results = []
    for rows in (X, X.assign(dose_reset_1=0.0, dose_reset_2=0.0)):
        constants = {
            key: torch.full((len(X),), value, dtype=torch.float64).requires_grad_()
            for key, value in (TWO | ORAL).items()
        }
        values = equation("two, oral", rows)(torch.tensor(rows.to_numpy()), **constants)
        first = torch.autograd.grad(values.sum(), list(constants.values()), create_graph=True)
        second = torch.autograd.grad(sum(part.sum() for part in first), list(constants.values()))
        results.append(torch.stack([*first, *second]).detach())
    torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("lag", [0.0, 0.7, 12.0, 30.0])
def test_a_steady_state_equals_many_doses(name, lag):
    oral = MODELS[name][2]
    if lag and not oral:
        pytest.skip("doses into a vein have no lag")
    further = {"lag": lag} if lag else {}
    n, interval, at = 800, 12.0, 9600.0
    for duration in [0.0] if oral else [0.0, 3.0, 12.0, 30.0]:
        many = Regimen(at - interval * np.arange(n)[::-1], 100.0, duration)
        steady = Regimen([at], 100.0, duration, interval=interval, steady=1)
        times = at + np.array([0.0, 0.5, 3.0, 11.0, 20.0, 45.0])
        expected = concentrations(name, many, times, by_events=True, **further)
        np.testing.assert_allclose(concentrations(name, steady, times, **further), expected, rtol=1e-8)


def test_a_second_steady_state_adds_and_the_first_replaces():
    times = np.array([24.5, 30.0, 47.0])
    before = Regimen([0.0], 100.0)
    alone = concentrations("two, iv", Regimen([24.0], 80.0, interval=12.0, steady=1), times)
    for kind in (1, 2):
        both = Regimen([0.0, 24.0], [100.0, 80.0], interval=12.0, steady=[0, kind])
        left = concentrations("two, iv", before, times) if kind == 2 else 0.0
        np.testing.assert_allclose(concentrations("two, iv", both, times), alone + left, rtol=1e-12)


def test_an_endless_infusion_that_stops():
    plateau = Regimen([24.0], 0.0, rate=50.0, steady=1)
    at_plateau, later = concentrations("one, iv", plateau, [24.0, 34.0])
    assert at_plateau == pytest.approx(50.0 / 4.0)
    assert later == pytest.approx(50.0 / 4.0 * math.exp(-4.0 / 70.0 * 10.0))


def test_after_a_reset_nothing_of_earlier_doses_is_left():
    times = np.array([12.0, 20.0, 30.0])
    reset = Regimen([0.0, 12.0, 24.0], [100.0, 50.0, 70.0], [40.0, 0.0, 0.0], reset=[0, 1, 0])
    alone = Regimen([12.0, 24.0], [50.0, 70.0])
    np.testing.assert_array_equal(
        concentrations("two, iv", reset, times), concentrations("two, iv", alone, times, by_events=True)
    )
    emptied = Regimen([0.0, 12.0, 24.0], [100.0, 0.0, 70.0], reset=[0, 1, 0])
    assert concentrations("two, iv", emptied, [11.9])[0] > 0
    assert concentrations("two, iv", emptied, [12.0, 20.0]).tolist() == [0.0, 0.0]


def test_records_with_further_doses_give_the_bits_of_their_doses_one_by_one():
    records = Regimen([0.0], 100.0, interval=8.0, number=6, rate=40.0)
    alone = Regimen(8.0 * np.arange(6), 100.0, rate=40.0)
    np.testing.assert_array_equal(concentrations("two, iv", records, TIMES), concentrations("two, iv", alone, TIMES))


def test_a_dose_into_the_central_compartment_of_an_oral_model():
    into_vein = Regimen([0.0, 3.0], [100.0, 60.0], [0.0, 4.0], compartment=2)
    plain = Regimen([0.0, 3.0], [100.0, 60.0], [0.0, 4.0])
    computed, expected = concentrations("two, oral", into_vein, TIMES), concentrations("two, iv", plain, TIMES)
    np.testing.assert_allclose(computed, expected, rtol=1e-10)


def test_a_rate_says_how_long_an_infusion_lasts():
    by_rate, lasting = Regimen([0.0], 100.0, rate=25.0), Regimen([0.0], 100.0, 4.0)
    computed, expected = concentrations("one, iv", by_rate, TIMES), concentrations("one, iv", lasting, TIMES)
    np.testing.assert_allclose(computed, expected, rtol=1e-12)


def integrated(times, value_at, doses, lag=0.0):
    """Return concentrations of an oral model by fine integration, of which the clearance follows a covariate."""
    constants = TWO | ORAL
    V, Q, Vp, ka = (constants[key] for key in ("volume", "exchange", "peripheral", "absorption_rate"))
    ends = sorted({*(at + lag for at, _ in doses), *BREAKS, *times})

    def slope(t, x, value):
        k = constants["clearance"] * math.exp(0.3 * (value - 80.0) / 10.0) / V
        return [-ka * x[0], ka * x[0] - (k + Q / V) * x[1] + Q / Vp * x[2], Q / V * x[1] - Q / Vp * x[2]]

    x, now, level_at = np.zeros(3), 0.0, {}
    for end in ends:
        if end > now:
            value = value_at(0.5 * (now + end))
            answer = solve_ivp(slope, (now, end), x, "DOP853", rtol=1e-11, atol=1e-13, args=(value,))
            x, now = answer.y[:, -1], end
        x = x + np.array([sum(amount for at, amount in doses if at + lag == end), 0.0, 0.0])
        level_at[end] = x[1] / V
    return np.array([level_at[time] for time in times])


BREAKS, VALUES = [0.0, 9.0, 20.0, 40.0], [80.0, 60.0, 95.0, 70.0]


@pytest.mark.parametrize("method", ["locf", "nocb"])
@pytest.mark.parametrize("lag", [0.0, 1.5])
def test_constants_that_change_equal_a_fine_integration(method, lag):
    doses = [(0.0, 100.0), (12.0, 80.0), (20.0, 50.0)]
    path = TimeVarying(BREAKS, VALUES)
    regimen = Regimen([at for at, _ in doses], [amount for _, amount in doses], covariates={"crcl": path})
    changing = Changing((("crcl", method),), None, (), (Coefficient("slope", "clearance", "crcl", 80.0, 10.0),))

    def value_at(time):
        if method == "locf":
            return VALUES[int(np.searchsorted(BREAKS, time, "right")) - 1]
        return VALUES[min(int(np.searchsorted(BREAKS, time, "left")), len(VALUES) - 1)]

    times = np.array([0.5, 5.0, 13.0, 19.0, 30.0, 39.0, 60.0])
    further = {"lag": lag} if lag else {}
    computed = concentrations("two, oral", regimen, times, changing=changing, slope=0.3, **further)
    np.testing.assert_allclose(computed, integrated(times, value_at, doses, lag), rtol=1e-6)


def test_a_covariate_that_stays_the_same_changes_nothing():
    changing = Changing((("crcl", "locf"),), None, (), (Coefficient("slope", "clearance", "crcl", 80.0, 10.0),))
    regimen = Regimen([0.0, 12.0], [100.0, 80.0], covariates={"crcl": TimeVarying([0.0, 9.0, 30.0], [90.0] * 3)})
    computed = concentrations("two, iv", regimen, TIMES, changing=changing, slope=0.3)
    plain = Regimen([0.0, 12.0], [100.0, 80.0])
    expected = concentrations("two, iv", plain, TIMES, clearance=4.0 * math.exp(0.3))
    np.testing.assert_allclose(computed, expected, rtol=1e-12)
