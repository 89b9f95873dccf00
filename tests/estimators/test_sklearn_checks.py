"""scikit-learn's own estimator checks, with no expected failure."""

import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks

from metaest import FewShotRegressor, MAMLRegressor, UngroupedWarning

torch.set_num_threads(1)

# the checks fit some hundred times on one single "task": a small budget is enough for every one of them
SMALL = {"max_iter": 200, "hidden_layer_sizes": (10,), "meta_lr": 0.03, "random_state": 0}


@pytest.mark.filterwarnings("ignore::metaest.UngroupedWarning", "ignore:.*:sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks([MAMLRegressor(**SMALL), FewShotRegressor(MAMLRegressor(**SMALL))])
def test_scikit_learn_check(estimator, check):
    check(estimator)


def test_ungrouped_data_warn():
    with pytest.warns(UngroupedWarning, match="one single task"):
        MAMLRegressor(max_iter=1).fit([[0.0], [1.0]], [0.0, 1.0])
