"""The expert's planning without a simulator: shapes made here, answers known by construction."""

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vla.errors import ConfigError
from vla.sim.expert import goals
from vla.sim.expert.boxes import Boxes
from vla.sim.expert.grasps import grasps, tilted, upright
from vla.sim.expert.hand import (
    OPENING,
    POINTING_DOWN,
    YAWS,
    Pose,
    about_vertical,
    fits,
    inside,
    lowest,
    orientation,
    turned_within,
)
from vla.sim.expert.placing import Region, placements, tipped, turns
from vla.sim.expert.solids import Cloud, Surface


def box(size: tuple[float, float, float], centre: tuple[float, float, float] = (0, 0, 0)) -> Surface:
    """A box's six faces, sampled every 4 mm; ``size`` are half lengths."""
    points, normals = [], []
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        lines = [np.linspace(-size[o], size[o], max(2, int(size[o] / 0.002))) for o in others]
        grid = np.stack(np.meshgrid(*lines), axis=-1).reshape(-1, 2)
        for sign in (-1.0, 1.0):
            face, normal = np.zeros((len(grid), 3)), np.zeros((len(grid), 3))
            face[:, others], face[:, axis], normal[:, axis] = grid, sign * size[axis], sign
            points.append(face + centre)
            normals.append(normal)
    return Surface(np.concatenate(points), np.concatenate(normals))


def test_hand_points_where_it_is_told():
    assert np.allclose(orientation(0.0), POINTING_DOWN)
    for direction in np.deg2rad([0, 90, -90, 37]):
        turn = orientation(0.3, direction, np.deg2rad(90))
        assert np.allclose(turn[:, 2], [np.cos(direction), np.sin(direction), 0], atol=1e-12)
        assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-12)
        assert np.isclose(np.linalg.det(turn), 1)


@pytest.mark.parametrize("bearing", [0.0, 0.5, -0.9])
def test_a_turn_is_told_as_the_last_joint_can_have_it(bearing):
    """So that half way between two of them is one that it can have, too."""
    base = np.array([-0.6, 0.1])
    position = np.array([*(base + 0.5 * np.array([np.cos(bearing), np.sin(bearing)])), 1.0])
    for yaw in np.linspace(*YAWS, 12):
        for tilt in (0.0, 0.5):
            hand = Pose(position, orientation(bearing + yaw, bearing + yaw, tilt))
            assert np.isclose(turned_within(hand, base), yaw)


def test_hand_has_room_between_its_fingers_and_nowhere_else():
    pose = Pose(np.array([0.1, 0.2, 0.5]), orientation(0.0))
    between, in_finger, in_palm = np.array([[0, 0, 0], [0, 0.045, 0], [0, 0, 0.06]]) + pose.position
    assert inside(np.array([between, in_finger, in_palm]), pose).tolist() == [False, True, True]
    assert np.isclose(lowest(pose), 0.49)
    assert fits(Cloud(between[None]), pose, floor=0.4)
    assert not fits(Cloud(between[None]), pose, floor=0.49)
    assert not fits(Cloud(in_finger[None]), pose, floor=0.4)
    assert fits(Cloud(np.zeros((0, 3))), pose, floor=0.4)


def test_a_box_is_gripped_across_its_narrow_side():
    surface = box((0.06, 0.02, 0.03), (0.2, 0.1, 0.03)).moved(about_vertical(np.deg2rad(30)), np.zeros(3))
    found = grasps(surface, surface.points, 0.0, upright(heading=np.deg2rad(30)), np.random.default_rng(0))
    assert found
    narrow = about_vertical(np.deg2rad(30))[:, 1]
    assert abs(found[0].pose.rotation[:, 1] @ narrow) > 0.99
    for grasp in found:
        assert abs(grasp.pose.rotation[:, 1] @ narrow) > 0.7  # across the long side it is 12 cm wide
        assert fits(Cloud(surface.points), grasp.pose, 0.0)


def test_nothing_to_grip_where_a_neighbour_stands_too_close():
    surface = box((0.02, 0.02, 0.03), (0.0, 0.0, 0.03))
    walls = [box((0.1, 0.005, 0.03), (0.0, side * 0.035, 0.03)).points for side in (-1, 1)]
    narrow = [box((0.005, 0.1, 0.03), (side * 0.035, 0.0, 0.03)).points for side in (-1, 1)]
    free = grasps(surface, surface.points, 0.0, upright(), np.random.default_rng(0))
    one_way = grasps(surface, np.concatenate([surface.points, *walls]), 0.0, upright(90), np.random.default_rng(0))
    none = grasps(
        surface,
        np.concatenate([surface.points, *walls, *narrow]),
        0.0,
        [*upright(), *tilted()],
        np.random.default_rng(0),
    )
    assert free
    assert all(abs(grasp.pose.rotation[0, 1]) > 0.7 for grasp in one_way)
    assert not none


def test_a_shelf_asks_for_a_tilted_hand():
    bar = box((0.04, 0.008, 0.008), (0.0, 0.0, 0.1))
    roof = box((0.2, 0.2, 0.005), (0.0, 0.2, 0.19)).points
    obstacles = np.concatenate([bar.points, roof])
    assert not grasps(bar, obstacles, -0.2, upright(), np.random.default_rng(0))
    found = grasps(bar, obstacles, -0.2, tilted(), np.random.default_rng(0))
    assert found
    assert all(fits(Cloud(obstacles), grasp.pose, -0.2, OPENING) for grasp in found)


def test_turns_begin_with_none_and_contain_the_one_that_aligns():
    angles = turns(about_vertical(np.deg2rad(20)), np.deg2rad(70))
    assert angles[0] == 0
    assert any(np.isclose(angle, np.deg2rad(50), atol=2e-3) for angle in angles)
    assert all(-np.pi - 1e-3 <= angle <= np.pi + 1e-3 for angle in angles)


def shelf(height: float, *, roof: bool = True) -> tuple[Any, Region]:
    """A book that stands on a table beside two boards, one above the other, and the room between these."""
    upright_, half = np.eye(3)[None], np.array([0.012, 0.05, 0.06])
    boards = [[0.0, 0.3, -0.005], [0.0, 0.3, height + 0.005]][: 1 + roof]
    still = Boxes(np.array(boards), upright_.repeat(len(boards), 0), np.tile([0.2, 0.1, 0.005], (len(boards), 1)))
    robot = SimpleNamespace(base_pos=np.array([-0.6, 0.0, 0.0]))
    state = SimpleNamespace(position=lambda _: np.zeros(3), rotation=lambda _: np.eye(3))
    state.env = SimpleNamespace(robots=[robot])
    solids: Any = SimpleNamespace(world=state, floor=-0.5, boxes_around=lambda _: still)
    solids.boxes = lambda _: Boxes(np.array([[0.0, 0.0, half[2]]]), upright_, half[None])  # its origin is at its foot
    spots = np.stack(np.meshgrid([-0.1, 0.0, 0.1], [0.23, 0.3, 0.37], indexing="ij"), axis=-1).reshape(-1, 2)
    centre = np.array([0.0, 0.3, height / 2])
    return solids, Region(centre, spots, height, 0.0, lambda origin: bool(abs(origin[2] - height / 2) < height / 2))


def test_what_is_too_tall_for_a_shelf_goes_in_tipped_over():
    solids, where = shelf(0.15)
    assert all(option.upright and abs(option.way[1]) == 1 for option in placements(solids, "book", where))
    assert placements(solids, "book", where)
    solids, where = shelf(0.09)
    assert not placements(solids, "book", where)  # also not through the upper board
    found = tipped(solids, "book", where)
    assert found
    for option in found:
        assert not option.upright
        assert np.isclose(np.linalg.det(option.rotation), 1)
        corners = np.array([0.012, 0.05, 0.12]) * np.array(list(itertools.product((-1, 1), (-1, 1), (0, 1))))
        turned = corners @ option.rotation.T + option.origin
        inside_ = (np.abs(turned[:, :2] - [0.0, 0.3]) < [0.2, 0.1]).all(axis=1)
        assert turned[inside_, 2].min() > -0.006 and turned[inside_, 2].max() < 0.09
        assert option.way[2] == 0


def test_what_touches_on_all_sides_is_lowered_from_above():
    solids, where = shelf(0.09, roof=False)
    rails = [[0.0, 0.3, -0.005], [0.016, 0.3, 0.03], [-0.016, 0.3, 0.03]]
    halves = np.array([[0.2, 0.1, 0.005], [0.005, 0.1, 0.03], [0.005, 0.1, 0.03]])
    still = Boxes(np.array(rails), np.eye(3)[None].repeat(3, 0), halves)
    solids.boxes_around = lambda _: Boxes(still.middles, still.axes, still.halves)
    where = Region(where.centre, np.array([[0.0, 0.3]]), 0.3, 0.0, where.holds)
    narrow = [option for option in placements(solids, "book", where) if option.turn == 0]
    assert narrow and all(option.way[2] == 1 for option in narrow)


class Site(SimpleNamespace):
    """What the order of subgoals asks a region."""


def world(goal: list[list[str]], *, opened: bool = True, holding: tuple[list[str], ...] = ()) -> Any:
    """A scene with a drawer's inside, of which one knows whether it is open and which predicates hold."""
    sites = {
        "cabinet_1_top_region": Site(parent_name="cabinet_1", joints=["top"]),
        "basket_1_contain_region": Site(parent_name="basket_1", joints=[]),
    }
    env = SimpleNamespace(
        object_sites_dict=sites,
        object_states_dict={"cabinet_1_top_region": SimpleNamespace(is_open=lambda: opened)},
        sim=SimpleNamespace(data=SimpleNamespace(get_joint_qpos=lambda joint: 0.0)),
        _eval_predicate=lambda predicate: predicate in holding,
    )
    return SimpleNamespace(goal=goal, objects=("bowl_1", "bowl_2", "pot_1"), env=env, bddl=None)


def order(*arguments, **keywords) -> list[tuple[str, ...]]:
    return [subgoal.predicate for subgoal in goals.subgoals(world(*arguments, **keywords))]


def test_a_drawer_is_opened_filled_and_then_closed():
    put, shut = ["in", "bowl_1", "cabinet_1_top_region"], ["close", "cabinet_1_top_region"]
    assert order([shut, put]) == [tuple(put), tuple(shut)]
    opening = ("open", "cabinet_1_top_region")
    assert order([shut, put], opened=False) == [opening, tuple(put), tuple(shut)]
    assert order([shut, put], opened=False, holding=(put,)) == [tuple(put), tuple(shut)]  # not opened again


def test_what_closes_something_else_comes_first():
    put, shut = ["on", "bowl_1", "cabinet_1_top_side"], ["close", "cabinet_1_top_region"]
    assert order([put, shut]) == [tuple(shut), tuple(put)]


def test_supports_are_put_down_before_what_they_carry():
    stack, carry = ["on", "bowl_1", "bowl_2"], ["in", "bowl_2", "basket_1_contain_region"]
    assert order([stack, carry]) == [tuple(carry), tuple(stack)]


def test_switches_come_before_pots_and_pots_share_the_burner():
    burner = "stove_1_cook_region"
    found = goals.subgoals(world([["on", "pot_1", burner], ["on", "bowl_1", burner], ["turnon", "stove_1"]]))
    assert [(subgoal.predicate[0], subgoal.part, subgoal.parts) for subgoal in found] == [
        ("turnon", 0, 1),
        ("on", 0, 2),
        ("on", 1, 2),
    ]


def test_goals_that_nobody_can_reach_are_refused():
    with pytest.raises(ConfigError, match="up"):
        order([["up", "bowl_1"]])
    with pytest.raises(ConfigError, match="cabinet_1"):
        order([["on", "cabinet_1", "bowl_1"]])
