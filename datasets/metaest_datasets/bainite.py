"""Two curves of isothermal bainite formation: an example of fitting, with too few tasks for meta-learning."""

import pandas as pd

from metaest import TaskSet
from metaest_datasets.cache import fetch_file

__all__ = ["fetch_bainite"]


def fetch_bainite() -> TaskSet:
    """Return volume fractions of bainite in one steel at 400 C, for two grain sizes of the prior austenite.

    The fractions were measured by dilatometry.

    Returns
    -------
    TaskSet
        2 tasks named "10 um" and "15 um", of 2,401 and 3,589 rows; features ``time`` (s) and ``grain`` (um), target
        ``fraction``, which ends near 0.66 and 0.70 and is slightly negative at first.

    Raises
    ------
    OSError
        When the files are neither in the cache nor available for download.
    ImportError
        When openpyxl is not installed: ``pip install metaest[fetch]``.

    References
    ----------
    D. dos Santos Avila, S. E. Offerman, M. J. Santofimia (2024). Modeling the effect of prior austenite grain size on
    bainite formation kinetics. Acta Materialia 266, 119656. :doi:`10.1016/j.actamat.2024.119656`

    Examples
    --------
    >>> from metaest_datasets import fetch_bainite
    >>> tasks = fetch_bainite()  # doctest: +SKIP
    """
    frames = []
    for grain in (10, 15):
        path = fetch_file(f"bainite_dilatometry/Example3_data_d{grain}.xlsx")
        frame = pd.read_excel(path, names=["time", "fraction"]).astype(float)
        frames.append(frame.assign(grain=float(grain), curve=f"{grain} um"))
    return TaskSet.from_frame(pd.concat(frames), task="curve", features=["time", "grain"], target="fraction")
