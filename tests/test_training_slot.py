"""A result goes through shared memory unchanged, is not copied, and keeps what it shows while anybody looks."""

import os
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vla.training.slot import Slot, empty_for_pictures


@pytest.fixture
def pair() -> Iterator[tuple[Slot, Slot]]:
    """The maker's and the reader's end of one slot."""
    maker = Slot()
    reader = Slot(os.dup(maker.handle))
    yield maker, reader
    maker.close()
    reader.close()


KINDS = st.sampled_from(["u1", "f4", "f8", "i8", "?", "<U3"]).map(np.dtype)
ARRAYS = KINDS.flatmap(lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=0, min_side=0, max_side=5)))


@given(st.lists(st.tuples(ARRAYS, st.booleans()), max_size=5), st.text())
def test_results_arrive_as_they_were(made, text):
    maker = Slot()
    reader = Slot(os.dup(maker.handle))
    for _ in range(2):  # the second one is written over the first
        maker.begin()
        placed = []
        for array, inside in made:
            where = maker.empty(array.shape, array.dtype) if inside else np.empty_like(array)
            where[...] = array
            placed.append(where)
        have, said = reader.unpack(maker.pack((placed, text)))
        assert said == text and len(have) == len(made)
        for one, (two, _) in zip(have, made, strict=True):
            assert one.dtype == two.dtype and one.shape == two.shape
            np.testing.assert_array_equal(one, two)
        have = one = None
        assert reader.returned()
    maker.close()
    reader.close()


def test_nothing_is_copied(pair):
    maker, reader = pair
    array = maker.empty((3, 4), np.float32)
    array[:] = 1
    (seen,) = reader.unpack(maker.pack((array,)))
    array[1, 2] = 7
    assert seen[1, 2] == 7 and seen.sum() == 18


def test_it_is_returned_when_nobody_has_a_part_of_it(pair):
    maker, reader = pair
    first, second = reader.unpack(maker.pack((maker.empty((4, 4), np.uint8), np.ones(3))))
    tensor = torch.from_numpy(first)[1:]
    del first
    assert not reader.returned()
    del second
    assert not reader.returned()
    del tensor
    assert reader.returned()


def test_what_somebody_has_outlives_the_slot():
    maker = Slot()
    reader = Slot(os.dup(maker.handle))
    (seen,) = reader.unpack(maker.pack((np.arange(1000),)))
    maker.close()
    reader.close()
    np.testing.assert_array_equal(seen, np.arange(1000))


def test_arrays_of_objects_and_pieces_of_arrays(pair):
    maker, reader = pair
    things = maker.empty((2,), object)
    things[:] = ["a", None]
    seen, piece = reader.unpack(maker.pack((things, np.arange(20).reshape(4, 5)[::2, 1::2])))
    assert seen.tolist() == ["a", None] and piece.tolist() == [[1, 3], [11, 13]]


def test_only_what_is_written_takes_memory(pair):
    maker, _ = pair
    maker.empty((1 << 30,), np.uint8)[:4096] = 1
    assert os.fstat(maker.handle).st_blocks * 512 < 1 << 20
    with pytest.raises(MemoryError, match="more than 64 GiB"):
        maker.empty((1 << 37,), np.uint8)


@pytest.mark.parametrize("own", [True, False])
def test_pictures_lie_where_they_are_decoded_fastest(pair, own):
    """Never at a multiple of 32 bytes; numbers of any type can still lie there."""
    make = empty_for_pictures if own else pair[0].empty
    for shape, dtype in [((3, 224, 224, 3), np.uint8), ((5,), np.float64), ((2, 0), np.int16), ((7, 7, 3), np.uint8)]:
        made = make(shape, dtype)
        assert made.shape == shape and made.dtype == dtype and made.flags.c_contiguous and made.flags.writeable
        assert made.ctypes.data % 64 == 16 or not made.size
    assert make((2,), object).dtype == object
