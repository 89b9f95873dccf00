"""Continuous glucose monitoring of nineteen people."""

import warnings

import numpy as np

from metaest import TaskSet
from metaest.exceptions import filters_kept
from metaest_datasets.cache import fetch_file

__all__ = ["fetch_hall2018"]


def fetch_hall2018() -> TaskSet:
    """Return glucose of 19 people with diabetes or pre-diabetes, about every five minutes for a week.

    Returns
    -------
    TaskSet
        19 tasks named as in the study, with 1,775 to 2,013 rows each in order of time; feature ``time`` (minutes since
        the first reading of the person), target ``glucose`` (mg/dL).

    Raises
    ------
    OSError
        When the file is neither in the cache nor available for download.
    ImportError
        When rdata is not installed: ``pip install metaest[fetch]``.

    Notes
    -----
    The readings were taken with the Dexcom G4 in daily life. They are of a part of the 57 participants of the study
    [1]_ (CC BY 4.0), as distributed with the R package iglu.

    References
    ----------
    .. [1] H. Hall and others (2018). Glucotypes reveal new patterns of glucose dysregulation. PLoS Biology 16,
       e2005143. :doi:`10.1371/journal.pbio.2005143`

    Examples
    --------
    >>> from metaest_datasets import fetch_hall2018
    >>> people = fetch_hall2018()  # doctest: +SKIP
    """
    try:
        import rdata
    except ImportError as error:
        raise ImportError("reading this file requires rdata: pip install 'metaest[fetch]'.") from error
    with filters_kept(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Missing constructor for R class")
        frame = rdata.read_rda(fetch_file("cgm_hall2018/example_data_hall.rda"))["example_data_hall"]
    frame = frame[["id", "time", "gl"]].sort_values(["id", "time"], kind="stable").reset_index(drop=True)
    minutes = frame["time"] / 60
    frame["time"] = (minutes - minutes.groupby(frame["id"]).transform("min")).astype(np.float64)
    frame = frame.rename(columns={"gl": "glucose"})
    return TaskSet.from_frame(frame, task="id", features=["time"], target="glucose")
