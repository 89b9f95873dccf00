"""Tasks: many small related data sets, their support/query splits, and how they are checked."""

from metaest.tasks.class_split import ClassSplit, Drawing, class_widths, split_classes
from metaest.tasks.classes import Classes, encode, encode_known, labels_of, place_among, share_labels
from metaest.tasks.make_episodes import make_episodes
from metaest.tasks.object_rows import ObjectRows
from metaest.tasks.split import Drawn, Split, check_split, draw_batches, order_rows, split_tasks, widths
from metaest.tasks.task import Task
from metaest.tasks.task_set import TaskSet, TasksLike
from metaest.tasks.with_limits import with_limits

__all__ = [
    "ClassSplit",
    "Classes",
    "Drawing",
    "Drawn",
    "ObjectRows",
    "Split",
    "Task",
    "TaskSet",
    "TasksLike",
    "check_split",
    "class_widths",
    "draw_batches",
    "encode",
    "encode_known",
    "labels_of",
    "make_episodes",
    "order_rows",
    "place_among",
    "share_labels",
    "split_classes",
    "split_tasks",
    "widths",
    "with_limits",
]
