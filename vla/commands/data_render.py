"""``vla data render``."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

from rich.console import Console

from vla.commands.episode_choice import chosen_episodes
from vla.commands.source import SourceOptions
from vla.errors import ConfigError, DataError
from vla.experience import ChosenFrames, Image
from vla.quirks import Quirk, admit

_FILE_BYTES = 16 << 20  # of the data set's files: what an interrupted run loses is the file it was at


@dataclass(frozen=True)
class Render:
    """Pictures and states for HDF5 demonstrations that hold simulator states, written as a LeRobot v3.0 data set.

    An interrupted run goes on where it was when it is started again with the same options.
    """

    source: SourceOptions
    out: Path
    """Folder to write."""
    episodes: tuple[str, ...] = ()
    """Numbers or ranges of episodes, e.g. 3 or 0:10; all if none is given."""
    camera_size: int = 256
    """Height and width of the pictures [pixels]."""
    render: Literal["decimated", "exact"] = "decimated"
    """Visual meshes thinned out, for machines without a GPU, or as LIBERO draws them."""
    storage: Literal["image", "jpeg", "video"] = "image"
    """PNG without loss, JPEG or video."""
    workers: int = 0
    """Processes; 0 for one a CPU core."""

    def run(self, console: Console) -> dict[str, Any]:
        """Render and write."""
        from rich.progress import Progress, TimeRemainingColumn

        from vla.datasets.lerobot_v3 import Writer
        from vla.embodiments.libero_panda import STATE, libero_panda
        from vla.sim.render_states import RenderConfig, RenderJob, render_states

        config = RenderConfig(self.camera_size, self.render, self.workers)
        if self.out.exists():
            raise ConfigError(f"{self.out} exists already; choose another folder or remove it")
        source = self._open()
        numbers = self._renderable(source)
        cameras = libero_panda(self.camera_size).cameras
        spec = dataclasses.replace(source.spec, state=STATE, state_rotation="axis_angle_2pi", cameras=cameras)
        key = f"render {source.content} {spec.fingerprint} {self.render} {self.storage} {numbers}"
        begin, steps = time.monotonic(), 0
        with Writer(self.out, spec, self.storage, key=key, file_bytes=_FILE_BYTES) as writer:
            done = writer.episodes
            left = numbers[done:]
            if done:
                console.print(f"{done} of {len(numbers)} episodes are there from an earlier run")
            models = source.model_files(left)
            jobs = (
                RenderJob(xml, source.states(number), source[number].source)
                for number, xml in zip(left, models, strict=True)
            )
            columns = (*Progress.get_default_columns()[:3], TimeRemainingColumn())
            with Progress(*columns, console=Console(stderr=True)) as bar:
                shown = bar.add_task("episodes", total=len(numbers), completed=done)
                for number, rendered in zip(left, render_states(config, jobs, len(left)), strict=True):
                    episode = source[number]
                    pictures = {
                        name: Pictures(tuple(encoded), self.camera_size, episode.source)
                        for name, encoded in rendered.pictures.items()
                    }
                    info = {**episode.info, "rendered": self.render}
                    writer.add(
                        dataclasses.replace(episode, spec=spec, state=rendered.state, images=pictures, info=info)
                    )
                    steps += len(episode)
                    bar.advance(shown)
        seconds = time.monotonic() - begin
        console.print(f"{self.out}: {len(numbers)} episodes; {steps} steps in {seconds:.0f} s")
        return {
            "path": str(self.out),
            "episodes": len(numbers),
            "resumed": done,
            "steps": steps,
            "left_out": len(self._chosen(source)) - len(numbers),
            "seconds": round(seconds, 1),
        }

    def _open(self) -> Any:
        from vla.datasets import hdf5_demos

        if not hdf5_demos.accepts(self.source.path):
            raise DataError(self.source.path, "data set", expected=hdf5_demos.LAYOUT, found="something else")
        return hdf5_demos.Config(
            path=Path(self.source.path),
            split=self.source.split,
            fixes=not self.source.raw,
            tolerate=self.source.tolerate,
            description=self.source.description,
            instruction=self.source.instruction,
            observations=False,
        ).make()

    def _chosen(self, source: Any) -> list[int]:
        return list(chosen_episodes(self.episodes or ("0:",), len(source)))

    def _renderable(self, source: Any) -> list[int]:
        """The chosen episodes but those whose model names meshes that are not installed.

        Raises:
            QuirksFound: there are such, and nobody said to leave them out.
        """
        from vla.sim.model_assets import listed, missing_assets

        numbers = self._chosen(source)
        quirks, kept = [], []
        for number, xml in zip(numbers, source.model_files(numbers), strict=True):
            episode = source[number]
            missing = missing_assets(xml, episode.source)
            if not missing:
                kept.append(number)
                continue
            quirks.append(
                Quirk(
                    kind=MISSING,
                    file=str(Path(self.source.path)),
                    field=f"{episode.source}, model_file",
                    expected="meshes and textures of the installed robosuite and LIBERO",
                    found=listed(missing),
                    remedy="the demonstration is left out",
                )
            )
        admit(quirks, self.source.tolerate)
        if not kept:
            first = quirks[0]
            raise DataError(first.file, first.field, expected=first.expected, found=f"{first.found}; none can be drawn")
        return kept


MISSING = "missing-asset"


@dataclass(frozen=True)
class Pictures(Sequence[Image]):
    """Rendered pictures of one camera; a writer takes the PNGs as they are.

    Attributes:
        files: PNGs.
        size: height and width [pixels].
        source: of the episode, for errors.
    """

    files: tuple[bytes, ...]
    size: int
    source: str

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Image]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Image]: ...
    def __getitem__(self, index: int | slice) -> Image | Sequence[Image]:
        """One picture, or fewer of them."""
        import numpy as np

        from vla.datasets.picture import decode_picture

        if isinstance(index, slice):
            return ChosenFrames(self, np.arange(len(self))[index])
        return decode_picture(self.files[index], self.size, self.size, self.source, f"step {index}")

    def encoded(self, index: int) -> bytes:
        """One picture, PNG."""
        return self.files[index]
