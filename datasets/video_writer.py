"""Pictures of one camera as a video file, encoded as they come (PyAV).

The loss is the codec's. With the default settings (H.264, CRF 18, 4:2:0) pictures of 224 pixels and more come back with
a PSNR of at least 38 dB, Bridge's of 64 pixels with at least 31 dB (tested on real ones; noise is worse). LeRobot's own
default (AV1, CRF 30) gives 36 and 30 dB and is 2 to 9 times slower (encoding and decoding); ``yuv444p`` with CRF 10
gives 43 and 37 dB.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError
from vla.experience import Image


@dataclass(frozen=True)
class VideoOptions:
    """How videos are encoded.

    Attributes:
        codec: an encoder of FFmpeg, e.g. ``"libx264"``, ``"libx265"``, ``"libsvtav1"`` (LeRobot's default).
        crf: constant rate factor: lower is better and larger.
        gop: pictures from one key frame to the next; few make random access cheap.
        pixels: pixel format; ``"yuv444p"`` keeps the full colour resolution.
    """

    codec: str = "libx264"
    crf: int = 18
    gop: int = 2
    pixels: str = "yuv420p"

    def check(self, spec: EmbodimentSpec) -> None:
        """Refuse what cannot be encoded, before anything is written.

        Raises:
            ConfigError: the codec is unknown, the rate is not a whole number, or a camera's size is odd.
        """
        import av

        if self.codec not in av.codecs_available:
            raise ConfigError(f"this FFmpeg has no encoder {self.codec!r}; try libx264 or libsvtav1")
        rate = spec.action.rate
        if rate != round(rate):
            raise ConfigError(f"video needs a whole number of pictures a second, the action rate is {rate} Hz")
        for camera in spec.cameras:
            if "420" in self.pixels and (camera.height % 2 or camera.width % 2):
                size = f"{camera.height}x{camera.width}"
                raise ConfigError(f"{self.pixels} needs even sizes, camera {camera.name} has {size}; take yuv444p")

    def facts(self, height: int, width: int, rate: int) -> dict[str, Any]:
        """What LeRobot's info.json says about a video."""
        names = {"libx264": "h264", "libx265": "hevc", "libsvtav1": "av1"}
        return {
            "video.height": height,
            "video.width": width,
            "video.codec": names.get(self.codec, self.codec),
            "video.pix_fmt": self.pixels,
            "video.fps": rate,
            "video.channels": 3,
            "video.g": self.gop,
            "video.crf": self.crf,
            "has_audio": False,
            "is_depth_map": False,
        }


class VideoWriter:
    """One video file being written.

    Args:
        file: made anew.
        rate: pictures a second.
        size: height and width [pixels].
        options: how it is encoded.
    """

    def __init__(self, file: Path, rate: int, size: tuple[int, int], options: VideoOptions):
        import av

        file.parent.mkdir(parents=True, exist_ok=True)
        self.pictures = 0
        self._file = file
        with self._one_kind_of_error():
            self._container: Any = av.open(str(file), "w", format="mp4")
            settings = {"crf": str(options.crf), "g": str(options.gop)}
            self._stream: Any = self._container.add_stream(options.codec, rate, options=settings)
            self._stream.height, self._stream.width = size
            self._stream.pix_fmt = options.pixels

    def add(self, picture: Image) -> None:
        """Append one picture."""
        import av

        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = self.pictures
        frame.time_base = 1 / self._stream.codec_context.framerate
        with self._one_kind_of_error():
            self._container.mux(self._stream.encode(frame))
        self.pictures += 1

    def close(self) -> None:
        """Write what the encoder still holds, and the file's index; more than once is no error."""
        container, self._container = self._container, None
        if container is None:
            return
        with self._one_kind_of_error():
            container.mux(self._stream.encode())
            container.close()

    def discard(self) -> None:
        """Give the file up unfinished: to end it after an error, as on a full disk, would crash in FFmpeg."""
        self._container = self._stream = None

    @contextlib.contextmanager
    def _one_kind_of_error(self) -> Iterator[None]:
        """Of PyAV's errors only some are OSErrors."""
        from av.error import FFmpegError

        try:
            yield
        except FFmpegError as error:
            self.discard()
            raise OSError(error.errno, error.strerror, str(self._file)) from error
