"""Options that name a data set to write, and the writing of it, shared by every command that makes one.

What was begun and not ended (Ctrl-C, a crash, kill -9) is gone on with by the same command: finished files are kept
beside the target in ``.<name>.partial``, bound to the source's content and the options.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.markup import escape

from vla.errors import ConfigError
from vla.experience import ChosenFrames
from vla.files import write_text
from vla.protocols import EpisodeSource

Format = Literal["same", "lerobot", "rlds"]
Storage = Literal["auto", "image", "jpeg", "video"]


@dataclass(frozen=True)
class TargetOptions:
    """What to write, and how."""

    out: Path
    """Folder to write; must not exist yet."""
    to: Format = "same"
    """Format: LeRobot v3.0 or RLDS (TFDS); by default that of the source, LeRobot for HDF5."""
    storage: Storage = "auto"
    """Pictures: image (encoded ones as they are, others as PNG), jpeg, video (LeRobot only); auto: as the source."""
    quality: int = 95
    """Of new JPEG pictures, 1 to 100."""
    codec: str = "libx264"
    """Encoder of videos; libsvtav1 is LeRobot's."""
    crf: int = 18
    """Quality of videos: lower is better and larger."""
    file_mb: float = 100.0
    """Size from which a file is full [MiB]; an interrupted command goes on after the last full one."""

    def write(
        self, parts: Mapping[str, EpisodeSource], paths: tuple[str, ...], console: Console, *, folders: bool = False
    ) -> dict[str, Any]:
        """Write the sources as parts of one data set; RLDS has them as splits, LeRobot as folders if there are several.

        Args:
            parts: by name.
            paths: what they come from, for the format and to keep the target out of them.
            console: of the command.
            folders: LeRobot has a folder for one part too.

        Returns:
            facts about what was written, as JSON.

        Raises:
            ConfigError: an option is out of range, the target exists already, or lies within a source.
        """
        from vla.commands.progress import counted

        self._check(paths)
        begin = time.monotonic()
        form = self._format(paths[0])
        storage = self.storage if self.storage != "auto" else _stored(parts, form)
        key = self._key(parts, form, storage)
        total = sum(len(source) for source in parts.values())
        with counted(console, "writing", "episodes") as told:

            def done(episodes: int) -> None:
                told(episodes, total)

            resumed = self._write_parts(parts, form, storage, key, done, folders=folders)
        episodes = {name: len(source) for name, source in parts.items()}
        steps = int(sum(np.sum(source.lengths) for source in parts.values()))
        seconds = time.monotonic() - begin
        on = f", {resumed} of them by an earlier run" if resumed else ""
        written = f"{form}, {total} episodes{on}, {steps} steps in {seconds:.1f} s, pictures: {storage}"
        console.print(f"{escape(str(self.out))}: {written}")
        if storage == "video":
            console.print("pictures were encoded anew, also those of videos: they have the codec's loss")
        elif storage == "jpeg":
            console.print("pictures that were not JPEG before have its loss")
        if form == "rlds":
            console.print(f"open it with: vla data info {escape(str(self.out / '1.0.0'))}")
        return {
            "path": str(self.out),
            "format": form,
            "episodes": episodes,
            "steps": steps,
            "resumed_at": resumed,
            "storage": storage,
            "seconds": round(seconds, 2),
        }

    def _write_parts(
        self,
        parts: Mapping[str, EpisodeSource],
        form: str,
        storage: str,
        key: str,
        done: Callable[[int], None],
        *,
        folders: bool,
    ) -> int:
        """Returns how many episodes an earlier run had written."""
        if form == "rlds":
            with self._writer(self.out, next(iter(parts.values())), form, storage, key) as writer:
                return _fill(writer, [(source, {"split": name}) for name, source in parts.items()], done)
        if len(parts) == 1 and not folders:
            (source,) = parts.values()
            with self._writer(self.out, source, form, storage, key) as writer:
                return _fill(writer, [(source, {})], done)
        return self._write_folders(parts, form, storage, key, done)

    def _write_folders(
        self, parts: Mapping[str, EpisodeSource], form: str, storage: str, key: str, done: Callable[[int], None]
    ) -> int:
        """Each part a data set of its own, below one folder that appears when all are complete."""
        home = self.out.parent / f".{self.out.name}.partial"
        inner, note = home / "set", home / "key"
        inner.mkdir(parents=True, exist_ok=True)
        if note.exists() and note.read_text() != key:
            raise ConfigError(f"{home} was begun from other data or with other options; remove it to begin anew")
        write_text(note, key)
        before, resumed = 0, 0
        try:
            for name, source in parts.items():
                if (inner / name).exists():
                    resumed += len(source)
                else:
                    with self._writer(inner / name, source, form, storage, key + name) as writer:
                        offset = before
                        resumed += _fill(writer, [(source, {})], lambda count, offset=offset: done(offset + count))
                before += len(source)
                done(before)
            inner.rename(self.out)
        finally:
            if not inner.exists() or not any(inner.iterdir()):
                shutil.rmtree(home)
        return resumed

    def _writer(self, path: Path, source: EpisodeSource, form: str, storage: Any, key: str) -> Any:
        from vla.datasets import lerobot_writer, rlds_writer
        from vla.datasets.video_writer import VideoOptions

        size, spec = int(self.file_mb * 2**20), source.spec
        if form == "rlds":
            return rlds_writer.Writer(path, spec, storage, key=key, quality=self.quality, file_bytes=size)
        video = VideoOptions(self.codec, self.crf)
        return lerobot_writer.Writer(path, spec, storage, key=key, quality=self.quality, video=video, file_bytes=size)

    def _check(self, paths: tuple[str, ...]) -> None:
        if not self.file_mb > 0:
            raise ConfigError(f"files need a size above 0 MiB, found {self.file_mb}")
        if self.out.exists():
            raise ConfigError(f"{self.out} exists already; choose another folder or remove it")
        for path in paths:
            if "://" not in path and self.out.resolve().is_relative_to(Path(path).resolve()):
                raise ConfigError(f"{self.out} lies within {path}, which is only read: choose another folder")

    def _format(self, path: str) -> str:
        from vla.plugins import plugin

        if self.to != "same":
            return self.to
        return "rlds" if plugin("datasets", "rlds").accepts(path) else "lerobot"

    def _key(self, parts: Mapping[str, EpisodeSource], form: str, storage: str) -> str:
        about = {
            "parts": {name: [source.content, source.spec.fingerprint] for name, source in parts.items()},
            "written": [form, storage, self.quality, self.codec, self.crf, self.file_mb],
        }
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]


def _fill(writer: Any, sources: list[tuple[EpisodeSource, dict[str, str]]], done: Callable[[int], None]) -> int:
    """Add what the writer does not have yet; returns how many episodes it had."""
    had, number = writer.episodes, 0
    for source, options in sources:
        for index in range(len(source)):
            if number >= had:
                writer.add(source[index], **options)
            number += 1
            done(number)
    return had


def _stored(parts: Mapping[str, EpisodeSource], form: str) -> str:
    """How the source's pictures are stored: as video, or else encoded or not."""
    from vla.datasets.lerobot_video import VideoFrames

    source = next(iter(parts.values()))
    if form != "lerobot" or not len(source) or not source.spec.cameras:
        return "image"
    frames = source[0].images[source.spec.cameras[0].name]
    while isinstance(frames, ChosenFrames):
        frames = frames.frames
    return "video" if isinstance(frames, VideoFrames) else "image"
