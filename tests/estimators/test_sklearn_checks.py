"""scikit-learn's own estimator checks, with no expected failure."""

import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from metaest import (
    EquationRegressor,
    FewShotClassifier,
    FewShotRegressor,
    HierarchicalGPRegressor,
    MAMLClassifier,
    MAMLRegressor,
    RandomCoefficientRegressor,
    UngroupedWarning,
)

# the checks fit some hundred times on one single "task"; a few of them ask for predictions that have learned something
SMALL = {"max_iter": 100, "hidden_layer_sizes": (10,), "meta_lr": 0.03, "random_state": 0}
SMALL_CLASSES = {**SMALL, "max_iter": 20}
ASK_FOR_QUALITY = {"check_regressors_train", "check_classifiers_train", "check_class_weight_classifiers"}
FEW_STEPS = 5


class Plane:
    """A plane over as many columns as there are: the checks' data have between one and twenty."""

    def __call__(self, X, a, **slopes):
        return a + sum(slope * X[:, j] for j, slope in enumerate(slopes.values()) if j < X.shape[1])

    def __repr__(self):
        return "Plane()"  # the same in every process: it is part of the names of the tests


# fewer constants than the rows that a check of weights leaves: a plane through all of them would not be the only one
PLANE = {"a": 0.0, **{f"slope_{j}": 0.0 for j in range(8)}}


@pytest.mark.filterwarnings(
    "ignore::metaest.UngroupedWarning",
    "ignore::metaest.CorrelatedResidualsWarning",  # of classes in the order of their labels, for instance
    "ignore:one task says nothing",
    "ignore::sklearn.exceptions.ConvergenceWarning",
    "ignore:.*:sklearn.exceptions.SkipTestWarning",
)
@parametrize_with_checks([EquationRegressor(Plane(), PLANE)])
def test_scikit_learn_check_of_an_equation(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore::metaest.UngroupedWarning", "ignore:.*:sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(
    [
        MAMLRegressor(**SMALL),
        FewShotRegressor(MAMLRegressor(**SMALL)),
        RandomCoefficientRegressor("linear"),
        MAMLClassifier(**SMALL_CLASSES),
        FewShotClassifier(MAMLClassifier(**SMALL_CLASSES)),
    ]
)
def test_scikit_learn_check(estimator, check):
    if check.func.__name__ not in ASK_FOR_QUALITY:
        estimator = clone(estimator)
        (max_iter,) = (name for name in estimator.get_params() if name.split("__")[-1] == "max_iter")
        estimator.set_params(**{max_iter: FEW_STEPS})
    check(estimator)


@pytest.mark.filterwarnings(
    "ignore::metaest.UngroupedWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
    "ignore:.*:sklearn.exceptions.SkipTestWarning",
)
@parametrize_with_checks([HierarchicalGPRegressor(n_starts=1, random_state=0)])
def test_scikit_learn_check_of_a_gaussian_process(estimator, check):
    if check.func.__name__ not in ASK_FOR_QUALITY:
        estimator = clone(estimator).set_params(max_iter=FEW_STEPS, warp="none")
    check(estimator)


def test_ungrouped_data_warn():
    with pytest.warns(UngroupedWarning, match="one single task"):
        MAMLRegressor(max_iter=1, random_state=0).fit([[0.0], [1.0]], [0.0, 1.0])
