"""The candidate of "auto" for images whose classes are a task's own: convolutions with a head in closed form."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone

from metaest.estimators.networks.classifier import MAMLClassifier
from metaest.functional.modules.distorted import DistortedConvNet
from metaest.selection.candidates import Candidate
from metaest.selection.labels import Labels
from metaest.tasks import TaskSet

__all__ = ["ImageNetwork", "image_network"]

# classes of an episode in training, at most: telling many apart teaches more than telling a few
WAYS = 40
# support rows of each class there
SHOTS = (1, 3)
# ... and query rows
N_QUERY = 2
# rows of a meta-step, about
BATCH = 160
# episodes of one at most: they are worked through one by one
MOST_EPISODES = 4
# times that a row is seen in training
PASSES = 40
# bounds of the meta-steps that follow
FEWEST = 300
MOST = 6000
# share of these in a trial
TRIAL = 0.1
# ... and its least number
FEWEST_IN_TRIAL = 150
# seconds of an episode of a meta-step
AN_EPISODE = 1e-2
# ... and of a pixel of it
A_PIXEL = 5e-7


@dataclass(frozen=True)
class ImageNetwork:
    """Makes the network for images of a shape; a file can name it."""

    def __call__(self, shape: tuple[int, ...], n_outputs: int) -> DistortedConvNet:
        """Return a network with weights drawn from torch's global generator."""
        return DistortedConvNet(shape, n_outputs)


def image_network(tasks: TaskSet, labels: Labels, settings: dict[str, Any]) -> Candidate:
    """Return the candidate, with as many meta-steps as there are images for."""
    if labels.n_way is None:
        ways = int(np.median([len(np.unique(task.y)) for task in tasks]))
    else:  # of one data set half of the classes, which is fewer than a comparison leaves of them
        ways = max(labels.n_way, min(WAYS, len(np.unique(tasks.y)) // 2 if len(tasks) == 1 else 0))
    an_episode = ways * (sum(SHOTS) / 2 + N_QUERY)
    n_tasks = int(np.clip(round(BATCH / an_episode), 1, MOST_EPISODES))
    if labels.n_way is None:
        n_tasks = min(n_tasks, len(tasks))
    n_rows = n_tasks * an_episode
    steps = int(np.clip(PASSES * len(tasks.X) / n_rows, FEWEST, MOST))
    network = MAMLClassifier(
        module=ImageNetwork(),
        inner_solver="ridge",
        n_way=labels.n_way and ways,
        k_shot=SHOTS,
        n_query=N_QUERY,
        meta_batch_size=n_tasks,
        meta_lr=0.003,
        max_grad_norm=10.0,
        max_iter=steps,
        **settings,
    )
    shorter = clone(network).set_params(max_iter=max(FEWEST_IN_TRIAL, int(TRIAL * steps)))
    a_step = n_tasks * (AN_EPISODE + an_episode * A_PIXEL * float(np.prod(tasks.X.shape[2:])))
    trial, fit = (1.0 + one.max_iter * a_step for one in (shorter, network))
    return Candidate("network for images", network, shorter, (trial, fit))
