"""Ranks share the work without overlap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.errors import ConfigError
from vla.protocols import WindowSource
from vla.training.fake import FakeWindows
from vla.training.shard import Shard

SOURCE = FakeWindows(count=24)


@given(st.integers(1, 9), st.integers(0, 40), st.integers(1, 8))
def test_ranks_together_make_the_batches_of_one_process(ranks, step, size):
    shards = [Shard(SOURCE, rank, ranks) for rank in range(ranks)]
    theirs = [shard.place(step * size + turn) for shard in shards for turn in range(size)]
    whole = range(step * size * ranks, (step + 1) * size * ranks)
    assert sorted(theirs) == sorted(SOURCE.place(index) for index in whole)


@given(st.integers(1, 9))
def test_no_index_is_drawn_twice_or_left_out(ranks):
    class Numbers(FakeWindows):
        def place(self, index):
            return super().place(0)._replace(step=index)

    source = Numbers()
    drawn = [Shard(source, rank, ranks).place(turn).step for rank in range(ranks) for turn in range(20)]
    assert sorted(drawn) == list(range(20 * ranks))


def test_it_is_a_window_source():
    shard = Shard(SOURCE, 1, 3)
    assert isinstance(shard, WindowSource)
    assert shard[2].origin == SOURCE[7].origin == shard.place(2) and shard.specs == SOURCE.specs
    assert list(shard.frames()) == list(SOURCE.frames())
    assert shard.window(shard.place(0), images=False).observation.images == {}


@pytest.mark.parametrize(("rank", "ranks"), [(1, 1), (-1, 2), (0, 0)])
def test_ranks_that_do_not_exist(rank, ranks):
    with pytest.raises(ConfigError, match="does not exist"):
        Shard(SOURCE, rank, ranks)
    with pytest.raises(IndexError):
        Shard(SOURCE, 0, 1)[-1]
