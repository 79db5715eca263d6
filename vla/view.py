"""Rerun recordings: one layout for data, simulation and arm, on the timelines ``step`` and ``time``.

::

    camera/<name>              upright pictures
    state/<channel>            measured
    action/<channel>           really sent
    predicted/<channel>        every row of every chunk, at the step it is meant for
    plan/path plan/predicted   the hand's way so far and where the current chunk leads, where positions are known
    plan/hand plan/commanded   its measured pose and the one it is sent to, as three axes
    plan/arm                   the arm's links, where the state has joints whose chain is known
    plan/[hand/]camera_<name>  calibrated cameras where they sit, beside the arm or on the hand
    inference/latency period   [ms]; of the policy, and between two observations
    instruction  log           text; safety events among it

Numbers are in the units of their channels, scales multiplied in.
"""

import tempfile
from collections import deque
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from vla.embodiment import EmbodimentSpec
from vla.experience import Episode
from vla.files import whole_file
from vla.protocols import Outcome, Step
from vla.safety import SafetyEvent
from vla.view_layout import blueprint
from vla.view_stream import RecordingWriter, Sink, Skeleton

EVENTS = 1000
"""Safety events that may wait to be shown; of more, the newest."""


class RerunObserver:
    """An observer that writes one ``.rrd``, whole or not at all, or shows a run in a viewer while it happens.

    Open a file with ``rerun FILE``. A second episode replaces the first one's file; in a viewer each is a recording of
    its own.

    Args:
        where: a file that ends in ``.rrd``, whose folder is made if need be, or the address of a viewer
            (:class:`~vla.view_server.ViewerProcess`).
        images: take pictures at every step; otherwise only those are shown that the policy asked for.
        facts: shown beside the instruction, e.g. the row or the source.
        skeleton: of the arm, if its state tells how it stands.
    """

    def __init__(
        self,
        where: Path | str,
        *,
        images: bool = False,
        facts: dict[str, Any] | None = None,
        skeleton: Skeleton | None = None,
    ):
        self.where, self.images, self.facts, self.skeleton = where, images, dict(facts or {}), skeleton
        self._stack = ExitStack()
        self._writer: RecordingWriter | None = None
        self._events: deque[SafetyEvent] = deque(maxlen=EVENTS)

    @property
    def wants_images(self) -> bool:
        """As was asked for."""
        return self.images

    def start(self, spec: EmbodimentSpec, instruction: str) -> None:
        """Begin a new recording."""
        self.abandon()
        if isinstance(self.where, Path):
            sink = _to_file(self._stack.enter_context(whole_file(self.where)), spec)
        else:
            sink = _to_viewer(self.where, spec)
        try:
            self._writer = RecordingWriter(sink, spec, instruction, self.facts, self.skeleton)
        except BaseException as error:
            self._stack.pop_all().__exit__(type(error), error, None)
            raise

    def event(self, event: SafetyEvent) -> None:
        """A safety rule intervened; from any thread. It is shown with the next step."""
        self._events.append(event)

    def step(self, step: Step) -> None:
        """Add one step."""
        writer = self._recording()
        writer.step(step)
        _tell(writer, self._events)

    def finish(self, outcome: Outcome) -> None:
        """Say how it ended and put the file in its place."""
        writer, self._writer = self._recording(), None
        _tell(writer, self._events)
        with self._stack.pop_all():  # the file gets its name when this ends well
            writer.finish(outcome)
            writer.close()

    def abandon(self) -> None:
        """Drop an unfinished recording, if there is one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self._stack.pop_all().__exit__(RuntimeError, RuntimeError("unfinished"), None)

    def _recording(self) -> RecordingWriter:
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
    _show(episode, _to_viewer(address, episode.spec))


def _show(episode: Episode, sink: Sink) -> None:
    info = {key: value for key, value in episode.info.items() if isinstance(value, str | int | float | bool)}
    facts = {"source": episode.source, "steps": len(episode), **info}
    status = {True: "success", False: "failure", None: "unknown"}[episode.success]
    writer = RecordingWriter(sink, episode.spec, episode.instruction, facts)
    try:
        for index in range(len(episode)):
            writer.step(Step(index, episode.observation(index), None, episode.action[index]))
        writer.finish(Outcome(status, len(episode), 0.0), episode.source)
    finally:
        writer.close()


def _to_file(path: Path, spec: EmbodimentSpec) -> Sink:
    return lambda stream: stream.save(path, default_blueprint=blueprint(spec))


def _to_viewer(address: str, spec: EmbodimentSpec) -> Sink:
    return lambda stream: stream.connect_grpc(address, default_blueprint=blueprint(spec))


def _tell(writer: RecordingWriter, events: deque[SafetyEvent]) -> None:
    while events:
        writer.event(events.popleft())
