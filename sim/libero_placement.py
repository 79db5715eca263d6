"""Scenes whose objects lie where no initial state of the benchmark has them: sampled from the BDDL's own regions.

The regions are 3 cm wide, so that a policy may succeed there without looking. ``widen`` scales the regions of what
can be moved about their centres. A sample is rejected, and the next one in a fixed order tried, where an object
slides, topples, touches what it does not stand on, comes closer to another than LIBERO itself could put it, or lies
out of the arm's reach.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float64

from vla.errors import BodyFault
from vla.sim.libero_world import LiberoWorld

ATTEMPTS = 200
JOINT_NOISE = 0.02  # [rad], as the benchmark's initial states have it (standard deviation 0.016 to 0.023)
SLIDE = 0.025  # [m] horizontally while settling
TILT = np.deg2rad(30.0)  # a bowl on a ramekin settles at 16 degrees in the benchmark's own states
REACH = (0.3, 0.85)  # [m] horizontally from the arm's base
REGION_SLACK = 0.03  # [m] LIBERO's regions let two objects come this much closer than their centres are
CLEARANCE = 0.01  # [m] between footprints that are kept apart


def sample(world: LiberoWorld, *, seed: int, widen: float) -> None:
    """Set and settle a sampled scene; the same seed and factor give the same one.

    Raises:
        BodyFault: no valid scene in a fixed number of attempts: the factor is too large for this task. It costs an
            evaluation this row, not the others.
    """
    reasons: dict[str, int] = {}
    for attempt in range(ATTEMPTS):
        entropy = np.random.SeedSequence([seed, attempt])
        with _widened(world.env, widen):
            world.reset_fixtures(int(entropy.generate_state(1)[0]))
        state = world.get_state()
        joints = np.array(world.env.robots[0]._ref_joint_pos_indexes)
        state[1 + joints] += np.random.default_rng(entropy).normal(scale=JOINT_NOISE, size=len(joints))
        world.set_state(state)
        before = {name: (world.position(name), world.rotation(name)) for name in world.objects}
        world.settle()
        reason = _fault(world, before, widened=widen != 1.0)
        if reason is None:
            return
        reasons[reason] = reasons.get(reason, 0) + 1
    listing = ", ".join(f"{reason} ({count})" for reason, count in sorted(reasons.items(), key=lambda pair: -pair[1]))
    raise BodyFault(f"no valid scene of {world.bddl.stem} with regions widened by {widen:g}: {listing}")


@contextlib.contextmanager
def _widened(env: Any, widen: float) -> Iterator[None]:
    """LIBERO's samplers of movable objects with their regions scaled about the centre; restored afterwards."""
    if widen == 1.0:
        yield
        return
    samplers = list(_region_samplers(env).values())
    kept = [(one.x_ranges, one.y_ranges, one.ensure_object_boundary_in_range) for one in samplers]
    try:
        for one in samplers:
            one.x_ranges = [_scaled(*span, widen) for span in _effective(one, one.x_ranges)]
            one.y_ranges = [_scaled(*span, widen) for span in _effective(one, one.y_ranges)]
            one.ensure_object_boundary_in_range = False  # already in the effective range
        yield
    finally:
        for one, (x_ranges, y_ranges, inside) in zip(samplers, kept, strict=True):
            one.x_ranges, one.y_ranges, one.ensure_object_boundary_in_range = x_ranges, y_ranges, inside


def _region_samplers(env: Any) -> dict[str, Any]:
    """By object: LIBERO's samplers of what stands on a region of the table or floor and can be moved."""
    return {
        one.mujoco_objects[0].name: one
        for one in env.placement_initializer.samplers.values()
        if one.mujoco_objects[0].name in env.objects_dict
    }


def _effective(sampler: Any, ranges: Any) -> list[tuple[float, float]]:
    """What LIBERO draws from: it moves both ends inwards by the object's radius, past each other if need be."""
    radius = sampler.mujoco_objects[0].horizontal_radius if sampler.ensure_object_boundary_in_range else 0.0
    spans = [(float(low) + radius, float(high) - radius) for low, high in ranges]
    return [(min(span), max(span)) for span in spans]


def _scaled(low: float, high: float, factor: float) -> list[float]:
    centre, half = (low + high) / 2, (high - low) / 2
    return [centre - factor * half, centre + factor * half]


def _fault(world: LiberoWorld, before: dict[str, tuple[np.ndarray, np.ndarray]], *, widened: bool) -> str | None:
    """Why a settled scene is not valid, in two or three words; None if it is."""
    for name, (position, rotation) in before.items():
        if np.linalg.norm((world.position(name) - position)[:2]) > SLIDE:
            return f"{name} slides"
        cosine = np.clip((np.trace(rotation.T @ world.rotation(name)) - 1) / 2, -1, 1)
        if np.arccos(cosine) > TILT:
            return f"{name} topples"
    if world.env._check_success():
        return "solved already"
    return _crowded(world) if widened else None


def _crowded(world: LiberoWorld) -> str | None:
    """Objects out of reach, touching, or closer than LIBERO's own regions allow."""
    samplers = _region_samplers(world.env)
    base = np.asarray(world.env.robots[0].base_pos)[:2]
    centres = {name: _centre(one) for name, one in samplers.items()}
    places = {name: world.position(name)[:2] for name in samplers}
    for name, place in places.items():
        if not REACH[0] < np.linalg.norm(place - base) < REACH[1]:
            return f"{name} out of reach"
    declared = _declared_contacts(world.env)
    names = sorted(samplers)
    for index, first in enumerate(names):
        for second in names[index + 1 :]:
            if frozenset((first, second)) in declared:
                continue
            usual = np.linalg.norm(centres[first] - centres[second]) - REGION_SLACK
            apart = _footprint(world, first) + _footprint(world, second) + CLEARANCE
            if np.linalg.norm(places[first] - places[second]) < min(usual, apart):
                return f"{first} close to {second}"
    for pair in _contacts(world):
        if pair not in declared:
            return " touches ".join(sorted(pair))
    return None


def _centre(sampler: Any) -> Float64[np.ndarray, "2"]:
    """Middle of a region of one rectangle, or of all its rectangles."""
    return np.array([np.mean(sampler.x_ranges), np.mean(sampler.y_ranges)])


def _declared_contacts(env: Any) -> set[frozenset[str]]:
    """Pairs that the description puts on or into each other."""
    problem = env.parsed_problem
    pairs = set()
    for predicate in problem["initial_state"]:
        if predicate[0] in ("on", "in"):
            support = predicate[2]
            if support in problem["regions"]:
                support = problem["regions"][support]["target"]
            pairs.add(frozenset((predicate[1], support)))
    return pairs


def _contacts(world: LiberoWorld) -> set[frozenset[str]]:
    """Pairs of objects and fixtures that touch, at least one of which can be moved."""
    model = world.model
    owner = {world.model.body_rootid[body]: name for name, body in world.env.obj_body_id.items()}
    movable = set(world.objects)
    pairs = set()
    for contact in world.data.contact:
        names = {owner.get(model.body_rootid[model.geom_bodyid[geom]]) for geom in (contact.geom1, contact.geom2)}
        if len(names) == 2 and None not in names and names & movable:
            pairs.add(frozenset(name for name in names if name is not None))
    return pairs


def _footprint(world: LiberoWorld, name: str) -> float:
    """Radius [m] of the vertical cylinder about an object's centre that holds its colliding geometry."""
    model, data = world.model, world.data
    root = model.body_rootid[world.env.obj_body_id[name]]
    radius = 0.0
    for geom in np.flatnonzero((model.body_rootid[model.geom_bodyid] == root) & (model.geom_contype != 0)):
        frame = data.geom_xmat[geom].reshape(3, 3)
        middle = data.geom_xpos[geom] + frame @ model.geom_aabb[geom, :3]
        half = np.abs(frame) @ model.geom_aabb[geom, 3:]
        radius = max(radius, float(np.max(np.abs(middle - world.position(name))[:2] + half[:2])))
    return radius
