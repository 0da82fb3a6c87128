"""Tables as CSV and Parquet, and many of them joined into one without holding them all in memory."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Literal

from napari_matseg.core.export import replacing
from napari_matseg.errors import InputError, MatsegError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pandas import DataFrame

TableKind = Literal["csv", "parquet"]
FILE = "file"
"""Column of a joined table that says which file a row is of."""
AT_ONCE = 100_000
"""Rows of Parquet that are written together; a group for each small file would make a table slow to read."""


def printable(text: str) -> str:
    r"""Write out what cannot be written as UTF-8: bytes of a file's name that are no text.

    Examples
    --------
    >>> printable("µ\udce9.tif")
    'µ\\udce9.tif'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def write_table(path: Path, frame: DataFrame) -> None:
    """Write a table, whole or not at all, as CSV or, where the name ends in .parquet, as Parquet.

    Parameters
    ----------
    path : Path
    frame : DataFrame
        Its index is left out. In CSV what is missing is empty, and numbers have all their digits.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with replacing(path) as temporary:
        if path.suffix == ".parquet":
            frame.to_parquet(temporary, engine="pyarrow", index=False)
        else:
            frame.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")


def write_tables(path: Path, frame: DataFrame, kinds: Iterable[TableKind]) -> dict[str, Path]:
    """Write a table in each of some kinds.

    Parameters
    ----------
    path : Path
        Without ending.
    frame : DataFrame
    kinds : iterable of {"csv", "parquet"}

    Returns
    -------
    dict
        Files by kind.

    Raises
    ------
    OutputError
        If one cannot be written.
    """
    files: dict[str, Path] = {kind: path.with_name(f"{path.name}.{kind}") for kind in kinds}
    for file in files.values():
        write_table(file, frame)
    return files


def read_table(path: Path) -> DataFrame:
    """Read a table that `write_table` wrote.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    import pandas as pd

    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path, engine="pyarrow")
        # A class may be called "NA", or "1".
        return pd.read_csv(path, dtype={"class": "str"}, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:  # of pandas and of pyarrow alike
        raise _unreadable(path, error) from error


def join_tables(parts: Mapping[str, Path], path: Path) -> list[str]:
    """Put the tables of many files below each other, one after the other, with the file's name in the first column.

    Parameters
    ----------
    parts : mapping of str to Path
        Tables, all of the kind of `path`, by the names of the files that they are of. Columns that one lacks are empty
        in its rows.
    path : Path
        Ends in .csv or .parquet.

    Returns
    -------
    list of str
        Which tables were left out and why.

    Raises
    ------
    OutputError
        If the joined table cannot be written.
    """
    return (_join_parquet if path.suffix == ".parquet" else _join_csv)(parts, path)


def _join_csv(parts: Mapping[str, Path], path: Path) -> list[str]:
    notes: list[str] = []
    headers: dict[str, list[str]] = {}
    for name, part in parts.items():
        try:
            with part.open(encoding="utf-8", newline="") as lines:
                headers[name] = next(csv.reader(lines), [])
        except (OSError, ValueError, csv.Error) as error:
            notes.append(left_out(name, _unreadable(part, error)))
    columns = _union(headers.values())
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as joined:
        joined.write(_line([FILE, *columns]))
        for name, header in headers.items():
            try:
                with parts[name].open(encoding="utf-8", newline="") as lines:
                    rows = _rows(printable(name), lines.read(), header, columns)
            except (OSError, ValueError, csv.Error) as error:
                notes.append(left_out(name, _unreadable(parts[name], error)))
            else:
                joined.write(rows)
    return notes


def _rows(name: str, text: str, header: Sequence[str], columns: Sequence[str]) -> str:
    """Text of a table's rows, with the name before each."""
    # Where each line is a row, they need not be taken apart, which is ten times as fast.
    if header == columns and '"' not in text and "\r" not in text:
        start = _line([name]).removesuffix("\n")
        return "".join(f"{start},{line}\n" for line in text.split("\n")[1:] if line)
    place = {column: i for i, column in enumerate(header)}
    order = [place.get(column, len(header)) for column in columns]
    rows = csv.reader(io.StringIO(text, newline=""))
    next(rows, None)
    return "".join(_line([name, *(row[i] if i < len(row) else "" for i in order)]) for row in rows)


def _line(values: Sequence[str]) -> str:
    line = io.StringIO(newline="")
    csv.writer(line).writerow(values)  # which quotes what ends with its own "\r\n" only
    return line.getvalue().removesuffix("\r\n") + "\n"


def _join_parquet(parts: Mapping[str, Path], path: Path) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    notes: list[str] = []
    known: dict[str, Path] = {}
    schema = pa.schema([])
    for name, part in parts.items():
        try:
            schema = pa.unify_schemas([schema, pq.read_schema(part).remove_metadata()], promote_options="permissive")
            known[name] = part
        except (OSError, pa.ArrowException) as error:
            notes.append(left_out(name, _unreadable(part, error)))
    fields = [schema.field(column) for column in _union([schema.names])]
    schema = pa.schema([pa.field(FILE, pa.string()), *fields])

    def of_file(name: str) -> pa.Table:
        table = pq.read_table(known[name])
        rows = table.num_rows
        columns = [
            table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(rows, field.type)
            for field in fields
        ]
        return pa.table([pa.array([printable(name)] * rows, pa.string()), *columns], schema=schema)

    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        waiting: list[pa.Table] = []
        for name in known:
            try:
                waiting.append(of_file(name))
            except (OSError, pa.ArrowException) as error:
                notes.append(left_out(name, _unreadable(known[name], error)))
            if sum(table.num_rows for table in waiting) >= AT_ONCE:
                writer.write_table(pa.concat_tables(waiting))
                waiting = []
        writer.write_table(pa.concat_tables([schema.empty_table(), *waiting]))
    return notes


def _union(headers: Iterable[Sequence[str]]) -> list[str]:
    """All columns of some tables, in the order in which they first come."""
    return list(dict.fromkeys(column for header in headers for column in header if column != FILE))


def left_out(name: str, error: MatsegError) -> str:
    """Say that the objects of a file are not in what was put together."""
    return f"{printable(name)}: its objects are left out; {error}"


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
    return InputError(f"{path}: cannot be read as a table ({reason}); delete it and run the recipe again.")
