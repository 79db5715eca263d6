"""Arrays in a mapped file: what comes out is what went in, and damage is an error."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vla.datasets.array_file import array_writer, map_arrays, read_meta, write_arrays
from vla.errors import DataError

dtypes = st.sampled_from(["<f4", "<f8", "<i4", "<i8", "|u1", "|b1", "<u8"])
values = dtypes.flatmap(lambda kind: arrays.arrays(np.dtype(kind), arrays.array_shapes(min_dims=1, min_side=0)))


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=8), values, max_size=4))
def test_round_trip(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("arrays") / "a.index"
    write_arrays(path, content, {"names": list(content)})
    assert read_meta(path) == {"names": list(content)}
    found = map_arrays(path)
    assert found.keys() == content.keys()
    for name, array in content.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()
        assert not found[name].size or not found[name].flags.writeable
        assert type(found[name]) is np.ndarray, "np.memmap is slow to slice"


def test_rows_are_appended_in_any_order_of_arrays(tmp_path):
    path = tmp_path / "a.index"
    with array_writer(path, {"a": ("<i8", (4,)), "b": ("<f4", (2, 3))}) as out:
        out.append("b", np.ones((1, 3)))
        out.append("a", np.arange(3))
        out.append("b", np.full((1, 3), 2))
        out.add("c", np.arange(5))
        with pytest.raises(ValueError, match="full"):
            out.append("b", np.ones((1, 3)))
        out.meta = 7
    found = map_arrays(path)
    assert found["a"].tolist() == [0, 1, 2, 0] and found["b"].tolist() == [[1] * 3, [2] * 3]
    assert found["c"].tolist() == list(range(5)) and read_meta(path) == 7


def test_a_file_cut_anywhere_is_an_error(tmp_path):
    path = tmp_path / "a.index"
    write_arrays(path, {"a": np.arange(20)}, [1])
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match="an index file"):
            map_arrays(path)
        with pytest.raises(DataError, match="an index file"):
            read_meta(path)


@pytest.mark.parametrize(
    "place",
    [
        ["<f4", [10**15], 0],
        ["|O", [1], 0],
        ["<f4", [-1], 0],
        ["<f4", [1], -4],
        ["x", [1], 0],
        [1, 2],
        None,
        ["<f4", 5, 0],
    ],
)
def test_places_that_are_none(tmp_path, place):
    path = tmp_path / "a.index"
    tail = json.dumps({"meta": 1, "arrays": {"a": place}}).encode()
    path.write_bytes(bytes(64) + tail + struct.pack("<Q8s", len(tail), b"VLAARRAY"))
    with pytest.raises(DataError, match="an index file"):
        map_arrays(path)


def test_an_error_leaves_nothing_behind(tmp_path):
    with pytest.raises(RuntimeError), array_writer(tmp_path / "a.index", {"a": ("<i8", (4,))}):
        raise RuntimeError
    assert not list(tmp_path.iterdir())
