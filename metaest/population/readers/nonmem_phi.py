"""Constants of individuals from a NONMEM .phi file."""

from os import PathLike

import pandas as pd

from metaest.population.readers.nonmem_tables import read_table

__all__ = ["read_nonmem_phi"]


def read_nonmem_phi(path: str | PathLike[str], *, table: int | None = None) -> pd.DataFrame:
    """Read what a NONMEM run says of each individual.

    Parameters
    ----------
    path : str or path
        Such as ``"run1.phi"``.
    table : int, optional
        Number of the table; required where there are several.

    Returns
    -------
    DataFrame
        One row an individual, with its ID as the index, in the order of the file; an ID that comes again is another
        individual. Columns are those of the file, such as ``ETA(1)`` and ``ETC(2,1)``, the mode of an eta and the
        covariances of its posterior (of conditional estimation), or ``PHI(1)`` and ``PHC(2,1)``, the mean and the
        covariances of phi (of expectation maximisation), and ``OBJ``.

    Raises
    ------
    ValueError
        When it is no such file, or has several tables and none was chosen.
    OSError
        When the file cannot be opened.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from metaest.population import read_nonmem_phi
    >>> text = '''TABLE NO.     1: First Order Conditional Estimation: Problem=1 Subproblem=0
    ...  SUBJECT_NO   ID           ETA(1)       ETC(1,1)     OBJ
    ...             1          101 -4.38608E-02  2.48833E-02    5.94
    ...             2          102  9.59341E-02  2.21606E-02    9.98
    ... '''
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "run1.phi"
    ...     _ = file.write_text(text)
    ...     read_nonmem_phi(file)["ETA(1)"].to_dict()
    {101: -0.0438608, 102: 0.0959341}
    """
    content = read_table(path, "SUBJECT_NO", table)
    if "ID" not in content.labels:
        raise ValueError(f"the file {path}: table {content.number} has no column ID.")
    if len(set(content.labels)) < len(content.labels):
        raise ValueError(f"the file {path}: a label comes twice in table {content.number}.")
    frame = pd.DataFrame(content.rows, columns=list(content.labels)).drop(columns="SUBJECT_NO")
    if (frame["ID"] % 1 == 0).all():
        frame["ID"] = frame["ID"].astype("int64")
    return frame.set_index("ID")
