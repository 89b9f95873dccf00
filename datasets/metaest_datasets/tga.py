"""Thermogravimetry of ammonium chloride at three heating rates."""

import pandas as pd

from metaest import TaskSet
from metaest_datasets.cache import fetch_file

__all__ = ["fetch_nh4cl_tga"]


def fetch_nh4cl_tga() -> TaskSet:
    r"""Return the conversion of ammonium chloride heated at 3, 5 and 10 K/min, computed from its mass.

    The conversion is :math:`(m_0 - m) / (m_0 - m_\infty)` with the first and the last mass of each run.

    Returns
    -------
    TaskSet
        3 tasks named "3 K/min" and so on, with 490 rows each; features ``time`` (s since the first row),
        ``temperature`` (K), ``start`` (K, the first temperature) and ``rate`` (K/s), target ``conversion``.

    Raises
    ------
    OSError
        When the file is neither in the cache nor available for download.

    Notes
    -----
    The runs of July 2023 were published with the program Open_ThermoKinetics by the GitHub user kdavjd (MIT licence),
    without reference to a paper.

    Examples
    --------
    >>> from metaest_datasets import fetch_nh4cl_tga
    >>> tasks = fetch_nh4cl_tga()  # doctest: +SKIP
    """
    table = pd.read_csv(fetch_file("nh4cl_tga/NH4_parse_TGA.csv"))
    kelvin = table["temperature"] + 273.15
    frames = []
    for rate in (3, 5, 10):
        mass = table[f"rate_{rate}"]
        frames.append(
            pd.DataFrame(
                {
                    "run": f"{rate} K/min",
                    "time": (kelvin - kelvin.iloc[0]) / (rate / 60),
                    "temperature": kelvin,
                    "start": kelvin.iloc[0],
                    "rate": rate / 60,
                    "conversion": (mass.iloc[0] - mass) / (mass.iloc[0] - mass.iloc[-1]),
                }
            )
        )
    features = ["time", "temperature", "start", "rate"]
    return TaskSet.from_frame(pd.concat(frames), task="run", features=features, target="conversion")
