"""Read a CSV file into a data frame, with errors that name the file and the fault."""

import stat
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from metaest.exceptions import TaskError, filters_kept

__all__ = ["read_csv"]

# byte order marks by encoding; the longer ones first, since the short ones are their beginnings
_MARKS = {
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
    b"\xef\xbb\xbf": "utf-8-sig",
}
# options of pandas.read_csv with which it would not return all rows with their columns
_REFUSED = {
    "index_col": "would hide rows that do not fit their header; curve, inputs and target choose.",
    "usecols": "would hide rows that do not fit their header; curve, inputs and target choose.",
    "chunksize": "would read a part of the file.",
    "iterator": "would read a part of the file.",
    "on_bad_lines": "would hide rows that do not fit their header.",
}
_COMPRESSED = {".gz", ".bz2", ".zip", ".xz", ".zst", ".tar"}


def read_csv(path: Any, options: Mapping[str, Any]) -> pd.DataFrame:
    """Read a CSV file; a row with more fields than the header is an error, not an index.

    The encoding is UTF-8 unless the file begins with the mark of another Unicode encoding, or the option encoding is
    given.

    Parameters
    ----------
    path : str or Path, or file object
    options : dict
        For ``pandas.read_csv``.

    Returns
    -------
    DataFrame
        At least one row.

    Raises
    ------
    TaskError
        When the file is empty, binary, in another encoding, or its rows do not fit its header; the message names it.
    OSError
        When the file does not exist, is no regular file or may not be read; the message names it.
    TypeError
        When an option is refused, or unknown to pandas.
    """
    for name, why in _REFUSED.items():
        if name in options:
            raise TypeError(f"{name} {why}")
    if not isinstance(path, (str, Path)) and not hasattr(path, "read"):
        raise TypeError(f"the path of a file or a data frame is required, got {type(path).__name__}.")
    where = getattr(path, "name", "the file") if hasattr(path, "read") else str(path)
    settings = {"index_col": False, **options}
    if not hasattr(path, "read") and "://" not in where:
        settings |= _encoding(Path(path), options)
    try:
        with filters_kept(), warnings.catch_warnings():
            warnings.filterwarnings("error", "Length of header", pd.errors.ParserWarning)
            if not hasattr(path, "read") and not {"header", "names"} & set(options):
                first = pd.read_csv(path, **{**settings, "header": None, "nrows": 1, "dtype": object})
                _refuse_twice(first.iloc[0].tolist(), where)
            frame: pd.DataFrame = pd.read_csv(path, **settings)
    except pd.errors.EmptyDataError as error:
        raise TaskError(f"{where}: the file is empty.") from error
    except (pd.errors.ParserWarning, pd.errors.ParserError) as error:
        raise TaskError(
            f"{where}: the rows do not fit the header, for instance because they have more fields "
            f"({str(error).strip()}); sep= and decimal= may help: sep=';', decimal=',' reads a file that a spreadsheet "
            "with decimal commas wrote."
        ) from error
    except UnicodeError as error:
        raise TaskError(f"{where}: {_wrong_encoding(path, error, settings)}") from error
    except (OSError, EOFError, zlib.error, LookupError) as error:
        raise OSError(f"{where}: the file cannot be read ({error}).") from error
    except (TypeError, ValueError) as error:
        if isinstance(error, TaskError):
            raise
        raise TypeError(f"{where}: pandas.read_csv refuses these options ({error}).") from error
    if not len(frame):
        raise TaskError(f"{where}: the file has a header but no rows.")
    if frame.shape[1] == 1 and "sep" not in options:
        _refuse_other_separator(str(frame.columns[0]), where)
    return frame


def _encoding(path: Path, options: Mapping[str, Any]) -> dict[str, str]:
    """Return the encoding that the byte order mark of a regular file states; raise when the file cannot be text."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(f"{path}: this is a folder; pass the files in it.")
        if not stat.S_ISREG(mode):
            raise OSError(f"{path}: this is not a regular file (but a pipe, a socket or a device).")
        with path.open("rb") as file:
            begin = file.read(4)
            encoding = next((name for mark, name in _MARKS.items() if begin.startswith(mark)), None)
            plain_text = encoding in (None, "utf-8-sig") and "encoding" not in options
            if plain_text and path.suffix not in _COMPRESSED and "compression" not in options:
                _refuse_nul(file, path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: the file does not exist.") from error
    except PermissionError as error:
        raise PermissionError(f"{path}: no permission to read this file.") from error
    except ValueError as error:
        if isinstance(error, TaskError):
            raise
        raise TaskError(
            f"{str(path)!r}: this is not the path of a file: it holds a character that file names cannot have."
        ) from error
    return {} if encoding is None or "encoding" in options else {"encoding": encoding}


def _refuse_nul(file: Any, path: Path) -> None:
    file.seek(0)
    for number, line in enumerate(file, 1):
        if b"\0" in line:
            raise TaskError(
                f"{path}: line {number} holds NUL bytes: the file is binary, or UTF-16 text without a byte order mark; "
                "in that case pass encoding='utf-16-le'."
            )


def _refuse_twice(header: list[Any], where: str) -> None:
    names = [str(name).strip() for name in header if isinstance(name, str)]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise TaskError(f"{where}: column {twice[0]!r} occurs twice in the header; column names must be unique.")


def _refuse_other_separator(header: str, where: str) -> None:
    for separator in (";", "\t", "|"):
        if separator in header:
            raise TaskError(
                f"{where}: the header is the single column {header!r}; pass sep={separator!r}, and decimal=',' if the "
                "numbers have decimal commas."
            )


def _wrong_encoding(path: Any, error: UnicodeError, settings: Mapping[str, Any]) -> str:
    encoding = settings.get("encoding", "utf-8")
    place = ""
    if not hasattr(path, "read") and "://" not in str(path) and Path(path).suffix not in _COMPRESSED:
        for number, line in enumerate(Path(path).read_bytes().splitlines(), 1):
            try:
                line.decode(encoding)
            except UnicodeError as at:
                byte = line[at.start] if isinstance(at, UnicodeDecodeError) else 0
                place = f" in line {number} (byte 0x{byte:02x}, in Latin-1 {bytes([byte]).decode('latin-1')!r})"
                break
    return (
        f"the file is not encoded in {encoding}{place}; pass its encoding, for instance encoding='latin-1' or 'cp1252'."
    )
