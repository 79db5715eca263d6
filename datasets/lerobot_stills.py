"""Checks the pictures embedded in a LeRobot data set's Parquet files: the column is there, the first one's size."""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from vla.datasets.lerobot_info import Info
from vla.datasets.lerobot_listing import Listing
from vla.datasets.lerobot_parquet import open_parquet, parquet_errors
from vla.datasets.lerobot_tally import Tally
from vla.datasets.picture import picture_size
from vla.errors import DataError


def check_stills(
    info: Info,
    listing: Listing,
    wanted: tuple[str, ...],
    tally: Tally,
    keep: Bool[np.ndarray, "n"],
    row: Int64[np.ndarray, "n"],
) -> dict[str, tuple[int, int]]:
    """Height and width of each wanted camera that has embedded pictures.

    Args:
        info: the data set.
        listing: its episodes.
        wanted: cameras that will be read.
        tally: collects what is wrong.
        keep: which episodes can be read; the first one's first picture stands for all.
        row: first row of each in its data file.

    Raises:
        DataError: a column does not hold embedded pictures.
    """
    cameras = [feature for feature in info.cameras if feature.dtype == "image"]
    if not cameras or not keep.any():
        return {}
    first = int(np.flatnonzero(keep)[0])
    path = info.data_file(*listing.place[first].tolist())
    sizes: dict[str, tuple[int, int]] = {}
    with parquet_errors(path), open_parquet(path) as file:
        names = set(file.schema_arrow.names)
        for feature in cameras:
            if feature.name not in names:
                expected, found = "the column of a declared camera", f"none in {path.name}"
                where, remedy = f"features: {feature.name}", "the camera is left out"
                tally.add("missing-camera", info.file, where, expected=expected, found=found, remedy=remedy)
            elif feature.name in wanted:
                sizes[feature.name] = _first_size(file, path, feature.name, int(row[first]))
                if sizes[feature.name] != feature.size:
                    expected, size = ("{}x{}".format(*pair) for pair in (feature.size, sizes[feature.name]))
                    where, found = f"features: {feature.name}: shape", f"pictures of {size}"
                    tally.add(
                        "wrong-size", info.file, where, expected=expected, found=found, remedy="the pictures count"
                    )
    return sizes


def _first_size(file, path: Path, column: str, row: int) -> tuple[int, int]:
    kind = file.schema_arrow.field(column).type
    if f"{column}.bytes" not in [file.schema.column(index).path for index in range(len(file.schema))]:
        raise DataError(path, column, expected="embedded pictures (bytes and path)", found=str(kind))
    passed = 0
    for batch in file.iter_batches(16, columns=[f"{column}.bytes"]):
        if passed + batch.num_rows > row:
            data = batch.column(0).field("bytes")[row - passed].as_py()
            if not data:
                found = "a missing one: pictures in files of their own are not read"
                raise DataError(path, f"{column}, row {row}", expected="an embedded picture", found=found)
            return picture_size(data, path, f"{column}, row {row}")
        passed += batch.num_rows
    raise DataError(path, f"{column}, row {row}", expected="an embedded picture", found=f"only {passed} rows")
