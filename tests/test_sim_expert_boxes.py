"""Where a thing fits among boxes, against linear programming: two boxes touch if and only if some point is in both."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.spatial.transform import Rotation

from vla.sim.expert.boxes import Boxes, Room


def boxes(rng: np.random.Generator, count: int, spread: float = 0.1) -> Boxes:
    """At random."""
    axes = Rotation.random(count, random_state=rng).as_matrix()
    return Boxes(rng.uniform(-spread, spread, (count, 3)), axes, rng.uniform(0.005, 0.06, (count, 3)))


def overlap(one: Boxes, other: Boxes, offset: np.ndarray) -> bool:
    """Whether any box of the first, shifted, shares a point with any of the second."""
    for first in range(len(one)):
        for second in range(len(other)):
            rows, limits = [], []
            for each, index, shift in ((one, first, offset), (other, second, np.zeros(3))):
                middle, axes = each.middles[index] + shift, each.axes[index].T
                rows += [axes, -axes]
                limits += [each.halves[index] + axes @ middle, each.halves[index] - axes @ middle]
            found = linprog(np.zeros(3), np.concatenate(rows), np.concatenate(limits), bounds=(None, None))
            if found.status == 0:
                return True
    return False


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_gap_is_positive_where_no_point_is_in_both(seed):
    rng = np.random.default_rng(seed)
    thing, still, offsets = boxes(rng, 2), boxes(rng, 2), rng.uniform(-0.15, 0.15, (4, 3))
    gaps = Room(thing, still, offsets).gaps(offsets)
    for offset, gap in zip(offsets, gaps, strict=True):
        if abs(gap) > 1e-6:
            assert (gap < 0) == overlap(thing, still, offset)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_thing_that_is_lowered_stops_where_it_would_touch(seed):
    rng = np.random.default_rng(seed)
    thing, still = boxes(rng, 2, 0.03), boxes(rng, 3)
    spot, floor = rng.uniform(-0.05, 0.05, 2), -0.2
    room = Room(thing, still, np.array([[*spot, 0.0]]))
    height = room.rest(spot, np.inf, floor)
    above = np.array([[*spot, height + step] for step in (1e-4, 0.01, 0.05, 0.1, 0.2)])
    assert (room.gaps(above) > 0).all()
    if height > floor:
        assert room.gaps(np.array([[*spot, height - 1e-4]]))[0] < 0


def test_what_is_lowered_between_two_shelves_stops_on_the_lower_one():
    upright = np.eye(3)[None].repeat(2, axis=0)
    shelves = Boxes(np.array([[0.0, 0, 0], [0, 0, 0.3]]), upright, np.full((2, 3), [0.2, 0.2, 0.01]))
    thing = Boxes(np.zeros((1, 3)), upright[:1], np.full((1, 3), 0.05))
    room = Room(thing, shelves, np.zeros((1, 3)))
    assert np.isclose(room.rest(np.zeros(2), np.inf, -1.0), 0.36)
    assert np.isclose(room.rest(np.zeros(2), 0.2, -1.0), 0.06)
    assert np.isclose(room.rest(np.zeros(2), 0.29, -1.0), 0.06)  # begins within the upper one
    assert room.rest(np.array([0.26, 0]), np.inf, -1.0) == -1.0


def test_nothing_around_is_room_everywhere():
    rng = np.random.default_rng(0)
    thing, nothing = boxes(rng, 1), boxes(rng, 0)
    room = Room(thing, nothing, np.zeros((1, 3)))
    assert room.gaps(np.zeros((3, 3)), most=0.05).tolist() == [0.05] * 3
    assert room.rest(np.zeros(2), np.inf, 0.7) == 0.7
