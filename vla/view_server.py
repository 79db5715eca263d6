"""Rerun's viewer as a child process, in the browser or as a window, that recordings are streamed to.

The process listens on this machine only: Rerun's own ``serve_grpc`` and ``serve_web_viewer`` listen on all addresses.
"""

import importlib.util
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from vla.errors import ConfigError, DependencyMissing

HOST = "127.0.0.1"
START_S = 30.0
"""Time after which a viewer that does not listen is given up."""
STOP_S = 5.0
WINDOW_S = 1.5
"""Time in which a window that cannot be opened ends by itself."""


class ViewerProcess:
    """The viewer while it runs: ``with ViewerProcess("web") as viewer: ... viewer.wait()``.

    Args:
        kind: ``"web"`` serves a page, ``"native"`` opens a window.
        port: that recordings are streamed to.
        web_port: of the page.

    Raises:
        DependencyMissing: Rerun's program is not installed, or does not start.
        ConfigError: a port is taken.
    """

    def __init__(self, kind: Literal["web", "native"], *, port: int = 9876, web_port: int = 9090):
        self.kind, self.port, self.web_port = kind, port, web_port
        self._ports = (port, web_port) if kind == "web" else (port,)
        self._errors = tempfile.TemporaryFile()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """That recordings are streamed to."""
        return f"rerun+http://{HOST}:{self.port}/proxy"

    @property
    def page(self) -> str:
        """What a browser opens."""
        return f"http://{HOST}:{self.web_port}?url=rerun%2Bhttp%3A%2F%2F{HOST}%3A{self.port}%2Fproxy"

    def __enter__(self) -> Self:
        for port in self._ports:
            if not 1 <= port <= 65535 or _listens(port):
                raise ConfigError(f"port {port} is taken or no port; choose another with --port and --web-port")
        options = ["--bind", HOST, "--port", str(self.port)]
        if self.kind == "web":
            options += ["--serve-web", "--web-viewer-port", str(self.web_port)]
        else:
            options += ["--expect-data-soon"]
        self._process = subprocess.Popen([viewer_program(), *options], stdout=subprocess.DEVNULL, stderr=self._errors)
        try:
            self._await()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait(self) -> None:
        """Until the viewer is closed."""
        if self._process is not None:
            self._process.wait()

    def close(self) -> None:
        """End it. Safe to call more than once."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._errors.close()

    def _await(self) -> None:
        end = time.monotonic() + START_S
        while not all(map(_listens, self._ports)):
            if self._ended() or time.monotonic() > end:
                raise self._failure()
            time.sleep(0.05)
        if self.kind == "native":  # it listens before it finds out that there is no display
            end = time.monotonic() + WINDOW_S
            while time.monotonic() < end:
                if self._ended():
                    raise self._failure()
                time.sleep(0.05)

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _failure(self) -> DependencyMissing:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        said = lines[-1] if lines else "nothing"
        hint = " (a window needs a display; --serve needs none)" if self.kind == "native" else ""
        return DependencyMissing(f"Rerun's viewer did not start{hint}; it said: {said}")


def viewer_program() -> str:
    """Path of Rerun's program, which comes with ``rerun-sdk``.

    Raises:
        DependencyMissing: it is not there.
    """
    found = importlib.util.find_spec("rerun_cli")
    for folder in (found.submodule_search_locations or ()) if found else ():
        path = Path(folder) / ("rerun.exe" if os.name == "nt" else "rerun")
        if path.is_file():
            return str(path)
    raise DependencyMissing("Rerun's viewer is not installed: pip install rerun-sdk")


def merge_recordings(parts: Sequence[Path], path: Path) -> None:
    """One ``.rrd`` that holds the recordings of several.

    Raises:
        DependencyMissing: Rerun's program is not there, or failed.
    """
    command = [viewer_program(), "rrd", "merge", *map(str, parts), "-o", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DependencyMissing(f"rerun rrd merge failed: {done.stderr.strip()[-300:]}")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0
