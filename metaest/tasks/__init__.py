"""Tasks: many small related data sets, their support/query splits, and how they are checked."""

from metaest.tasks.split import Split, check_split, split_tasks
from metaest.tasks.task import Task
from metaest.tasks.task_set import TaskSet

__all__ = ["Split", "Task", "TaskSet", "check_split", "split_tasks"]
