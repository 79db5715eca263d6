"""Where LIBERO's objects lie once a scene has settled: the simulator's fingerprint, kept in a file and compared.

::

    python -m vla.sim.settled make FILE [--suites libero_spatial ...]     two initial states of every task
    python -m vla.sim.settled check FILE [--suites ...] [--tasks 5 ...]   exit status 1 if anything lies elsewhere

A scene is (suite, task, initial state) with seed 0; its objects are compared after the ten settling steps. MuJoCo 3.2.3
and 3.3.2 agree to the last bit of what is stored; under 3.4.0 the bowl of libero_spatial's task 5 lies 35 mm from its
place, and in libero_10 a bottle of ketchup is thrown half a metre up.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from vla.errors import DataError
from vla.files import read_npz, whole_file
from vla.protocol_libero import SUITES
from vla.sim import libero_suites
from vla.sim.libero_world import LiberoWorld

INITS = (0, 1)
POSITION_TOLERANCE = 0.002  # [m]
ANGLE_TOLERANCE = np.deg2rad(2.0)


@dataclass(frozen=True)
class Scene:
    """One settled scene.

    Attributes:
        suite: of the task.
        task: its number in the suite.
        init: initial state.
        poses: object name to position [m] and quaternion (w, x, y, z), base of the world.
    """

    suite: str
    task: int
    init: int
    poses: dict[str, Float64[np.ndarray, "7"]]


@dataclass(frozen=True)
class Moved:
    """An object that does not lie where it is expected.

    Attributes:
        scene: suite, number of the task and of the initial state.
        name: of the object.
        distance: between the places [m].
        angle: between the rotations [rad].
    """

    scene: tuple[str, int, int]
    name: str
    distance: float
    angle: float

    def __str__(self) -> str:
        suite, task, init = self.scene
        angle = np.rad2deg(self.angle)
        return f"{suite} task {task} init {init}: {self.name} is {1000 * self.distance:.1f} mm and {angle:.1f}° away"


def settle(suite: str, task: int, inits: Sequence[int] = INITS) -> Iterator[Scene]:
    """A task's scenes, each set anew and settled.

    Raises:
        UnknownName: there is no such suite.
    """
    entry = libero_suites.tasks(suite)[task]
    world = LiberoWorld(entry.bddl, render="exact")  # nothing is rendered, so nothing needs decimating
    try:
        for init in inits:
            world.reset(entry.initial_states()[init], seed=0)
            poses = {
                name: np.concatenate([world.position(name), world.data.xquat[world.env.obj_body_id[name]]])
                for name in world.objects
            }
            yield Scene(suite, task, init, poses)
    finally:
        world.close()


def moved(found: Scene, expected: Scene) -> list[Moved]:
    """Every object with its distance from where it is expected, whether within the tolerance or not.

    Raises:
        DataError: the scenes do not have the same objects.
    """
    key = (found.suite, found.task, found.init)
    if found.poses.keys() != expected.poses.keys():
        names = [", ".join(sorted(scene.poses)) for scene in (expected, found)]
        raise DataError("settled scenes", str(key), expected=names[0], found=names[1])
    return [
        Moved(
            key,
            name,
            float(np.linalg.norm(found.poses[name][:3] - pose[:3])),
            _angle(found.poses[name][3:], pose[3:]),
        )
        for name, pose in expected.poses.items()
    ]


def _angle(first: Float64[np.ndarray, "4"], second: Float64[np.ndarray, "4"]) -> float:
    """Between two rotations [rad]; from the chord, because a cosine says nothing about small angles."""
    chord = min(np.linalg.norm(first - second), np.linalg.norm(first + second))
    return float(4 * np.arcsin(min(1.0, chord / 2)))


def beyond(listing: Sequence[Moved]) -> list[Moved]:
    """Those out of tolerance."""
    return [one for one in listing if not (one.distance <= POSITION_TOLERANCE and one.angle <= ANGLE_TOLERANCE)]


def write(path: Path, scenes: Sequence[Scene]) -> None:
    """A compressed NPZ with one line an object: suite, task, init, name, pose (float32)."""
    lines = [(scene, name, pose) for scene in scenes for name, pose in scene.poses.items()]
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            suite=np.array([scene.suite for scene, _, _ in lines]),
            task=np.array([scene.task for scene, _, _ in lines], np.int16),
            init=np.array([scene.init for scene, _, _ in lines], np.int16),
            name=np.array([name for _, name, _ in lines]),
            pose=np.array([pose for _, _, pose in lines], np.float32),
        )


def read(path: Path) -> dict[tuple[str, int, int], Scene]:
    """Scenes by suite, task and initial state.

    Raises:
        DataError: the file is missing or is not one of :func:`write`.
    """
    try:
        arrays = read_npz(path)
        columns = [arrays[name].tolist() for name in ("suite", "task", "init", "name")]
        poses: Float32[np.ndarray, "n 7"] = arrays["pose"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(path, "file", expected="settled scenes", found=str(error)) from error
    scenes: dict[tuple[str, int, int], Scene] = {}
    for suite, task, init, name, pose in zip(*columns, poses.astype(np.float64), strict=True):
        scenes.setdefault((suite, task, init), Scene(suite, task, init, {})).poses[name] = pose
    return scenes


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; prints one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("make", "check"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--suites", nargs="+", default=list(SUITES))
    parser.add_argument("--tasks", nargs="+", type=int, default=None, help="by number; all if none is given")
    chosen = parser.parse_args(arguments)
    tasks = [
        (suite, number)
        for suite in chosen.suites
        for number in (chosen.tasks or range(len(libero_suites.tasks(suite))))
    ]
    if chosen.action == "make":
        scenes = [scene for suite, task in tasks for scene in settle(suite, task)]
        write(chosen.file, scenes)
        print(json.dumps({"scenes": len(scenes), "objects": sum(len(scene.poses) for scene in scenes)}))
        return 0
    expected, compared = read(chosen.file), []
    for suite, task in tasks:
        for scene in settle(suite, task):
            compared += moved(scene, expected[scene.suite, scene.task, scene.init])
    wrong = beyond(compared)
    print(
        json.dumps(
            {
                "objects": len(compared),
                "largest_mm": round(1000 * max(one.distance for one in compared), 4),
                "largest_degrees": round(float(np.rad2deg(max(one.angle for one in compared))), 4),
                "wrong": [str(one) for one in wrong],
            }
        )
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
