"""Labels of 576 ABX3 compositions in five anion families: perovskite or not, by experiment."""

import csv
from functools import cache

import numpy as np
import pandas as pd

from metaest import TaskSet
from metaest_datasets.cache import fetch_file

__all__ = ["fetch_perovskite_labels", "fetch_perovskite_table"]

# columns of the Shannon radii in the file
_RADII = ["rA (Ang)", "rB (Ang)", "rX (Ang)"]
FEATURES = ["r_A", "r_B", "r_X", "n_A", "n_B", "chi_A", "chi_B", "chi_X"]


def fetch_perovskite_table() -> pd.DataFrame:
    """Return composition, label and features of 576 ABX3 compounds.

    Returns
    -------
    DataFrame
        ``formula``, ``A``, ``B``, ``X``; ``perovskite`` (bool); ``is_train`` (True if the authors fitted tau on it);
        ``r_A``, ``r_B``, ``r_X`` (Shannon radii in angstrom); ``n_A``, ``n_B`` (oxidation states); ``chi_A``,
        ``chi_B``, ``chi_X`` (Pauling electronegativities); ``t`` (Goldschmidt) and ``tau``, with the predictions by the
        thresholds of their authors, ``t_predicts`` and ``tau_predicts``.

    Raises
    ------
    OSError
        When a file is neither in the cache nor available for download.

    References
    ----------
    C. J. Bartel, C. Sutton, B. R. Goldsmith, R. Ouyang, C. B. Musgrave, L. M. Ghiringhelli, M. Scheffler (2019). New
    tolerance factor to predict the stability of perovskite oxides and halides. Science Advances 5, eaav0693.
    :doi:`10.1126/sciadv.aav0693`. From the GitHub repository CJBartel/perovskite-stability (MIT).

    Examples
    --------
    >>> from metaest_datasets import fetch_perovskite_table
    >>> table = fetch_perovskite_table()  # doctest: +SKIP
    """
    raw = pd.read_csv(fetch_file("perovskite_tau/TableS1.csv"))
    chi = _electronegativities()
    table = pd.DataFrame({"formula": raw["ABX3"], "A": raw["A"], "B": raw["B"], "X": raw["X"]})
    table["perovskite"] = raw["exp_label"] > 0
    table["is_train"] = raw["is_train"] > 0
    table[["r_A", "r_B", "r_X"]] = raw[_RADII].to_numpy()
    table[["n_A", "n_B"]] = raw[["nA", "nB"]].to_numpy(dtype=float)
    for site in "ABX":
        table[f"chi_{site}"] = raw[site].map(chi)
    table["t"] = raw["t"]
    table["tau"] = raw["tau"]
    table["t_predicts"] = raw["t_pred"] > 0
    table["tau_predicts"] = raw["tau_pred"] > 0
    return table


def fetch_perovskite_labels() -> TaskSet:
    """Return radii, oxidation states and electronegativities with labels; a task is an anion family.

    Returns
    -------
    TaskSet
        5 tasks (O, Cl, F, I, Br; 369, 71, 66, 43 and 27 compositions, strongly imbalanced), 8 features, labels
        ``"perovskite"`` and ``"other"``. The radius and the electronegativity of the anion are constant within a task.

    Raises
    ------
    OSError
        When a file is neither in the cache nor available for download.

    See Also
    --------
    fetch_perovskite_table : Return the same with formulae and the tolerance factors of the authors.

    Examples
    --------
    >>> from metaest_datasets import fetch_perovskite_labels
    >>> tasks = fetch_perovskite_labels()  # doctest: +SKIP
    """
    table = fetch_perovskite_table()
    table["label"] = np.where(table["perovskite"], "perovskite", "other")
    return TaskSet.from_frame(table, task="X", features=FEATURES, target="label")


@cache
def _electronegativities() -> dict[str, float]:
    with fetch_file("perovskite_tau/electronegativities.csv").open(encoding="utf-8-sig", newline="") as file:
        return {row[0]: float(row[1]) for row in csv.reader(file) if row}
