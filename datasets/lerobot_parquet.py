"""Columns of Parquet files as checked arrays; page checksums are verified where a file has them."""

from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from vla.errors import DataError

_LARGEST_GROUP = 2**31  # bytes of numbers in one row group; writers make groups of some MB


@contextmanager
def parquet_errors(path: Path, field: str = "table"):
    """What pyarrow raises becomes a DataError that names the file."""
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException, ValueError, KeyError, IndexError, OverflowError, MemoryError) as error:
        found = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        raise DataError(path, field, expected="a whole Parquet file", found=found) from error


def open_parquet(path: Path) -> Any:
    """The file, a ``pyarrow.parquet.ParquetFile``; read it inside :func:`parquet_errors`."""
    import pyarrow.parquet as pq

    return pq.ParquetFile(path, page_checksum_verification=True, memory_map=False)


def read_table(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
    """Columns by name, each a pyarrow ChunkedArray; those of ``optional`` only where the file has them.

    Raises:
        DataError: the file is damaged, or lacks a column.
    """
    with parquet_errors(path), open_parquet(path) as file:
        there = set(file.schema_arrow.names)
        if missing := sorted(set(columns) - there):
            expected, found = f"columns {', '.join(missing)}", ", ".join(sorted(there))
            raise DataError(path, "columns", expected=expected, found=found[:400])
        wanted = [name for name in dict.fromkeys((*columns, *optional)) if name in there]
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if rows < 0 or rows * 8 * max(len(wanted), 1) > _LARGEST_GROUP:
                raise DataError(path, f"row group {group}", expected="a possible number of rows", found=str(rows))
        table = file.read(wanted)
        table.validate(full=True)
        return {name: table[name] for name in wanted}


def integers(table: dict[str, Any], name: str, path: Path) -> Int64[np.ndarray, "n"]:
    """A column of whole numbers.

    Raises:
        DataError: it holds something else, or gaps.
    """
    values = matrix(table[name], 1, path, name)[:, 0]
    if values.dtype.kind not in "iub":
        raise DataError(path, name, expected="whole numbers", found=str(values.dtype))
    return values.astype(np.int64)


def matrix(column: Any, width: int, path: Path, name: str) -> np.ndarray:
    """A column of numbers or of lists of numbers, of shape (rows, width), in its own dtype.

    Raises:
        DataError: a value is missing, a list is not ``width`` long, or there are no numbers.
    """
    import pyarrow as pa
    import pyarrow.compute as compute

    rows = len(column)
    if column.null_count:
        raise DataError(path, name, expected="no missing values", found=f"{column.null_count}")
    with parquet_errors(path, name):
        values = column.combine_chunks()
        if isinstance(values, pa.ChunkedArray):
            values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], column.type.value_type)
        while isinstance(values, pa.FixedSizeListArray | pa.ListArray | pa.LargeListArray):
            lengths = compute.call_function("list_value_length", [values]).to_numpy(zero_copy_only=False)
            if len(lengths) and (lengths != lengths[0]).any():
                row = int(np.flatnonzero(lengths != lengths[0])[0])
                found = f"lists of {lengths[0]} and of {lengths[row]} (row {row})"
                raise DataError(path, name, expected=f"{width} numbers a row", found=found)
            values = values.flatten()
            if values.null_count and not isinstance(values, pa.FloatingPointArray):
                raise DataError(path, name, expected="no missing values", found=f"{values.null_count}")
        numbers = values.to_numpy(zero_copy_only=False)
    if len(numbers) != rows * width or numbers.dtype.kind not in "fiub":
        each = len(numbers) / rows if rows else 0
        found = f"{each:g} of {numbers.dtype}"
        raise DataError(path, name, expected=f"{width} numbers a row", found=found)
    return numbers.reshape(rows, width)
