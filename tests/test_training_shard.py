"""Ranks share the work without overlap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.errors import ConfigError
from vla.training.shard import Shard, shard_of


@given(st.integers(1, 9), st.integers(0, 40), st.integers(1, 8))
def test_ranks_together_make_the_batches_of_one_process(ranks, number, size):
    theirs = [place for rank in range(ranks) for place in Shard(size, rank, ranks).places(number)]
    assert sorted(theirs) == list(Shard(size * ranks).places(number))


@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 4))
def test_no_place_is_drawn_twice_or_left_out(ranks, size, accumulate):
    shards = [shard_of(size * ranks * accumulate, accumulate, rank, ranks) for rank in range(ranks)]
    steps = 3
    drawn = [place for shard in shards for number in range(steps * accumulate) for place in shard.places(number)]
    assert sorted(drawn) == list(range(steps * size * ranks * accumulate))


@pytest.mark.parametrize(("size", "rank", "ranks"), [(1, 1, 1), (1, -1, 2), (1, 0, 0), (0, 0, 1)])
def test_shards_that_do_not_exist(size, rank, ranks):
    with pytest.raises(ConfigError):
        Shard(size, rank, ranks)


def test_a_step_that_cannot_be_shared_evenly_is_refused():
    with pytest.raises(ConfigError, match="multiple of 6"):
        shard_of(64, 3, 0, 2)
    with pytest.raises(IndexError):
        Shard(1).places(-1)
