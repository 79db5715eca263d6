"""A run as a film: all cameras side by side, upright, H.264 in an MP4 that every browser plays."""

import dataclasses
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vla.embodiment import EmbodimentSpec
from vla.errors import BodyFault
from vla.experience import Image, Observation
from vla.files import whole_file
from vla.protocols import Outcome, Step
from vla.transforms import reorient, resize


class VideoObserver:
    """An observer that writes one MP4, whole or not at all; an episode without a single step leaves none.

    A second episode replaces the first one's file.

    Args:
        path: ends in ``.mp4``; its folder is made if need be.
        quality: x264's constant rate factor; lower is better and larger.
    """

    wants_images = True

    def __init__(self, path: Path, *, quality: int = 25):
        self.path, self.quality = path, quality
        self._spec: EmbodimentSpec | None = None
        self._stack = ExitStack()
        self._film: tuple[Any, Any] | None = None  # container and stream, once there is a picture

    def start(self, spec: EmbodimentSpec, instruction: str) -> None:
        """Begin a new film; the file is opened with the first picture."""
        self._abandon()
        self._spec = spec

    def step(self, step: Step) -> None:
        """Add one frame.

        Raises:
            BodyFault: a camera gave no picture.
            OSError: it cannot be written.
        """
        if self._spec is None:
            raise RuntimeError("the film was not started")
        import av

        picture = side_by_side(self._spec, step.observation)
        self._film = self._film or self._open(picture, self._spec.action.rate)
        container, stream = self._film
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))

    def finish(self, outcome: Outcome) -> None:
        """Put the file in its place."""
        self._spec = None
        if self._film is None:
            return
        (container, stream), self._film = self._film, None
        with self._stack.pop_all():  # the file gets its name when this ends well
            container.mux(stream.encode(None))
            container.close()

    def _open(self, picture: Image, rate: float) -> tuple[Any, Any]:
        import av

        temporary = self._stack.enter_context(whole_file(self.path))
        container = av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"})
        stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(self.quality), "preset": "veryfast"}
        stream.thread_count = 1
        return container, stream

    def _abandon(self) -> None:
        """Drop an unfinished film."""
        if self._film is not None:
            self._film[0].close()
            self._film = None
            self._stack.pop_all().__exit__(RuntimeError, RuntimeError("unfinished"), None)


def side_by_side(spec: EmbodimentSpec, observation: Observation) -> UInt8[np.ndarray, "h w 3"]:
    """All cameras in their declared order, turned upright and scaled to the height of the tallest; sizes are even.

    Raises:
        BodyFault: a camera gave no picture.
    """
    missing = sorted(set(spec.camera_names) - set(observation.images))
    if missing:
        raise BodyFault(f"no picture from {', '.join(missing)}")
    height = max(camera.height for camera in spec.cameras)
    height += height % 2  # H.264 with half-size colour planes takes even sizes only
    pictures = []
    for camera in spec.cameras:
        picture = reorient(observation.images[camera.name], camera, dataclasses.replace(camera, orientation="upright"))
        width = round(camera.width * height / camera.height)
        pictures.append(resize(picture, height, width + width % 2))
    return np.concatenate(pictures, axis=1)
