"""Laws of the mixture's order: a function of seed and index, every window once an epoch, shares as weighted."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.datasets.mixture import Mixture
from vla.datasets.shuffle import mixed, permuted
from vla.embodiment import EmbodimentSpec
from vla.embodiments.bridge_widowx import bridge_widowx
from vla.errors import ConfigError
from vla.experience import Episode, Place
from vla.protocols import WindowSource
from vla.quirks import Quirk


@dataclass(frozen=True)
class Fake:
    """Episodes whose every number tells where it is from: action = [episode, step, ...]."""

    steps: tuple[int, ...]
    content: str = "fake"
    quirks: tuple[Quirk, ...] = ()

    @property
    def spec(self) -> EmbodimentSpec:
        return bridge_widowx(())

    @property
    def lengths(self) -> np.ndarray:
        return np.array(self.steps, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> Episode:
        count = self.steps[index]
        action = np.zeros((count, 7), np.float32)
        action[:, 0], action[:, 1] = index, np.arange(count)
        return Episode(self.spec, action.copy(), action, {}, np.arange(count) / 5, f"episode {index}")


def whole(size: int, *key: int) -> np.ndarray:
    return permuted(np.arange(size), np.zeros(size, np.int64), [size], [key])


@given(st.integers(1, 3000), st.integers(), st.integers())
def test_permuted_is_a_permutation(size, key, other):
    assert sorted(whole(size, key, other).tolist()) == list(range(size))


def one_by_one(place: int, size: int, key: Sequence[int]) -> int:
    """The same in plain integers."""
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    while True:
        left, right = place >> half, place & (1 << half) - 1
        for turn in range(6):
            left, right = right, left ^ mixed(mixed(*key, turn), right) & (1 << half) - 1
        place = left << half | right
        if place < size:
            return place


@given(st.data(), st.lists(st.tuples(st.integers(1, 2**62), st.integers(-5, 2**80)), min_size=1, max_size=4))
def test_permuted_is_what_plain_integers_give(data, permutations):
    which = data.draw(st.lists(st.integers(0, len(permutations) - 1), max_size=9))
    places = [data.draw(st.integers(0, permutations[number][0] - 1)) for number in which]
    keys = [(key, 7) for _, key in permutations]
    sizes = [size for size, _ in permutations]
    have = permuted(np.array(places, np.int64), np.array(which, np.int64), sizes, keys)
    assert have.tolist() == [one_by_one(p, sizes[n], keys[n]) for p, n in zip(places, which, strict=True)]


@pytest.mark.parametrize("place", [-1, 5])
def test_places_outside_are_refused(place):
    with pytest.raises(ValueError, match=f"place {place} is outside range\\(5\\)"):
        permuted(np.array([0, place]), np.array([0, 1]), [9, 5], [(1,), (2,)])


def test_permuted_moves_things_about():
    size = 10_000
    places = whole(size, 1)
    assert abs(np.corrcoef(np.arange(size), places)[0, 1]) < 0.05
    assert (places == np.arange(size)).sum() < 10
    other = whole(size, 2)
    assert (places == other).sum() < 10
    # the first draws of an epoch are spread evenly over the data: ten bins of an equal share
    counts = np.bincount(places[:1000] * 10 // size, minlength=10)
    assert counts.min() > 60 and counts.max() < 140


def test_it_is_a_window_source():
    mixture = Mixture([Fake((4, 5))], horizon=3, seed=0)
    assert isinstance(mixture, WindowSource)
    window = mixture[0]
    source, episode, step = window.origin
    assert source == 0 and window.actions.shape == (3, 7)
    assert window.actions[0, :2].tolist() == [episode, step]
    assert window.observation.instruction == f"episode {episode}"
    assert np.array_equal(mixture.window(window.origin, images=False).actions, window.actions)
    assert window.valid.tolist() == [step + k < (4, 5)[episode] for k in range(3)]


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.integers(1, 4),
    st.integers(0, 2**70),
)
def test_each_epoch_of_a_source_gives_every_window_once(lengths, stride, seed):
    mixture = Mixture([Fake(tuple(lengths))], horizon=2, seed=seed, stride=stride)
    every = [Place(0, e, t) for e, length in enumerate(lengths) for t in range(0, length, stride)]
    assert list(mixture.frames()) == every and mixture.windows == (len(every),)
    for epoch in range(3):
        drawn = [mixture.place(epoch * len(every) + turn) for turn in range(len(every))]
        assert sorted(drawn) == every


def test_in_a_mixture_too_no_window_comes_again_before_all_have_come():
    mixture = Mixture([Fake((700,)), Fake((300,)), Fake((11, 12))], [0.5, 0.3, 0.2], horizon=1, seed=4)
    for number, count in enumerate(mixture.windows):
        drawn = [place for place in map(mixture.place, range(5000)) if place.source == number]
        for epoch in range(len(drawn) // count):
            assert len(set(drawn[epoch * count : (epoch + 1) * count])) == count


def test_epochs_differ_and_seeds_differ():
    one, two = (Mixture([Fake((64, 64))], horizon=1, seed=seed) for seed in (1, 2))
    first = [one.place(index) for index in range(1024)]
    assert first != [two.place(index) for index in range(1024)]
    assert first != [one.place(1024 + index) for index in range(1024)]


@settings(max_examples=20)
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=5), st.integers(0, 1000))
def test_shares_follow_the_weights(weights, seed):
    mixture = Mixture([Fake((3,))] * len(weights), weights, horizon=1, seed=seed)
    drawn = 2048
    counts = Counter(mixture.place(index).source for index in range(drawn))
    for number, weight in enumerate(weights):
        assert abs(counts[number] - drawn * weight / sum(weights)) < len(weights) + 1


def test_without_weights_every_window_is_as_likely_as_any_other():
    mixture = Mixture([Fake((2,)), Fake((6,))], horizon=1, seed=0)
    counts = Counter(mixture.place(index) for index in range(1024))
    assert set(counts.values()) == {128}


def test_sources_are_interleaved_at_random():
    mixture = Mixture([Fake((50,)), Fake((50,))], [1, 1], horizon=1, seed=0)
    order = [mixture.place(index).source for index in range(1024)]
    runs = [len(list(group)) for _, group in itertools.groupby(order)]
    assert max(runs) > 4 and 400 < len(runs) < 620, "as coin tosses, not as taking turns"


def test_episodes_can_be_held_out():
    training = Mixture([Fake((3, 4, 5))], horizon=1, seed=0, episodes=[slice(0, 2)])
    validation = Mixture([Fake((3, 4, 5))], horizon=1, seed=0, episodes=[[2]])
    assert {place.episode for place in training.frames()} == {0, 1}
    assert {place.episode for place in validation.frames()} == {2}
    assert {validation[index].origin[1] for index in range(9)} == {2}


def test_the_order_is_the_same_as_ever():
    """Checkpoints resume by index, in any process: these numbers may never change."""
    mixture = Mixture([Fake((10, 20)), Fake((7,))], [0.3, 0.7], horizon=4, seed=5)
    assert [tuple(mixture.place(index)) for index in (0, 1, 2, 1000, 10**9)] == [
        (0, 0, 9),
        (1, 0, 4),
        (1, 0, 1),
        (1, 0, 3),
        (0, 1, 12),
    ]


def test_the_order_has_a_name():
    def named(sources=((10, 20), (7,)), weights=(0.3, 0.7), **options):
        every: dict[str, Any] = {"horizon": 4, "seed": 5} | options
        return Mixture([Fake(steps) for steps in sources], weights, **every).order

    assert named() == named() == named(weights=(3, 7)) == named(horizon=9), "as many windows, in the same order"
    others = [
        named(weights=(0.4, 0.6)),
        named(seed=6),
        named(stride=2),
        named(sources=((10, 21), (7,))),
        named(sources=((20, 10), (7,))),
        named(episodes=[[0], None]),
    ]
    assert len({named(), *others}) == 7


def test_an_index_far_away_is_exact():
    """Past 64 bits as well: the order has no end."""
    mixture = Mixture([Fake((3,)), Fake((5,))], [1, 2], horizon=1, seed=0)
    for start in (2**40, 2**70):
        counts = Counter(mixture.place(start + turn).source for turn in range(3000))
        assert abs(counts[0] - 1000) <= 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": [1.0, 2.0]}, "2 weights were given for 1 sources"),
        ({"weights": [0.0]}, "above 0"),
        ({"weights": [float("nan")]}, "finite"),
        ({"horizon": 0}, "at least 1"),
        ({"stride": 0}, "at least 1"),
        ({"episodes": [slice(5, 9)]}, "has no window"),
        ({"episodes": [[7]]}, "below 2"),
        ({"episodes": [[0, 0]]}, "different"),
        ({"episodes": []}, "0 selections"),
    ],
)
def test_settings_out_of_range(options, message):
    with pytest.raises(ConfigError, match=message):
        Mixture([Fake((3, 4))], **({"horizon": 2, "seed": 0} | options))


def test_no_source_and_no_negative_index():
    with pytest.raises(ConfigError, match="at least one source"):
        Mixture([], horizon=1, seed=0)
    with pytest.raises(IndexError):
        Mixture([Fake((3,))], horizon=1, seed=0)[-1]


@pytest.mark.parametrize("weights", [(1.0, 1e-11), (1e-11, 1.0), (1.0, 1e-11, 1.0)])
def test_a_source_that_would_never_be_drawn_is_an_error(weights):
    with pytest.raises(ConfigError, match="too far apart"):
        Mixture([Fake((5,))] * len(weights), weights, horizon=2, seed=0)
