"""Rerun recordings: one layout for data, simulation and arm, on the timelines ``step`` and ``time``.

::

    camera/<name>              upright pictures
    state/<channel>            measured
    action/<channel>           really sent
    predicted/<channel>        every row of every chunk, at the step it is meant for
    plan/path plan/predicted   the hand's way so far and where the current chunk leads, where positions are known
    plan/hand                  its pose as three axes, from whatever form the state's rotation has
    inference/latency          [ms]
    instruction  log           text

Numbers are in the units of their channels, scales multiplied in.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from vla.embodiment import Channel, EmbodimentSpec, RotationForm
from vla.experience import ActionChunk, Episode, Observation
from vla.files import whole_file
from vla.protocols import Outcome, Step
from vla.transforms import reorient
from vla.view_pose import hands, pose

JPEG_QUALITY = 85
AXIS_M = 0.06
"""Length of the axes that show a hand's pose [m]."""
Sink = Callable[[Any], None]
"""Connects a recording stream to a file or a viewer."""
_AXIS_COLOURS = {"x": (225, 85, 80), "y": (75, 175, 100), "z": (80, 135, 235)}
_PREDICTED = (232, 145, 34)
_PATH = (90, 90, 90)


class RerunObserver:
    """An observer that writes one ``.rrd``, whole or not at all; open it with ``rerun FILE``.

    A second episode replaces the first one's file.

    Args:
        path: ends in ``.rrd``; its folder is made if need be.
        images: take pictures at every step; otherwise only those are shown that the policy asked for.
        facts: shown beside the instruction, e.g. the row or the source.
    """

    def __init__(self, path: Path, *, images: bool = False, facts: dict[str, Any] | None = None):
        self.path, self.images, self.facts = path, images, dict(facts or {})
        self._stack = ExitStack()
        self._writer: _Writer | None = None

    @property
    def wants_images(self) -> bool:
        """As was asked for."""
        return self.images

    def start(self, spec: EmbodimentSpec, instruction: str) -> None:
        """Begin a new recording."""
        self.abandon()
        temporary = self._stack.enter_context(whole_file(self.path))
        self._writer = _Writer(_to_file(temporary, spec), spec, instruction, self.facts)

    def step(self, step: Step) -> None:
        """Add one step."""
        self._recording().step(step)

    def finish(self, outcome: Outcome) -> None:
        """Say how it ended and put the file in its place."""
        writer, self._writer = self._recording(), None
        with self._stack.pop_all():  # the file gets its name when this ends well
            writer.finish(outcome)
            writer.close()

    def abandon(self) -> None:
        """Drop an unfinished recording, if there is one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self._stack.pop_all().__exit__(RuntimeError, RuntimeError("unfinished"), None)

    def _recording(self) -> "_Writer":
        if self._writer is None:
            raise RuntimeError("the recording was not started")
        return self._writer


def view_episode(episode: Episode, path: Path) -> None:
    """Write any episode as a recording: cameras, state and action by channel, instruction.

    Raises:
        DataError: a picture cannot be decoded; nothing is written.
    """
    with whole_file(path) as temporary:
        _show(episode, _to_file(temporary, episode.spec))


def view_episodes(episodes: Iterable[Episode], path: Path) -> None:
    """Write several episodes as recordings of one file; the viewer lists them by their names.

    Raises:
        DataError: a picture cannot be decoded; nothing is written.
        DependencyMissing: Rerun's program, which joins them, is not installed.
    """
    from vla.view_server import merge_recordings

    with whole_file(path) as temporary, tempfile.TemporaryDirectory(dir=path.parent, prefix=".parts.") as folder:
        parts: list[Path] = []
        for number, episode in enumerate(episodes):
            parts.append(Path(folder) / f"{number:06d}.rrd")
            _show(episode, _to_file(parts[-1], episode.spec))
        merge_recordings(parts, temporary)


def stream_episode(episode: Episode, address: str) -> None:
    """Send any episode to a running viewer as a recording of its own.

    Args:
        episode: of any format.
        address: ``rerun+http://127.0.0.1:9876/proxy`` or the like.

    Raises:
        DataError: a picture cannot be decoded.
    """
    _show(episode, lambda stream: stream.connect_grpc(address, default_blueprint=blueprint(episode.spec)))


def _show(episode: Episode, sink: Sink) -> None:
    info = {key: value for key, value in episode.info.items() if isinstance(value, str | int | float | bool)}
    facts = {"source": episode.source, "steps": len(episode), **info}
    status = {True: "success", False: "failure", None: "unknown"}[episode.success]
    writer = _Writer(sink, episode.spec, episode.instruction, facts)
    try:
        for index in range(len(episode)):
            writer.step(Step(index, episode.observation(index), None, episode.action[index]))
        writer.finish(Outcome(status, len(episode), 0.0), episode.source)
    finally:
        writer.close()


def _to_file(path: Path, spec: EmbodimentSpec) -> Sink:
    return lambda stream: stream.save(path, default_blueprint=blueprint(spec))


class _Writer:
    """One recording while it is open."""

    def __init__(self, sink: Sink, spec: EmbodimentSpec, instruction: str, facts: dict[str, Any]):
        import rerun

        self.rr, self.spec, self.hands = rerun, spec, hands(spec)
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
        latency = rerun.SeriesPoints(names=["latency [ms]"], colors=[_PREDICTED], marker_sizes=[3.0])
        self.stream.log("inference/latency", latency, static=True)

    def step(self, step: Step) -> None:
        observation = step.observation
        self._at(step.index, observation.time)
        for name, picture in observation.images.items():
            camera = self.spec.camera(name)
            upright = reorient(picture, camera, dataclasses.replace(camera, orientation="upright"))
            self.stream.log(f"camera/{name}", self.rr.Image(upright).compress(jpeg_quality=JPEG_QUALITY))
        self._numbers("state", self.spec.state, observation.state)
        self._numbers("action", self.spec.action.channels, step.action)
        if step.latency is not None:
            self.stream.log("inference/latency", self.rr.Scalars(1000 * step.latency))
        self._plan(step)
        self._poses(observation.state)
        if step.chunk is not None:
            self._predictions(step.index, step.chunk)

    def finish(self, outcome: Outcome, name: str = "") -> None:
        level = {"success": "INFO", "failure": "WARN", "error": "ERROR"}.get(outcome.status, "INFO")
        text = f"{outcome.status} after {outcome.steps} steps" + (f": {outcome.error}" if outcome.error else "")
        self.stream.log("log", self.rr.TextLog(text, level=level))
        self.stream.send_recording_name(name or f"{outcome.status}, {outcome.steps} steps")

    def close(self) -> None:
        self.stream.flush()
        self.stream.disconnect()

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

    def _poses(self, state: Float32[np.ndarray, "s"]) -> None:
        for hand in self.hands:
            found = pose(self.spec, hand, state)
            if found is not None:
                place, matrix = found
                self.stream.log(f"plan/{hand.name}", self.rr.Transform3D(translation=place, mat3x3=matrix))

    def _plan(self, step: Step) -> None:
        position = hand_position(self.spec, step.observation)
        if position is None:
            return
        before, self._hand = self._hand, position
        if before is not None:  # the view shows all pieces up to the cursor
            self.stream.log("plan/path", self.rr.LineStrips3D([[before, position]], colors=[_PATH], radii=0.002))
        if step.chunk is not None:
            ahead = predicted_path(self.spec, position, step.chunk)
            self.stream.log("plan/predicted", self.rr.LineStrips3D([ahead], colors=[_PREDICTED], radii=0.003))


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


def hand_position(spec: EmbodimentSpec, observation: Observation) -> Float64[np.ndarray, "3"] | None:
    """Measured position of the hand [m]; None if the state does not hold one, or the actions do not move it."""
    places = _positions(spec.state)
    if len(places) != 3 or len(_positions(spec.action.channels)) != 3 or spec.action.frame != "base":
        return None
    return np.array([observation.state[place] * spec.state[place].scale for place in places], np.float64)


def predicted_path(
    spec: EmbodimentSpec, position: Float64[np.ndarray, "3"], chunk: ActionChunk
) -> Float64[np.ndarray, "h+1 3"]:
    """Where a chunk leads from ``position`` if every action is carried out exactly, base frame [m]."""
    places = _positions(spec.action.channels)
    scale = np.array([spec.action.channels[place].scale for place in places])
    moves = chunk.actions[:, places].astype(np.float64) * scale
    points = position + np.cumsum(moves, axis=0) if spec.action.mode == "delta" else moves
    return np.concatenate([position[None], points])


def _positions(channels: Sequence[Channel]) -> list[int]:
    return [place for place, channel in enumerate(channels) if channel.kind == "position" and channel.unit == "m"]


def blueprint(spec: EmbodimentSpec) -> Any:
    """The layout that every recording opens with: cameras, the plan in space, numbers by kind over time."""
    import rerun.blueprint as rrb

    cameras = [rrb.Spatial2DView(origin=f"camera/{name}", name=name) for name in spec.camera_names]
    everything = rrb.VisibleTimeRanges(
        [
            rrb.VisibleTimeRange(
                timeline, start=rrb.TimeRangeBoundary.infinite(), end=rrb.TimeRangeBoundary.cursor_relative()
            )
            for timeline in ("step", "time")
        ]
    )
    plan = rrb.Spatial3DView(origin="plan", name="Plan", overrides={"plan/path": everything})
    notes = rrb.Tabs(
        rrb.TextDocumentView(origin="instruction", name="Instruction"),
        rrb.TextLogView(origin="log", name="Log"),
        rrb.TimeSeriesView(origin="inference", name="Inference"),
    )
    left = rrb.Vertical(rrb.Horizontal(*cameras), rrb.Horizontal(plan, notes), row_shares=[3, 2])
    actions = _charts("Action", spec.action.channels, ("action", "predicted"), spec.action.rotation)
    states = _charts("State", spec.state, ("state",), spec.state_rotation)
    right = rrb.Tabs(rrb.Vertical(*actions, name="Actions"), rrb.Vertical(*states, name="State"))
    return rrb.Blueprint(
        rrb.Horizontal(left, right, column_shares=[3, 2]),
        rrb.TimePanel(timeline="step", state="collapsed", fps=spec.action.rate),
        collapse_panels=True,
    )


def _charts(title: str, channels: Sequence[Channel], roots: Sequence[str], form: RotationForm | None) -> list[Any]:
    """One chart for each kind of channel: numbers of one unit share an axis."""
    import rerun.blueprint as rrb

    charts = []
    for kind, unit in dict.fromkeys((channel.kind, channel.unit) for channel in channels):
        names = [channel.name for channel in channels if (channel.kind, channel.unit) == (kind, unit)]
        contents = [f"{root}/{name}" for name in names for root in roots]
        label = f" [{unit}]" if unit != "1" else ""
        legend = rrb.PlotLegend(rrb.Corner2D.RightTop)
        name = f"{title}: {kind}{label}" + (f", {form}" if kind == "rotation" else "")
        charts.append(rrb.TimeSeriesView(origin="/", contents=contents, name=name, plot_legend=legend))
    return charts
