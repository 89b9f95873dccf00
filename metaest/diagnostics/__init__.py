"""Is meta-learning worth it here? Baselines to compare with, and the leave-one-task-out comparison itself."""

from metaest.diagnostics.baselines import ScratchRegressor, fine_tuned, from_scratch, pooled
from metaest.diagnostics.leave_one_out import LeaveOneOut, leave_one_task_out
from metaest.diagnostics.pretrained import pretrained

__all__ = [
    "LeaveOneOut",
    "ScratchRegressor",
    "fine_tuned",
    "from_scratch",
    "leave_one_task_out",
    "pooled",
    "pretrained",
]
