"""Questions about a LIBERO scene with answers that are true, from the simulator's own state.

::

    positions ─ the camera's projection ─▶ where each thing is in the picture ─┐
    LIBERO's own predicates ─▶ what stands on what ────────────────────────────┴─▶ questions, answers

Left, right, in front and behind are meant as the picture shows them. Only what a ray from the camera meets is asked
about, and only by a name that no other thing in the scene has; things are counted if every one of them is met.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vla.sim.libero_world import LiberoWorld
from vla.sim.rendering import mujoco_binding

APART = 0.06  # of the picture's width: less is neither left nor right
DEEPER = 0.05  # [m] further from the camera along the table: less is neither in front nor behind
NAMES = {
    "akita black bowl": "black bowl",
    "glazed rim porcelain ramekin": "ramekin",
    "cookies": "cookie box",
    "flat stove": "stove",
    "new salad dressing": "salad dressing",
    "red coffee mug": "red mug",
    "porcelain mug": "white mug",
}
"""What LIBERO's instructions call things whose file is named otherwise."""


@dataclass(frozen=True)
class Thing:
    """Something in the scene.

    Attributes:
        name: in the scene.
        called: in words.
        column: of its centre in the picture, 0 at the left edge and 1 at the right one.
        row: 0 at the top, 1 at the bottom.
        depth: along the table from the camera [m].
        on: name of the thing that it stands on; None for the table, or whatever has no name.
        seen: whether its middle is in the picture and nothing is before it.
    """

    name: str
    called: str
    column: float
    row: float
    depth: float
    on: str | None = None
    seen: bool = True


def things(world: LiberoWorld, camera: str = "agentview") -> list[Thing]:
    """A scene's objects and fixtures, where they are in a camera's pictures as policies get them (mirrored)."""
    data, model = world.data, world.model
    number = model.camera(camera).id
    eye, axes = data.cam_xpos[number], data.cam_xmat[number].reshape(3, 3)
    half = np.tan(np.deg2rad(model.cam_fovy[number]) / 2)
    ahead = -axes[:2, 2] / np.linalg.norm(axes[:2, 2])
    names = [*world.objects, *(name for name in world.env.fixtures_dict if name in world.env.obj_body_id)]
    found = []
    for name in names:
        right, up, back = axes.T @ (world.position(name) - eye)
        column, row = 0.5 - right / (-2 * back * half), 0.5 - up / (-2 * back * half)
        seen = back < 0 and 0.02 < column < 0.98 and 0.02 < row < 0.98 and _meets(world, eye, name)
        depth = float(ahead @ (world.position(name)[:2] - eye[:2]))
        on = _support(world, name, names)
        found.append(Thing(name, _called(name), float(column), float(row), depth, on, bool(seen)))
    return found


def questions(scene: Sequence[Thing]) -> list[tuple[str, str]]:
    """All questions that have one right answer, with it."""
    counts = Counter(thing.called for thing in scene)
    seen = [thing for thing in scene if thing.seen]
    met = Counter(thing.called for thing in seen)
    alone = [thing for thing in seen if counts[thing.called] == 1]
    asked = [
        (f"How many {_plural(name)} are there?", str(count)) for name, count in met.items() if count == counts[name]
    ]
    called = {thing.name: thing.called for thing in scene}
    for thing in alone:
        asked += _neighbours(thing, seen)
        if thing.on in called:
            asked.append((f"What is the {thing.called} on?", f"the {called[thing.on]}"))
    for one, other in itertools.permutations(alone, 2):
        pair = f"the {one.called} to the left or to the right of the {other.called}"
        if abs(one.column - other.column) > APART:
            asked.append((f"Is {pair}?", "left" if one.column < other.column else "right"))
        if abs(one.depth - other.depth) > DEEPER and other.name != one.on and one.name != other.on:
            place = "in front" if one.depth < other.depth else "behind"
            asked.append((f"Is the {one.called} in front of or behind the {other.called}?", place))
    return asked


def _neighbours(thing: Thing, seen: Iterable[Thing]) -> list[tuple[str, str]]:
    """What is next to a thing on each side, by the distance in the picture."""
    asked = []
    for side, sign in (("left", -1), ("right", 1)):
        beside = [other for other in seen if sign * (other.column - thing.column) > APART]
        if beside:
            nearest = min(beside, key=lambda other: np.hypot(other.column - thing.column, other.row - thing.row))
            asked.append((f"What is to the {side} of the {thing.called}?", f"the {nearest.called}"))
    return asked


def _called(name: str) -> str:
    words = " ".join(part for part in name.split("_") if not part.isdecimal())
    return NAMES.get(words, words)


def _plural(name: str) -> str:
    return f"{name}es" if name.endswith(("x", "s", "ch", "sh")) else f"{name}s"


def _support(world: LiberoWorld, name: str, names: Sequence[str]) -> str | None:
    """By LIBERO's own predicate, which knows movable things only as what stands."""
    if name not in world.objects:
        return None
    states = world.env.object_states_dict
    supports = [other for other in names if other != name and states[other].check_ontop(states[name])]
    return supports[0] if len(supports) == 1 else None


def _meets(world: LiberoWorld, eye: np.ndarray, name: str) -> bool:
    """Whether the ray from the camera to a thing's origin meets the thing first."""
    mujoco, model = mujoco_binding.load(), world.model
    hit, groups = np.array([-1], dtype=np.int32), np.array([0, 1, 0, 0, 0, 0], dtype=np.uint8)
    mujoco.mj_ray(model, world.data, eye, world.position(name) - eye, groups, 1, -1, hit)
    body = int(model.geom_bodyid[hit[0]]) if hit[0] >= 0 else 0
    wanted = world.env.obj_body_id[name]
    while body and body != wanted:
        body = int(model.body_parentid[body])
    return bool(body) and body == wanted
