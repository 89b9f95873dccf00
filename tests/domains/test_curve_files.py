"""A file that cannot be read is named, with the line, column or row; a good one is read whatever Unicode it is in."""

import os
from io import StringIO

import numpy as np
import pandas as pd
import polars as pl
import pytest

from metaest import TaskError
from metaest_domains.kinetics import read_curve_files, read_curves

GOOD = "time,fraction\n1,0.1\n2,0.4\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "good.csv").write_text(GOOD)
    return tmp_path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\n\n  \n", "the file is empty|header but no rows"),
        (b"time,fraction\n", "a header but no rows"),
        ("time,fraction,T in \u00b0C\n1,0.1,20\n".encode("latin-1"), "line 1 .byte 0xb0, in Latin-1 '\u00b0'"),
        (b"time,fraction\n1,0.1\n2,0.4 \xb5\n", "line 3 .byte 0xb5"),
        (GOOD.encode("utf-16-le"), "line 1 holds NUL bytes"),
        (GOOD.encode() + b"\x00\x00", "line 4 holds NUL bytes"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "holds NUL bytes"),
        (b"time;fraction\n1;0.1\n", "pass sep=';'"),
        (b"time\tfraction\n1\t0.1\n", r"pass sep='\\t'"),
        (b"time,fraction\n1,0,1\n2,0,4\n", "have more fields"),
        (b"time,fraction\n1,0.1\n2,0.4,9\n", "have more fields"),
        (b"time,fraction,fraction\n1,0.1,0.2\n", "column 'fraction' occurs twice"),
        (b"time,fraction\n1,0.1\n2\n", "column 'fraction' is missing in row 1"),
        (b"time,fraction\n1,0.1\n2,1e999\n", "column 'fraction' is infinite in row 1"),
        (b"time,fraction\n1,0.1\n2,high\n", "column 'fraction' holds 'high' in row 1"),
        (b"time,fraction\ns,-\n1,0.1\n2,0.4\n", "row of units|which is not a number"),
        (b"time,fraction\n2024-01-01,0.1\n", "column 'time' holds '2024-01-01'"),
        (b"time,conversion\n1,0.1\n", "there is no column 'fraction'"),
        (b'time,fraction\n"1,0.1\n2,0.4\n', "do not fit the header|'fraction' is missing"),
        (b"time,fraction\nTrue,0.1\n", "holds True or False"),
    ],
)
def test_one_bad_file_among_many_is_named(folder, content, message):
    bad = folder / "bad one.csv"
    bad.write_bytes(content)
    with pytest.raises(TaskError, match=f"bad one.csv.*{message}" if "|" not in message else "bad one.csv") as raised:
        read_curve_files([folder / "good.csv", bad])
    assert "good.csv" not in str(raised.value)
    if "|" in message:
        assert raised.match(message)


def test_files_that_are_none_are_named(folder):
    os.mkfifo(folder / "pipe.csv")
    for name, kind, message in (
        ("missing.csv", FileNotFoundError, "does not exist"),
        ("", IsADirectoryError, "this is a folder"),
        ("pipe.csv", OSError, "not a regular file"),
    ):
        with pytest.raises(kind, match=message) as raised:
            read_curve_files({"A": folder / "good.csv", "B": folder / name})
        assert name in str(raised.value)
    with pytest.raises(TaskError, match="this is not the path"):
        read_curves("a\0b.csv")
    (folder / "broken.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(OSError, match="broken.csv.gz"):
        read_curves(folder / "broken.csv.gz")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(folder):
    (folder / "good.csv").chmod(0)
    with pytest.raises(PermissionError, match="good.csv: no permission to read this file"):
        read_curve_files([folder / "good.csv"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_with_a_mark_is_read(folder, encoding):
    (folder / "marked.csv").write_bytes(GOOD.encode(encoding))
    tasks = read_curve_files([folder / "good.csv", folder / "marked.csv"])
    np.testing.assert_array_equal(tasks[0].X, tasks[1].X)
    np.testing.assert_array_equal(tasks[0].y, tasks[1].y)


def test_options_that_hide_rows_are_refused(folder):
    for option in ({"chunksize": 1}, {"iterator": True}, {"on_bad_lines": "skip"}, {"usecols": [0]}):
        with pytest.raises(TypeError, match=next(iter(option))):
            read_curve_files([folder / "good.csv"], **option)
    with pytest.raises(TypeError, match=r"good.csv: pandas.read_csv refuses these options"):
        read_curve_files([folder / "good.csv"], nonsense=1)
    with pytest.raises(TypeError, match="the path of a file or a data frame is required"):
        read_curves(5)
    with pytest.raises(TypeError, match="files must be a list of paths"):
        read_curve_files({folder / "good.csv"})


def test_long_tables_of_polars_and_streams_are_read_as_those_of_pandas():
    table = {"curve": ["A", "A", "B"], "time": [1, 2, 1], "fraction": [0.1, 0.4, 0.2]}
    expected = read_curves(pd.DataFrame(table))
    for given in (pl.DataFrame(table), StringIO(pd.DataFrame(table).to_csv(index=False))):
        tasks = read_curves(given)
        np.testing.assert_array_equal(tasks.X, expected.X)
        np.testing.assert_array_equal(tasks.y, expected.y)
        assert list(tasks.names) == list(expected.names)
