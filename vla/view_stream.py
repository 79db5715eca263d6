"""One Rerun recording while it is written: what each step of a run becomes in it (:mod:`vla.view` has the list)."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from vla.embodiment import Channel, EmbodimentSpec
from vla.experience import ActionChunk
from vla.mounting import offset_matrix
from vla.protocols import Outcome, Step
from vla.safety import SafetyEvent
from vla.transforms import reorient
from vla.view_pose import commanded, hand_position, hands, pose, predicted_path

JPEG_QUALITY = 85
AXIS_M = 0.06
"""Length of the axes that show a hand's pose [m]."""
FRUSTUM_M = 0.1
"""Length of the pyramid that shows what a camera sees [m]."""
Sink = Callable[[Any], None]
"""Connects a recording stream to a file or a viewer."""
_AXIS_COLOURS = {"x": (225, 85, 80), "y": (75, 175, 100), "z": (80, 135, 235)}
_PREDICTED = (232, 145, 34)
_PATH = (90, 90, 90)
_ARM = (150, 160, 175)
Skeleton = Callable[[Float32[np.ndarray, "s"]], Float64[np.ndarray, "k 3"] | None]
"""From a measured state to the joints' places along an arm, base first, base frame [m]; None where it does not say."""


class RecordingWriter:
    """One recording while it is open.

    Args:
        sink: where it goes.
        spec: of what is shown.
        instruction: as a title.
        facts: shown below it.
        skeleton: of the arm, if its state tells how it stands.
    """

    def __init__(
        self,
        sink: Sink,
        spec: EmbodimentSpec,
        instruction: str,
        facts: dict[str, Any],
        skeleton: Skeleton | None = None,
    ):
        import rerun

        self.rr, self.spec, self.hands, self.skeleton = rerun, spec, hands(spec), skeleton
        self._last = math.nan
        self.stream = rerun.RecordingStream("vla")
        sink(self.stream)
        self._hand: np.ndarray | None = None
        lines = [f"# {instruction or '(no instruction)'}", "", f"embodiment {spec.name}, {spec.action.rate:g} Hz", ""]
        lines += [f"- {key}: {value}" for key, value in {**_meaning(spec), **facts}.items()]
        text = rerun.TextDocument("\n".join(lines), media_type=rerun.MediaType.MARKDOWN)
        self.stream.log("instruction", text, static=True)
        for root, channels in (("state", spec.state), ("action", spec.action.channels)):
            for channel in channels:
                line = rerun.SeriesLines(names=[_label(channel)], colors=_colour(channel))
                self.stream.log(f"{root}/{channel.name}", line, static=True)
        for channel in spec.action.channels:
            name = f"{channel.name} predicted"
            points = rerun.SeriesPoints(names=[name], colors=_colour(channel, pale=True), marker_sizes=[1.5])
            self.stream.log(f"predicted/{channel.name}", points, static=True)
        for hand in self.hands:
            self.stream.log(f"plan/{hand.name}", rerun.TransformAxes3D(AXIS_M), static=True)
            self.stream.log("plan/commanded", rerun.TransformAxes3D(AXIS_M / 2), static=True)
        self._cameras()
        period = rerun.SeriesLines(names=["period [ms]"], colors=[_PATH])
        self.stream.log("inference/period", period, static=True)
        latency = rerun.SeriesPoints(names=["latency [ms]"], colors=[_PREDICTED], marker_sizes=[3.0])
        self.stream.log("inference/latency", latency, static=True)

    def step(self, step: Step) -> None:
        """Show one."""
        observation = step.observation
        self._at(step.index, observation.time)
        if observation.time > self._last:
            self.stream.log("inference/period", self.rr.Scalars(1000 * (observation.time - self._last)))
        self._last = observation.time
        for name, picture in observation.images.items():
            camera = self.spec.camera(name)
            upright = reorient(picture, camera, dataclasses.replace(camera, orientation="upright"))
            self.stream.log(f"camera/{name}", self.rr.Image(upright).compress(jpeg_quality=JPEG_QUALITY))
        self._numbers("state", self.spec.state, observation.state)
        self._numbers("action", self.spec.action.channels, step.action)
        if step.latency is not None:
            self.stream.log("inference/latency", self.rr.Scalars(1000 * step.latency))
        self._plan(step)
        self._poses(step)
        if step.chunk is not None:
            self._predictions(step.index - _late(step), step.chunk)

    def event(self, event: SafetyEvent) -> None:
        """Tell of a safety rule's intervention, at the step of now."""
        self.stream.log("log", self.rr.TextLog(f"safety, {event.rule}: {event.what}", level="WARN"))

    def finish(self, outcome: Outcome, name: str = "") -> None:
        """Say how it ended."""
        level = {"success": "INFO", "failure": "WARN", "error": "ERROR"}.get(outcome.status, "INFO")
        text = f"{outcome.status} after {outcome.steps} steps" + (f": {outcome.error}" if outcome.error else "")
        self.stream.log("log", self.rr.TextLog(text, level=level))
        if lost := outcome.info.get("dropped_steps"):
            self.stream.log("log", self.rr.TextLog(f"{lost} steps are not shown", level="WARN"))
        self.stream.send_recording_name(name or f"{outcome.status}, {outcome.steps} steps")

    def close(self) -> None:
        """Pass on what is left."""
        self.stream.flush()
        self.stream.disconnect()

    def _cameras(self) -> None:
        """Where calibrated cameras sit and what they see; one on the tool moves along with the hand."""
        for camera in self.spec.cameras:
            seen = camera.calibration
            if seen is None or (seen.parent == "tool" and len(self.hands) != 1):
                continue
            root = f"plan/{self.hands[0].name}" if seen.parent == "tool" else "plan"
            place = offset_matrix(seen.pose)
            pinhole = self.rr.Pinhole(
                focal_length=seen.focal,
                principal_point=seen.centre,
                resolution=(camera.width, camera.height),
                camera_xyz=self.rr.ViewCoordinates.RDF,
                image_plane_distance=FRUSTUM_M,
            )
            entity = f"{root}/camera_{camera.name}"
            self.stream.log(entity, self.rr.Transform3D(translation=place[:3, 3], mat3x3=place[:3, :3]), static=True)
            self.stream.log(entity, pinhole, static=True)

    def _at(self, step: int, seconds: float) -> None:
        self.stream.set_time("step", sequence=step)
        self.stream.set_time("time", duration=seconds)

    def _numbers(self, root: str, channels: Sequence[Channel], values: Float32[np.ndarray, "c"]) -> None:
        for channel, value in zip(channels, values, strict=True):
            self.stream.log(f"{root}/{channel.name}", self.rr.Scalars(float(value) * channel.scale))

    def _predictions(self, index: int, chunk: ActionChunk) -> None:
        rows = np.arange(len(chunk.actions))
        times = [
            self.rr.TimeColumn("step", sequence=index + rows),
            self.rr.TimeColumn("time", duration=chunk.time + rows * chunk.dt),
        ]
        for place, channel in enumerate(self.spec.action.channels):
            values = chunk.actions[:, place].astype(np.float64) * channel.scale
            self.stream.send_columns(f"predicted/{channel.name}", times, self.rr.Scalars.columns(scalars=values))

    def _poses(self, step: Step) -> None:
        state = step.observation.state
        for hand in self.hands:
            found = pose(self.spec, hand, state)
            if found is not None:
                place, matrix = found
                self.stream.log(f"plan/{hand.name}", self.rr.Transform3D(translation=place, mat3x3=matrix))
        sent = commanded(self.spec, step.observation, step.action)
        if sent is not None:
            self.stream.log("plan/commanded", self.rr.Transform3D(translation=sent[0], mat3x3=sent[1]))
        points = self.skeleton(state) if self.skeleton is not None else None
        if points is not None:
            self.stream.log("plan/arm", self.rr.LineStrips3D([points], colors=[_ARM], radii=0.02))

    def _plan(self, step: Step) -> None:
        position = hand_position(self.spec, step.observation)
        if position is None:
            return
        before, self._hand = self._hand, position
        if before is not None:  # the view shows all pieces up to the cursor
            self.stream.log("plan/path", self.rr.LineStrips3D([[before, position]], colors=[_PATH], radii=0.002))
        if step.chunk is not None:
            rest = dataclasses.replace(step.chunk, actions=step.chunk.actions[_late(step) :])
            ahead = predicted_path(self.spec, position, rest)
            self.stream.log("plan/predicted", self.rr.LineStrips3D([ahead], colors=[_PREDICTED], radii=0.003))


def _late(step: Step) -> int:
    """Steps ago that the observation was made which the step's chunk answers: its first rows are over by then."""
    if step.chunk is None:
        return 0
    passed = round((step.observation.time - step.chunk.time) / step.chunk.dt)
    return min(max(passed, 0), step.index, len(step.chunk.actions) - 1)


def _meaning(spec: EmbodimentSpec) -> dict[str, str]:
    """What the numbers mean, where a number does not say it itself."""
    action = spec.action
    meaning = {"actions": f"{action.mode}, {action.frame} frame"}
    if action.rotation or spec.state_rotation:
        meaning["rotations"] = f"action {action.rotation or 'none'}, state {spec.state_rotation or 'none'}"
    if action.gripper:
        meaning["gripper"] = f"{action.gripper.opened:g} open, {action.gripper.closed:g} closed"
    return meaning


def _label(channel: Channel) -> str:
    return channel.name if channel.unit == "1" else f"{channel.name} [{channel.unit}]"


def _colour(channel: Channel, *, pale: bool = False) -> list[tuple[int, ...]] | None:
    """By axis; None lets Rerun choose."""
    colour = _AXIS_COLOURS.get(channel.name[-1])
    if colour is None:
        return [_PREDICTED] if pale else None
    return [tuple((part + 200) // 2 for part in colour)] if pale else [colour]
