"""The candidates of "auto" for classes, the simplest first."""

import math
from typing import Any

import numpy as np
from sklearn.base import clone

from metaest.estimators.gaussian.random_coefficients.regressor import RandomCoefficientRegressor
from metaest.estimators.networks.classifier import MAMLClassifier
from metaest.selection.candidates import (
    FEWEST_TASKS,
    STEPS,
    TRIAL_STEPS,
    WEIGHTS_A_ROW,
    Candidate,
    rows_of_trial_and_fit,
    seconds_of_trees,
)
from metaest.selection.gaussian_classes import HierarchicalGaussianClassifier
from metaest.selection.image_network import image_network
from metaest.selection.indicators import IndicatorClassifier
from metaest.selection.labels import Labels
from metaest.tasks import TaskSet

__all__ = ["default_class_candidates"]

# classes up to which there is a regression for the indicator of each
MOST_INDICATORS = 5
# numbers of a row up to which Gaussian classes are offered: their covariances are solved
MOST_NUMBERS = 1500
# support rows that networks are trained for: of a task, or of each class
NETWORK_SHOTS = (1, 10)
# query rows of a class where an episode is drawn from the classes of a task
N_QUERY = 15


def default_class_candidates(tasks: TaskSet, labels: Labels, split: str, seed: int) -> list[Candidate]:
    """Return the candidates of "auto" for tasks of this shape, the simplest first."""
    shared, size = labels.classes is not None, int(np.prod(tasks.X.shape[1:]))
    rows = rows_of_trial_and_fit(tasks)
    offered = []
    if size <= MOST_NUMBERS:
        gaussian = HierarchicalGaussianClassifier(shared_labels=shared, n_way=labels.n_way)
        trial, fit = (0.1 + 3e-9 * (n * size**2 + size**3) + 2e-3 * min(len(tasks), 100) for n in rows)
        offered.append(Candidate("Gaussian classes", gaussian, gaussian, (trial, fit)))
    if shared and tasks.X.ndim == 2 and labels.width <= MOST_INDICATORS:
        n_fits = 1 if labels.width == 2 else labels.width
        levels = IndicatorClassifier(RandomCoefficientRegressor(random="intercept", split=split, random_state=seed))
        trial, fit = (n_fits * seconds_of_trees(n * (size + 1)) for n in rows)
        offered.append(Candidate("boosted trees and levels", levels, levels, (trial, fit)))
    n_episodes = len(tasks) if labels.n_way is None else math.comb(len(np.unique(tasks.y)), labels.n_way)
    if n_episodes >= FEWEST_TASKS or not offered:
        settings: dict[str, Any] = {"shared_labels": shared, "split": split, "random_state": seed}
        if tasks.X.ndim == 4 and not shared:
            offered.append(image_network(tasks, labels, settings))
        else:
            offered += _networks(tasks, labels, settings)
    return offered


def _networks(tasks: TaskSet, labels: Labels, settings: dict[str, Any]) -> list[Candidate]:
    """Return networks with a head in closed form, and by gradient steps."""
    shared, image = labels.classes is not None, tasks.X.ndim > 2
    settings = {**settings, "support_size" if shared else "k_shot": NETWORK_SHOTS}
    an_episode = len(tasks.X) / len(tasks)
    if labels.n_way is not None:
        settings |= {"n_way": labels.n_way, "n_query": N_QUERY}
        an_episode = min(an_episode, labels.n_way * (sum(NETWORK_SHOTS) / 2 + N_QUERY))
    head = MAMLClassifier(inner_solver="bayes" if shared else "ridge", **settings)
    offered = [("network with a head in closed form", head, 1.0)]
    if not image:
        offered.append(("network by gradient steps", MAMLClassifier(**settings), 4.0))
    made = []
    for name, network, times in offered:
        n_tasks = network.meta_batch_size if labels.n_way is not None else min(len(tasks), network.meta_batch_size)
        # a pixel of a network of convolutions costs as much as its channels
        a_row = 5e-6 * np.prod(tasks.X.shape[2:]) if image else 3e-8 * (tasks.X.shape[1] + WEIGHTS_A_ROW)
        trial, fit = (0.5 + times * n * (3e-3 + n_tasks * an_episode * a_row) for n in (TRIAL_STEPS, STEPS))
        shorter = clone(network).set_params(max_iter=TRIAL_STEPS)
        made.append(Candidate(name, network, shorter, (float(trial), float(fit))))
    return made
