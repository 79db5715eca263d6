"""Pictures of a video file at random access, by PyAV or torchcodec.

The picture of a step is the last one that is not later than the step, give or take :data:`TOLERANCE` of the camera's
period: cameras and actions may have different rates, and a picture from the future is never taken. Decoders stay open
in each process, as many as fit in a budget of bytes; reading on continues where the last picture was, reading elsewhere
starts at the key frame before.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, overload

from vla.errors import ConfigError, DataError, DependencyMissing
from vla.experience import Image

Decoder = Literal["pyav", "torchcodec"]

TOLERANCE = 0.1
"""Part of a camera's period by which a picture may be later than its step: rounding of time stamps, nothing more."""

_BUDGET = 256 * 2**20  # bytes that open decoders may take in a process
_MOST_OPEN = 64  # files
_PICTURES = 20  # that a decoder may hold back for reference and order, at 1.5 bytes a pixel
_FIXED = 2 * 2**20  # bytes of a decoder beside its pictures
_FIRST_REACH = 4  # pictures worth decoding rather than seeking, before anything is known about key frames
_FURTHER = 4.0  # how many times further back each new attempt to find a key frame starts


class OpenVideo(Protocol):
    """A video with a decoder in some state."""

    def picture(self, time: float) -> Image:
        """The last picture that is not later than ``time`` [s]."""
        ...


@dataclass(frozen=True)
class VideoFacts:
    """What a video's header says.

    Attributes:
        size: height and width [pixels].
        end: where its last picture ends [s]; None if it does not say.
        rate: pictures a second.
    """

    size: tuple[int, int]
    end: float | None
    rate: float


def video_facts(path: Path) -> VideoFacts:
    """What the header says; decodes nothing.

    Raises:
        DataError: it is not a video.
    """
    with _errors(path, "header"), _container(path) as container:
        stream = _stream(container, path)
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        if not 0 < rate < 1e5:
            raise DataError(path, "rate", expected="pictures a second, above 0", found=f"{rate}")
        end = None
        if stream.duration is not None:
            end = float((stream.duration + (stream.start_time or 0)) * stream.time_base)
        return VideoFacts((stream.height, stream.width), end, rate)


class PyavVideo:
    """A video opened by PyAV.

    Args:
        path: the video.
        size: height and width that its pictures must have [pixels].

    Raises:
        DataError: it is not a video, or of another size.
    """

    def __init__(self, path: Path, size: tuple[int, int]):
        from av.video.reformatter import VideoReformatter

        self._path, self._size = path, size
        with _errors(path, "header"):
            self._file = _container(path)
            self._stream = _stream(self._file, path)
            height, width = self._stream.height, self._stream.width
            if (height, width) != size:
                self._file.close()
                expected = "{}x{}".format(*size)
                raise DataError(path, "pictures", expected=expected, found=f"{height}x{width}")
            # one thread: loaders run a process a core, and threads hold pictures back
            self._stream.codec_context.thread_count = 1
            # a damaged stream may claim a huge picture; codecs round sizes up to blocks
            self._stream.codec_context.options = {"max_pixels": str(4 * (height + 128) * (width + 128))}
        self._reformatter = VideoReformatter()  # keeps its tables; a frame's own conversion makes them anew
        self._base = float(self._stream.time_base)
        self._period = 1 / float(self._stream.average_rate or self._stream.guessed_rate)
        self._frames: Iterator[Any] = iter(())
        self._now: Any = None  # the last frame that was wanted
        self._next: Any = None  # the one after it, where that is known
        self._reach = _FIRST_REACH * self._period  # the longest way from a key frame seen so far [s]

    def picture(self, time: float) -> Image:
        """The last picture that is not later than ``time`` [s].

        Raises:
            DataError: there is none less than a period old, or the video is damaged.
        """
        field, late = f"picture at {time:.4f} s", TOLERANCE * self._period
        with _errors(self._path, field):
            if self._now is None or not -late <= time - self._now.time <= self._reach:
                self._seek(time + late)
            now = self._advance(time, late)
            if not time - self._period - late <= now.time <= time + late:
                raise DataError(self._path, field, expected="a picture", found=f"the nearest at {now.time:.4f} s")
            if (now.height, now.width) != self._size:
                expected, found = "{}x{}".format(*self._size), f"{now.height}x{now.width}"
                raise DataError(self._path, field, expected=expected, found=found)
            return self._reformatter.reformat(now, format="rgb24").to_ndarray()

    def _seek(self, time: float) -> None:
        """Stand on a key frame not later than ``time``."""
        back = 0.0
        while True:
            place = max(0.0, time - back)
            start = int(place / self._base) if place else min(0, self._stream.start_time or 0)
            self._now = self._next = None
            self._file.seek(start, stream=self._stream, backward=True)
            self._frames = (frame for frame in self._file.decode(self._stream) if frame.pts is not None)
            self._now = next(self._frames, None)
            if self._now is not None and self._now.time <= time:
                self._reach = max(self._reach, time - self._now.time)
                return
            if not place:
                found = "none" if self._now is None else f"the first at {self._now.time:.4f} s"
                raise DataError(self._path, f"picture at {time:.4f} s", expected="a picture", found=found)
            back = max(back * _FURTHER, 8 * self._period)  # streams with reordered pictures may land behind

    def _advance(self, time: float, late: float) -> Any:
        """The last frame that is not later than ``time``; where decoding stands from now on."""
        while self._now.time < time - late:
            if self._next is None:
                self._next = next(self._frames, None)
            if self._next is None or self._next.time > time + late:
                break
            self._now, self._next = self._next, None
        return self._now


class TorchcodecVideo:
    """A video opened by torchcodec.

    Args:
        path: the video.
        size: height and width that its pictures must have [pixels].

    Raises:
        DependencyMissing: torchcodec does not load.
        DataError: it is not a video, or of another size.
    """

    def __init__(self, path: Path, size: tuple[int, int]):
        decoder = _torchcodec()
        self._path = path
        try:
            self._decoder = decoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=1)
        except (RuntimeError, ValueError) as error:
            raise DataError(path, "header", expected="a readable video", found=str(error)) from error
        facts = self._decoder.metadata
        if (facts.height, facts.width) != size:
            expected = "{}x{}".format(*size)
            raise DataError(path, "pictures", expected=expected, found=f"{facts.height}x{facts.width}")
        if not facts.average_fps:
            raise DataError(path, "rate", expected="pictures a second, above 0", found=str(facts.average_fps))
        self._period = 1 / facts.average_fps

    def picture(self, time: float) -> Image:
        """The last picture that is not later than ``time`` [s].

        Raises:
            DataError: there is none, or the video is damaged.
        """
        try:
            return self._decoder.get_frame_played_at(time + TOLERANCE * self._period).data.numpy()
        except (RuntimeError, IndexError) as error:
            field = f"picture at {time:.4f} s"
            raise DataError(self._path, field, expected="a picture", found=str(error)) from error


_DECODERS: dict[str, Callable[[Path, tuple[int, int]], OpenVideo]] = {"pyav": PyavVideo, "torchcodec": TorchcodecVideo}


def check_decoder(name: str) -> None:
    """Whether a decoder of that name exists and loads.

    Raises:
        ConfigError: there is none.
        DependencyMissing: it does not load.
    """
    if name not in _DECODERS:
        raise ConfigError(f"decoder is one of {', '.join(_DECODERS)}, found {name!r}")
    if name == "torchcodec":
        _torchcodec()


def _torchcodec() -> Any:
    """Its decoder; the shared libraries of FFmpeg that it needs may be missing or too new."""
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DependencyMissing(
            f"decoder torchcodec does not load ({reason}): install torchcodec and FFmpeg 4 to 8, or choose pyav"
        ) from error
    return VideoDecoder


class _OpenVideos:
    """Recently used videos of this process, each used by one thread at a time."""

    def __init__(self, budget: int, most: int):
        self._budget, self._most = budget, most
        self._videos: OrderedDict[tuple[Any, ...], tuple[threading.Lock, OpenVideo, int]] = OrderedDict()
        self._lock = threading.Lock()
        self._bytes = 0

    def picture(self, path: Path, decoder: str, size: tuple[int, int], time: float) -> Image:
        """One picture of one video."""
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(path, "file", expected="a video", found=error.strerror or str(error)) from error
        key = (path, decoder, size, status.st_size, status.st_mtime_ns)
        with self._lock:
            if key not in self._videos:
                cost = _FIXED + int(_PICTURES * 1.5 * size[0] * size[1])
                self._videos[key] = (threading.Lock(), _DECODERS[decoder](path, size), cost)
                self._bytes += cost
                while len(self._videos) > 1 and (self._bytes > self._budget or len(self._videos) > self._most):
                    self._forget(next(iter(self._videos)))
            self._videos.move_to_end(key)
            lock, video, _ = self._videos[key]
        with lock:
            try:
                return video.picture(time)
            except DataError:
                with self._lock:  # a decoder that failed is in no known state
                    self._forget(key)
                raise

    def _forget(self, key: tuple[Any, ...]) -> None:
        if key in self._videos:
            self._bytes -= self._videos.pop(key)[2]  # closes when its last user lets go of it

    def forget_all(self) -> None:
        """Without closing: in a forked child the files are the parent's."""
        self._videos, self._lock, self._bytes = OrderedDict(), threading.Lock(), 0


_open = _OpenVideos(_BUDGET, _MOST_OPEN)
os.register_at_fork(after_in_child=_open.forget_all)


@dataclass(frozen=True)
class VideoFrames(Sequence[Image]):
    """Pictures of one episode in a video file.

    Attributes:
        file: the video.
        start: time of the first step in it [s].
        steps: number of steps.
        rate: steps a second.
        size: height and width [pixels].
        decoder: what decodes it.
    """

    file: Path
    start: float
    steps: int
    rate: float
    size: tuple[int, int]
    decoder: str = "pyav"

    def __len__(self) -> int:
        return self.steps

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Image]: ...
    def __getitem__(self, index: int | slice) -> Image | Sequence[Image]:
        """The picture of one step; of a slice, a list.

        Raises:
            DataError: the video has no picture at that time, or is damaged.
            IndexError: there are not so many steps.
        """
        if isinstance(index, slice):
            return [self[step] for step in range(*index.indices(self.steps))]
        time = self.start + range(self.steps)[index] / self.rate
        return _open.picture(self.file, self.decoder, self.size, time)


def _container(path: Path) -> Any:
    import av

    return av.open(str(path))


def _stream(container: Any, path: Path) -> Any:
    if not container.streams.video:
        raise DataError(path, "streams", expected="a video", found=f"{len(container.streams)} others")
    stream = container.streams.video[0]
    if stream.codec_context is None:  # PyAV knows no decoder for it, and would fail on every question
        raise DataError(path, "streams", expected="a codec that is known", found="none")
    if stream.time_base is None or not (stream.average_rate or stream.guessed_rate):
        raise DataError(path, "streams", expected="a time base and a rate", found="none")
    return stream


@contextmanager
def _errors(path: Path, field: str) -> Iterator[None]:
    """What PyAV raises becomes a DataError that names the file."""
    from av.error import FFmpegError

    known = (FFmpegError, OSError, ValueError, OverflowError, EOFError, MemoryError, ZeroDivisionError)
    try:
        yield
    # most of PyAV's own errors are OSErrors or ValueErrors; a header's impossible numbers overflow on the way
    except known as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        raise DataError(path, field, expected="a readable video", found=reason) from error
