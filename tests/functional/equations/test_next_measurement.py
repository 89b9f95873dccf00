"""Greedy optimal design against determinants and variances computed outright."""

import pytest
import torch

from metaest.functional import choose_rows

GENERATOR = torch.Generator().manual_seed(0)
SLOPES = torch.randn(1, 8, 2, generator=GENERATOR, dtype=torch.float64)
WEIGHTS = 0.5 + torch.rand(1, 8, generator=GENERATOR, dtype=torch.float64)
COVARIANCE = torch.tensor([[1.0, 0.3], [0.3, 0.5]], dtype=torch.float64)


def covariance_after(rows):
    precision = torch.linalg.inv(COVARIANCE)
    for row in rows:
        precision = precision + WEIGHTS[0, row] * torch.outer(SLOPES[0, row], SLOPES[0, row])
    return torch.linalg.inv(precision)


def test_each_row_lowers_the_determinant_most():
    chosen, gains = choose_rows(COVARIANCE, SLOPES, WEIGHTS, 3)
    assert len(set(chosen)) == 3
    for i in range(3):
        values = {
            row: float(torch.logdet(covariance_after([*chosen[:i], row]))) for row in range(8) if row not in chosen[:i]
        }
        assert min(values, key=values.get) == chosen[i]
    lost = torch.logdet(COVARIANCE) - torch.logdet(covariance_after(chosen))
    assert sum(gains) == pytest.approx(float(lost))


def test_each_row_lowers_the_variance_of_the_target_most():
    direction = torch.tensor([0.2, 1.0], dtype=torch.float64)
    chosen, _ = choose_rows(COVARIANCE, SLOPES, WEIGHTS, 3, direction)
    for i in range(3):
        values = {
            row: float(direction @ covariance_after([*chosen[:i], row]) @ direction)
            for row in range(8)
            if row not in chosen[:i]
        }
        assert min(values, key=values.get) == chosen[i]


def test_cost_divides_the_gain():
    (first,), (gain,) = choose_rows(COVARIANCE, SLOPES, WEIGHTS, 1)
    cost = torch.ones(8, dtype=torch.float64)
    cost[first] = 1e6
    (other,), (smaller,) = choose_rows(COVARIANCE, SLOPES, WEIGHTS, 1, cost=cost)
    assert other != first
    assert smaller <= gain


def test_gains_are_averaged_over_draws():
    slopes = torch.zeros(2, 3, 1, dtype=torch.float64)
    slopes[0, 0], slopes[1, 1], slopes[:, 2] = 3.0, 3.0, 2.0
    chosen, _ = choose_rows(torch.eye(1).double(), slopes, torch.ones(2, 3).double(), 3)
    assert chosen[0] == 2  # log(1 + 4) twice beats log(1 + 9) once
    assert sorted(chosen) == [0, 1, 2]


@pytest.mark.parametrize("n", [1, 8])
def test_all_candidates_can_be_chosen_once(n):
    chosen, gains = choose_rows(COVARIANCE, SLOPES, WEIGHTS, n)
    assert len(set(chosen)) == len(gains) == n
