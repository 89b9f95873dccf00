import warnings

import pytest

from metaest.exceptions import warn
from metaest_domains.physiology import read_patients


def test_a_warning_points_at_the_line_of_the_user():
    import pandas as pd

    frame = pd.DataFrame({
        "patient": ["A", "A", "B"], "time": [0.0, 2.0, 0.0], "dose": [1.0, None, 1.0], "concentration": [None, 2.0, None],
    })  # fmt: skip
    with pytest.warns(UserWarning, match="left out") as caught:
        read_patients(frame)
    assert caught[0].filename == __file__


def test_a_direct_call_points_at_its_own_line():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn("here")
    assert caught[0].filename == __file__
