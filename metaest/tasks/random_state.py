"""The generator of random numbers that a `random_state` stands for."""

from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from metaest.tasks.arguments import is_whole

__all__ = ["generator_of"]


def generator_of(random_state: Any) -> np.random.RandomState:
    """Return the generator that a `random_state` stands for.

    Parameters
    ----------
    random_state : int, RandomState instance or None
        None is numpy's global generator, as in scikit-learn.

    Raises
    ------
    ValueError
        When it is none of these, or a whole number that is no seed.
    """
    whole = is_whole(random_state)
    seed = whole and 0 <= random_state < 2**32
    if seed or random_state is None or isinstance(random_state, np.random.RandomState) or random_state is np.random:
        generator: np.random.RandomState = check_random_state(random_state)
        return generator
    raise ValueError(
        "random_state must be a whole number from 0 to 4294967295, a numpy.random.RandomState or None, got "
        f"{random_state!r}."
    )
