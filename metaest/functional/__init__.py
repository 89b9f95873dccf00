"""The torch core: inner solvers, meta-gradients and the one outer loop, as functions on tensors.

It knows nothing of tasks, of scikit-learn or of units; the estimators speak to it in padded batches.
"""

from metaest.functional.damping import solve_damped
from metaest.functional.forward import ModuleForward, looped, mapped, repeat_for_tasks
from metaest.functional.inner import GradientDescent
from metaest.functional.losses import cross_entropy, squared_error
from metaest.functional.maml import MetaGradient, task_losses
from metaest.functional.mlp import ACTIVATIONS, MLP
from metaest.functional.outer import Callback, OuterLoop, OuterResult, StepInfo
from metaest.functional.scaling import Scaling
from metaest.functional.types import BatchForward, Episodes, Forward, Loss, Params, Rows

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "BatchForward",
    "Callback",
    "Episodes",
    "Forward",
    "GradientDescent",
    "Loss",
    "MetaGradient",
    "ModuleForward",
    "OuterLoop",
    "OuterResult",
    "Params",
    "Rows",
    "Scaling",
    "StepInfo",
    "cross_entropy",
    "looped",
    "mapped",
    "repeat_for_tasks",
    "solve_damped",
    "squared_error",
    "task_losses",
]
