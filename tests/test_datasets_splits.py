"""TFDS's split syntax against tensorflow-datasets' own parser and rounding."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vla.datasets.splits import parts
from vla.errors import ConfigError, UnknownName, VlaError

SPLITS = {"train": (3, 4, 4, 2, 4), "val": (1,), "test-2": (250, 250)}

numbers = st.one_of(st.integers(-20, 20), st.integers(-600, 600))
bounds = st.builds(
    lambda value, unit: f"{value}{unit}",
    st.one_of(numbers, st.floats(-110, 110).map(lambda value: f"{value:.1f}"), st.just("")),
    st.sampled_from(["", "", "%", "%", "shard"]),
)
slices = st.one_of(
    st.just(""), st.builds(lambda low, high: f"[{low}:{high}]", bounds, bounds), bounds.map(lambda low: f"[{low}]")
)
pieces = st.builds(lambda name, inner: name + inner, st.sampled_from([*SPLITS, "all", "tran"]), slices)
texts = st.lists(pieces, min_size=1, max_size=3).map("+".join)


def theirs(text: str) -> list[tuple[str, int, int]]:
    from tensorflow_datasets.core import splits as tfds_splits

    infos: Any = {
        name: tfds_splits.SplitInfo(name=name, shard_lengths=list(lengths), num_bytes=0)
        for name, lengths in SPLITS.items()
    }
    found = tfds_splits.AbstractSplit.from_spec(text).to_absolute(infos)
    counts = {name: sum(lengths) for name, lengths in SPLITS.items()}
    return [(p.splitname, p.from_ or 0, counts[p.splitname] if p.to is None else p.to) for p in found]


@given(texts)
@example("train[:90%]")
@example("train[10:20]")
@example("train[50%:]")
@example("train+val")
@example("train[:1000]+val")
@example("train[:5]+train[5:]")
@example("train[-10%:]")
@example("train[12.5%:87.5%]")
@example("train[:3shard]")
@example("train[-1shard]")
@example("all")
@example("train[1:2:3]")
@example("train[]")
@example("train[:]")
def test_means_what_tensorflow_datasets_means(text):
    try:
        expected = theirs(text)
    except (ValueError, NotImplementedError):
        with pytest.raises(VlaError):
            parts(text, SPLITS, "set")
        return
    found = [(part.split, part.start, part.stop) for part in parts(text, SPLITS, "set")]
    assert [(name, start, max(start, stop)) for name, start, stop in expected] == found


def test_what_is_wrong_is_said():
    with pytest.raises(UnknownName, match=r"unknown split of set 'tran'; closest: train"):
        parts("tran", SPLITS, "set")
    with pytest.raises(ConfigError, match=r"train\[:90%\]"):
        parts("train[", SPLITS, "set")
    with pytest.raises(ConfigError, match="train has 17 episodes"):
        parts("train[:18]", SPLITS, "set")
