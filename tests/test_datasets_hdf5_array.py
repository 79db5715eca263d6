"""Byte ranges against h5py, for whatever storage it can be asked for."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vla.datasets.hdf5_index import demo_index
from vla.errors import DataError

STEPS = 7
ARRAYS = st.fixed_dictionaries(
    {
        "shape": st.lists(st.integers(1, 9), max_size=3).map(lambda sizes: (STEPS, *sizes)),
        "kind": st.sampled_from(["<f4", "<f8", ">f4", "|u1", "<i2", ">i8"]),
        "chunk": st.one_of(st.none(), st.lists(st.integers(1, 9), min_size=4, max_size=4)),
        "compression": st.sampled_from([None, "gzip"]),
        "shuffle": st.booleans(),
        "fletcher32": st.booleans(),
    }
)


def write(path: Path, arrays: dict[str, tuple[np.ndarray, dict[str, Any]]]) -> None:
    with h5py.File(path, "w") as file:
        file["data/demo_0/actions"] = np.zeros((len(next(iter(arrays.values()))[0]), 1))
        for name, (values, storage) in arrays.items():
            file.create_dataset(f"data/demo_0/obs/{name}", data=values, **storage)


def made(shape: Any, kind: str, chunk: Any, **filters: Any) -> tuple[np.ndarray, dict[str, Any]]:
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8).astype(np.dtype(kind))
    if not chunk:
        return values, {}
    return values, {"chunks": tuple(min(edge, size) for edge, size in zip(chunk, shape, strict=False)), **filters}


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(asked=st.lists(ARRAYS, min_size=8, max_size=8), start=st.integers(0, STEPS), stop=st.integers(0, STEPS))
def test_any_rows_of_any_array_are_what_h5py_reads(tmp_path_factory, asked, start, stop):
    arrays = {f"x{number}": made(**one) for number, one in enumerate(asked)}
    path = tmp_path_factory.mktemp("arrays") / "x.hdf5"
    write(path, arrays)
    index = demo_index([path], "x", path.parent)
    for name, (values, _) in arrays.items():
        array = index.array(0, f"obs/{name}")
        assert array.shape == values.shape and array.dtype == values.dtype
        np.testing.assert_array_equal(array.read(), values)
        np.testing.assert_array_equal(array.read(start, stop), values[start:stop])


@pytest.mark.parametrize(
    "storage", [{"compression": "gzip"}, {"fletcher32": True}, {"shuffle": True, "compression": 9}]
)
def test_a_damaged_chunk_is_refused_and_the_others_are_read(tmp_path, storage):
    values = np.random.default_rng(0).normal(size=(40, 30))
    path = tmp_path / "x.hdf5"
    write(path, {"x": (values, {"chunks": (10, 30), **storage})})
    index = demo_index([path], "x", tmp_path)
    offset, size, _ = (int(number) for number in index.array(0, "obs/x").chunks[2])
    with path.open("r+b") as file:
        file.seek(offset + size // 2)
        file.write(b"\x55\xaa\x55\xaa")
    array = demo_index([path], "x", tmp_path).array(0, "obs/x")
    np.testing.assert_array_equal(array.read(30, 40), values[30:])
    with pytest.raises(DataError, match="demo_0/obs/x"):
        array.read(19, 21)


def test_a_chunk_that_inflates_without_end_is_refused(tmp_path):
    """A file may say that a small chunk holds little, and its stream may hold a gigabyte."""
    import zlib

    path = tmp_path / "x.hdf5"
    write(path, {"x": (np.zeros((4, 100)), {"chunks": (4, 100), "compression": "gzip"})})
    with h5py.File(path, "r+") as file:
        array: Any = file["data/demo_0/obs/x"]
        array.id.write_direct_chunk((0, 0), zlib.compress(bytes(50 << 20)))
    with pytest.raises(DataError, match="a whole stream of at most 3200 bytes"):
        demo_index([path], "x", tmp_path).array(0, "obs/x").read()
