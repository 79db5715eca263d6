"""A live view of a run in Rerun, for every command that moves a robot."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from vla.embodiment import EmbodimentSpec
from vla.safety import SafetyEvent

WAITING = 40
"""Steps that may wait to be shown: 2 s at 20 Hz. A viewer that is slower loses steps, which are counted."""


@dataclass(frozen=True)
class ViewOptions:
    """Whether and where to watch."""

    view: Literal["none", "spawn", "serve", "save"] = "none"
    """Watch in Rerun: spawn opens its window, serve a page on this machine, save writes a file for each episode."""
    view_out: Path = Path("view")
    """Folder for the files, with save."""
    view_port: int = 9876
    """Port that recordings are streamed to, with spawn or serve."""
    view_web_port: int = 9090
    """Port of the page, with serve."""


@dataclass
class View:
    """What watches a run; its observer never makes the loop wait.

    Attributes:
        options: see there.
        address: of the viewer; empty without one.
        spec: of the body, once it is known.
        dropped: steps that were not shown.
        error: why the view ended early, if it did.
    """

    options: ViewOptions
    address: str = ""
    dropped: int = 0
    error: str = ""
    _open: list[tuple[Any, Any]] = field(default_factory=list)

    def observers(self, spec: EmbodimentSpec, name: str) -> list[Any]:
        """Those of the next episode: one, or none.

        Args:
            spec: of the body.
            name: of the file, with save.
        """
        from vla.arm_links import skeleton
        from vla.background import BackgroundObserver
        from vla.view import LiveObserver, RerunObserver

        self.settle()
        if self.options.view == "none":
            return []
        links = skeleton(spec)
        if self.options.view == "save":
            inner = RerunObserver(self.options.view_out / f"{name}.rrd", images=True, skeleton=links)
        else:
            inner = LiveObserver(self.address, skeleton=links)
        outer = BackgroundObserver(inner, capacity=WAITING, essential=False)
        self._open.append((inner, outer))
        return [outer]

    def event(self, event: SafetyEvent) -> None:
        """A safety rule intervened."""
        for inner, _ in self._open[-1:]:
            inner.event(event)

    def settle(self) -> None:
        """See the last episode off; the robot stands meanwhile."""
        for _, outer in self._open:
            outer.close(_PATIENCE_S)
            self.dropped += outer.dropped
            self.error = self.error or str(outer.error or "")
        self._open.clear()

    def summary(self) -> dict[str, Any]:
        """JSON values; nothing without a view."""
        self.settle()
        return {} if self.options.view == "none" else {"view": {"dropped_steps": self.dropped, "error": self.error}}


_PATIENCE_S = 5.0  # for a viewer that no longer listens


@contextlib.contextmanager
def opened_view(options: ViewOptions, console: Console) -> Iterator[View]:
    """The viewer while the block runs; a window or page stays until then.

    Raises:
        DependencyMissing: the viewer is not installed, or does not start.
        ConfigError: a port is taken.
    """
    if options.view not in ("spawn", "serve"):
        view = View(options)
        try:
            yield view
        finally:
            view.settle()
        return
    from vla.view_server import ViewerProcess

    kind = "web" if options.view == "serve" else "native"
    with ViewerProcess(kind, port=options.view_port, web_port=options.view_web_port) as viewer:
        if kind == "web":
            console.print(f"watch at {viewer.page}", markup=False)
        view = View(options, viewer.address)
        try:
            yield view
        finally:
            view.settle()
