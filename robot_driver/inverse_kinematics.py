"""Joints for poses of the tool: differential inverse kinematics as a quadratic program (mink, MuJoCo underneath).

::

    pose ─▶ frame task + posture task ─▶ QP ─▶ step of the joints ─▶ nearer to a collision than the margin? ─▶ joints
                                         └ joint limits, speeds, collision margins      └ shorten the step

Each step minimises the distance to the pose under the limits, so a pose out of reach is approached as far as they
allow. Where the arm loses a direction (a singularity) the step is damped: as in Y. Nakamura and H. Hanafusa, "Inverse
Kinematic Solutions with Singularity Robustness" (1986), with the smallest singular value as the measure, the damping
grows from nothing to ``damping`` as that value falls below ``singular``.

The collision rows are linear, so they hold to first order only; every step is therefore checked with MuJoCo's own
distances, and halved until the margin holds. A step that leads out of a violated margin is always allowed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from vla.errors import BodyFault, ConfigError, DependencyMissing, UnknownName
from vla.robot_driver.trajectory import JointPath, PosePath
from vla.tool_pose import Pose

_STILL = 1e-7  # [rad or m]; a step that is smaller has arrived
_ARRIVED = 1e-6  # [m and rad]
CORRECTIONS = 6  # the first step goes most of the way; the others make up for what is not linear
_LEAST = 1e-3  # of a time; less is none
_HALVINGS = 8
_LEAST_DAMPING = 1e-8  # keeps the program convex for a redundant arm


@dataclass(frozen=True)
class Avoidance:
    """Parts of the arm, and of what stands around it, that stay apart.

    Attributes:
        pairs: names of geoms that stay clear of names of geoms; parts that share a joint are left out by mink.
        margin: smallest distance [m].
        seen: this much further than the margin a distance counts [m].
        share: of what is left of the way to the margin, a step may take so much: a small one is slow where it is near.
    """

    pairs: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    margin: float = 0.02
    seen: float = 0.05
    share: float = 0.85

    def __post_init__(self):
        if not (self.margin > 0 and self.seen > 0 and 0 < self.share <= 1):
            raise ConfigError(
                f"a collision margin and what is seen beyond it are above 0 m, a share is at most 1, found {self}"
            )


@dataclass(frozen=True)
class Solution:
    """Joints for a pose, or for a way of poses, and how far they are from what was asked.

    Attributes:
        joints: in the order of the arm's names [rad or m]; one row for each time if it is a way.
        position_error: distance to the pose, the largest of a way [m].
        rotation_error: angle to the pose, the largest of a way [rad].
    """

    joints: Float64[np.ndarray, "*way n"]
    position_error: float
    rotation_error: float


class InverseKinematics:
    """Of one tool of one arm. Other joints of the model stay where they are.

    Args:
        model: of the arm, a compiled ``mujoco.MjModel``; its joint limits count.
        joints: names of the arm's joints, in the order of the driver.
        velocity: largest speed of each of them [1/s].
        frame: name of the tool's frame in the model.
        kind: of that frame.
        base: body whose frame poses are given in; the model's world if None. It must not move.
        avoid: see :class:`Avoidance`.
        home: joints that a redundant arm is drawn to as far as the tool allows; None to stay where it comes from.
        rotation_weight: what a radian beside the pose counts against a metre; small for an arm of fewer than six
            joints, which then keeps the position and comes as near to the rotation as it can.
        damping: of a step at a singularity [m or rad for each rad].
        singular: smallest singular value of the tool's Jacobian below which damping sets in.

    Raises:
        DependencyMissing: mink or its solver is not installed.
        UnknownName: the model has no such joint, frame or body.
        ConfigError: a joint of the model has several degrees of freedom, or lengths differ.
    """

    def __init__(
        self,
        model: Any,
        joints: Sequence[str],
        velocity: Sequence[float],
        *,
        frame: str,
        kind: Literal["body", "site"] = "site",
        base: str | None = None,
        avoid: Avoidance | None = None,
        home: Sequence[float] | None = None,
        rotation_weight: float = 1.0,
        damping: float = 0.05,
        singular: float = 0.08,
    ):
        try:
            import daqp  # noqa: F401  the solver that mink is asked for by name
            import mink
            import mujoco
        except ImportError as error:
            raise DependencyMissing("inverse kinematics needs mink: pip install 'vla-stack[control]'") from error
        if len(velocity) != len(joints) or (home is not None and len(home) != len(joints)):
            raise ConfigError(f"{len(joints)} joints need as many speeds, and as many numbers of a home, if any")
        if model.nq != model.njnt or model.nv != model.njnt:
            raise ConfigError(
                "inverse kinematics needs a model of hinges and slides alone: leave out what moves freely"
            )
        names = [model.joint(place).name for place in range(model.njnt)]
        for what, name, known in (
            *(("joint", name, names) for name in joints),
            (kind, frame, [getattr(model, kind)(place).name for place in range(getattr(model, f"n{kind}"))]),
            *(("body", name, [model.body(place).name for place in range(model.nbody)]) for name in [base] if name),
        ):
            if name not in known:
                raise UnknownName(f"{what} of the arm's model", name, known)
        library: Any = mujoco  # it has no types
        self._geom_distance = library.mj_geomDistance
        self._mink, self._frame, self._damping, self._singular = mink, (frame, kind), damping, singular
        self._places = [names.index(name) for name in joints]
        self._names, self._speeds = names, np.zeros(len(names))
        self._speeds[self._places] = velocity
        self._now = mink.Configuration(model)
        self._base = Pose(np.zeros(3), np.eye(3))
        if base is not None:
            found = self._now.get_transform_frame_to_world(base, "body")
            self._base = Pose(found.translation(), found.rotation().as_matrix())
        self._task = mink.FrameTask(frame, kind, position_cost=1.0, orientation_cost=rotation_weight)
        self._tasks: list[Any] = [self._task]
        if home is not None:
            posture = mink.PostureTask(model, cost=1e-3)
            posture.set_target(self._whole(np.array(home)))
            self._tasks.append(posture)
        self._limits: list[Any] = [mink.ConfigurationLimit(model)]
        self._pairs: list[tuple[int, int]] = []
        self._margin = avoid.margin if avoid else 0.0
        self._most = avoid.margin + avoid.seen if avoid else np.inf
        if avoid:
            limit = mink.CollisionAvoidanceLimit(
                model,
                [(list(first), list(second)) for first, second in avoid.pairs],
                gain=avoid.share,
                minimum_distance_from_collisions=avoid.margin,
                collision_detection_distance=self._most,
            )
            self._limits.append(limit)
            self._pairs = limit.geom_id_pairs

    def pose(self, joints: Float64[np.ndarray, "n"]) -> Pose:
        """Of the tool, in the base's frame."""
        self._now.update(self._whole(joints))
        found = self._now.get_transform_frame_to_world(*self._frame)
        turn = self._base.matrix.T
        return Pose(turn @ (found.translation() - self._base.position), turn @ found.rotation().as_matrix())

    def distance(self, joints: Float64[np.ndarray, "n"]) -> float:
        """Between the nearest of the parts that stay apart [m]; at most margin and ``seen`` together."""
        self._now.update(self._whole(joints))
        return self._nearest()

    def step(self, joints: Float64[np.ndarray, "n"], target: Pose, seconds: float) -> Float64[np.ndarray, "n"]:
        """The joints after moving towards a pose for some time, at most at their speeds.

        Args:
            joints: where they are [rad or m].
            target: of the tool, in the base's frame.
            seconds: that the step takes [s].

        Raises:
            BodyFault: no step keeps limits, speeds and margins, e.g. from far outside a joint's range.
        """
        before = self._whole(joints)
        self._now.update(before)
        clear = self._nearest()
        turn = self._base.matrix
        self._task.set_target(
            self._mink.SE3.from_rotation_and_translation(
                self._mink.SO3.from_matrix(turn @ target.matrix), turn @ target.position + self._base.position
            )
        )
        speeds = dict(zip(self._names, self._speeds * seconds, strict=True))
        # mink 0.0.13 bounds a step by a collision's distance over its time: with one second for a step that is the same
        try:
            move = self._mink.solve_ik(
                self._now,
                self._tasks,
                1.0,
                "daqp",
                damping=self._needed_damping(),
                limits=[*self._limits, self._mink.VelocityLimit(self._now.model, speeds)],
            )
        except self._mink.NoSolutionFound as error:
            raise BodyFault(
                f"no step from joints {np.round(joints, 4).tolist()} keeps their ranges, speeds and margins: move the "
                "arm back into its ranges by hand"
            ) from error
        # the solver keeps a speed to about one part in a million
        fast = np.abs(move[self._places]) / (self._speeds[self._places] * seconds)
        move = move / max(1.0, float(fast.max()))
        for _ in range(_HALVINGS):
            after = before + move
            if self._clear(after, clear):
                return after[self._places]
            move = move / 2
        return before[self._places]

    def approach(self, joints: Float64[np.ndarray, "n"], target: Pose, seconds: float) -> Solution:
        """Joints nearer to a pose, or at it: as far as they come in a time, at most at their speeds.

        Args:
            joints: where they are [rad or m].
            target: of the tool, in the base's frame.
            seconds: that the way may take [s].

        Raises:
            BodyFault: as :meth:`step`.
        """
        joints, left = np.array(joints, np.float64), seconds
        for _ in range(CORRECTIONS):
            after = self.step(joints, target, left)
            used = float((np.abs(after - joints) / self._speeds[self._places]).max())
            joints, left = after, left - used
            errors = self._errors(joints, target)
            if used < _STILL or left < _LEAST * seconds or max(errors) < _ARRIVED:
                break
        return Solution(joints, *self._errors(joints, target))

    def reach(self, joints: Float64[np.ndarray, "n"], target: Pose, *, steps: int = 200) -> Solution:
        """Joints for a pose, from where they are on; the nearest that was found if it is out of reach."""
        joints = np.array(joints, np.float64)
        for _ in range(steps):
            after = self.step(joints, target, 0.1)
            moved, joints = np.abs(after - joints).max(), after
            if moved < _STILL:
                break
        return Solution(joints, *self._errors(joints, target))

    def follow(
        self, poses: PosePath, joints: Float64[np.ndarray, "n"], *, every: float = 0.02
    ) -> tuple[JointPath, Solution]:
        """The way of joints for a way of the tool, and how well it keeps to it.

        Args:
            poses: of the tool, in the base's frame.
            joints: at the start of the way [rad or m].
            every: time between two rows of joints [s].
        """
        begin, end = float(poses.times[0]), float(poses.times[-1])
        times = np.linspace(begin, end, max(2, round((end - begin) / every) + 1))
        rows, worst = [np.array(joints, np.float64)], (0.0, 0.0)
        for time in times[1:]:
            target, now = poses.at(time), rows[-1]
            for _ in range(2):  # the second one makes up for what is not linear
                now = self.step(now, target, (times[1] - times[0]) / 2)
            rows.append(now)
            position, turn = self._errors(now, target)
            worst = max(worst[0], position), max(worst[1], turn)
        return JointPath(times, np.array(rows)), Solution(np.array(rows), *worst)

    def _errors(self, joints: np.ndarray, target: Pose) -> tuple[float, float]:
        found = self.pose(joints)
        turn = Rotation.from_matrix(found.matrix.T @ target.matrix).magnitude()
        return float(np.linalg.norm(found.position - target.position)), float(turn)

    def _needed_damping(self) -> float:
        smallest = np.linalg.svd(self._now.get_frame_jacobian(*self._frame)[:, self._places], compute_uv=False)[-1]
        return _LEAST_DAMPING + (self._damping * max(0.0, 1 - smallest / self._singular)) ** 2

    def _clear(self, joints: np.ndarray, before: float) -> bool:
        """Whether the margin holds there, or is at least less violated than before."""
        if not self._pairs:
            return True
        self._now.update(joints)
        nearest = self._nearest()
        return nearest >= self._margin or nearest >= before

    def _nearest(self) -> float:
        model, data = self._now.model, self._now.data
        # beyond what it looks for, MuJoCo 3.3 answers with the largest number there is
        return min((self._most, *(self._geom_distance(model, data, *pair, self._most, None) for pair in self._pairs)))

    def _whole(self, joints: np.ndarray) -> Float64[np.ndarray, "m"]:
        """All joints of the model, these among them."""
        whole = self._now.q.copy()
        whole[self._places] = joints
        return whole
