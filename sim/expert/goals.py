"""A BDDL goal as a sequence of subgoals in an order in which each can be reached and none undoes another.

::

    close what is in the way ▸ open what is shut ▸ switch ▸ put things down, supports first ▸ close what was filled
"""

from dataclasses import dataclass

from vla.errors import ConfigError
from vla.sim.libero_world import LiberoWorld

PUT = ("on", "in")
SWITCH = ("turnon", "turnoff")
KINDS = (*PUT, *SWITCH, "open", "close")


@dataclass(frozen=True)
class Subgoal:
    """One predicate to make true.

    Attributes:
        predicate: as in :attr:`LiberoWorld.goal`.
        part: of a target that several objects share, this object's number.
        parts: how many objects share the target.
    """

    predicate: tuple[str, ...]
    part: int = 0
    parts: int = 1


def subgoals(world: LiberoWorld) -> list[Subgoal]:
    """The goal's predicates, what they presuppose included, in order.

    Raises:
        ConfigError: a predicate is of another kind, or moves what cannot be moved.
    """
    goal = [tuple(predicate) for predicate in world.goal]
    for predicate in goal:
        if predicate[0] not in KINDS or (predicate[0] in PUT and predicate[1] not in world.objects):
            raise ConfigError(f"the expert knows {', '.join(KINDS)} of what can be moved, found {predicate}")
    puts = _supports_first([predicate for predicate in goal if predicate[0] in PUT])
    filled = {predicate[2] for predicate in puts}
    waiting = {predicate[2] for predicate in puts if not world.env._eval_predicate(list(predicate))}
    opened = {predicate[1] for predicate in goal if predicate[0] == "open"}
    needed = [("open", target) for target in sorted(waiting - opened) if _shut(world, target)]
    closing = [predicate for predicate in goal if predicate[0] == "close"]
    late = [predicate for predicate in closing if any(_belongs(world, target, predicate[1]) for target in filled)]
    ordered = [
        *[predicate for predicate in closing if predicate not in late],
        *[predicate for predicate in goal if predicate[0] == "open"],
        *needed,
        *[predicate for predicate in goal if predicate[0] in SWITCH],
        *puts,
        *late,
    ]
    targets = [predicate[2] for predicate in puts]
    return [
        Subgoal(predicate, targets[: puts.index(predicate)].count(predicate[2]), targets.count(predicate[2]))
        if predicate[0] in PUT
        else Subgoal(predicate)
        for predicate in ordered
    ]


def joints(world: LiberoWorld, name: str) -> list[str]:
    """Joints of a fixture, or those that a region of it hangs on."""
    if name in world.env.object_sites_dict:
        return list(world.env.object_sites_dict[name].joints or [])
    return list(world.env.get_object(name).joints)


def _shut(world: LiberoWorld, target: str) -> bool:
    """Whether a region is in something that opens and is not open far enough to put things in."""
    site = world.env.object_sites_dict.get(target)
    if site is None or not site.joints:
        return False
    state = world.env.object_states_dict[target]
    return not state.is_open() and abs(_position(world, site.joints[0])) < 0.1


def _position(world: LiberoWorld, joint: str) -> float:
    return float(world.env.sim.data.get_joint_qpos(joint))


def _belongs(world: LiberoWorld, target: str, closed: str) -> bool:
    """Whether a region is what a predicate closes, or part of it."""
    site = world.env.object_sites_dict.get(target)
    return target == closed or (site is not None and site.parent_name == closed)


def _supports_first(puts: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """What is put on another thing waits until that one is where it shall be."""
    moved = {predicate[1] for predicate in puts}
    return [p for p in puts if p[2] not in moved] + [p for p in puts if p[2] in moved]
