"""Cameras beside a vendor's arm, through OpenCV: read in a thread of their own, each picture with its own time.

::

    device ─▶ thread: grab, stamp, decode ─▶ the newest picture ◀─ newest(): never waits for the device
"""

import contextlib
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast, get_args

import numpy as np

from vla.calibration_file import calibrated
from vla.embodiment import CameraSpec, Role
from vla.errors import BodyFault, ConfigError
from vla.experience import Image
from vla.transforms import resize


class Camera(Protocol):
    """Something that takes pictures."""

    def newest(self) -> tuple[Image, float]:
        """The newest picture and when it was taken, on this process's clock [s].

        Raises:
            BodyFault: there is none that is new enough.
        """
        ...

    @property
    def exposure(self) -> float | None:
        """Time of exposure [s]; None if the device does not say."""
        ...

    def close(self) -> None:
        """Give the device back. Safe to call more than once."""
        ...


@dataclass(frozen=True)
class CameraConfig:
    """One camera.

    Attributes:
        spec: its name and the size that its pictures are brought to.
        device: number of a Video4Linux device, or a path or URL that OpenCV opens.
        rate: pictures each second that are asked for [Hz].
        max_age: oldest picture that counts [s].
    """

    spec: CameraSpec
    device: str
    rate: float
    max_age: float = 0.5


_FORM = re.compile(
    r"(?P<name>[^=]+)=(?P<device>.+?):(?P<width>\d+)x(?P<height>\d+)@(?P<rate>\d+)(:(?P<role>\w+))?(:(?P<file>.+\.json))?"
)


def parse_cameras(texts: Sequence[str] | str) -> tuple[CameraConfig, ...]:
    """Cameras from ``NAME=DEVICE:WIDTHxHEIGHT@FPS``, each perhaps with ``:ROLE`` and ``:FILE`` of its calibration.

    Raises:
        ConfigError: one is not of that form.
        DataError: a file is no calibration (``camera.json`` of ``vla robot calibrate``), or another camera's or size's.
    """
    found = []
    for text in [texts] if isinstance(texts, str) else texts:
        match = _FORM.fullmatch(text)
        role = match["role"] or "other" if match else ""
        if match is None or role not in get_args(Role):
            form = (
                f"NAME=DEVICE:WIDTHxHEIGHT@FPS, perhaps with :ROLE ({', '.join(get_args(Role))}) and :CALIBRATION.json"
            )
            raise ConfigError(f"a camera is given as {form}, found {text!r}")
        spec = CameraSpec(match["name"], int(match["height"]), int(match["width"]), role=cast(Role, role))
        if match["file"]:
            spec = calibrated(spec, Path(match["file"]))
        found.append(CameraConfig(spec, match["device"], float(match["rate"])))
    return tuple(found)


class OpenCvCamera:
    """A camera that OpenCV opens.

    Args:
        config: see there.

    Raises:
        BodyFault: it cannot be opened, or gives no picture within 5 s.
    """

    def __init__(self, config: CameraConfig):
        import cv2

        self.config = config
        device: Any = int(config.device) if config.device.isdecimal() else config.device
        self._capture = cv2.VideoCapture(device)
        if not self._capture.isOpened():
            raise BodyFault(f"camera {config.spec.name}: {config.device!r} cannot be opened")
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # an old picture is of no use
        self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, config.spec.width)
        self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, config.spec.height)
        self._capture.set(cv2.CAP_PROP_FPS, config.rate)
        exposure = self._capture.get(cv2.CAP_PROP_EXPOSURE)
        # Video4Linux counts in units of 100 us; files and most other devices say 0 or -1
        self._exposure = exposure * 1e-4 if exposure > 0 and isinstance(device, int) else None
        self._newest: tuple[np.ndarray, float] | None = None
        self._over = threading.Event()
        self._first = threading.Event()
        self._thread = threading.Thread(target=self._read, name=f"camera {config.spec.name}", daemon=True)
        self._thread.start()
        if not self._first.wait(5.0) or self._newest is None:
            self.close()
            raise BodyFault(f"camera {config.spec.name}: {config.device!r} gives no picture")

    def newest(self) -> tuple[Image, float]:
        """See :class:`Camera`."""
        found = self._newest
        age = np.inf if found is None else time.monotonic() - found[1]
        if found is None or age > self.config.max_age:
            raise BodyFault(f"camera {self.config.spec.name} has given no picture for {age:.2f} s")
        spec = self.config.spec
        return resize(np.ascontiguousarray(found[0][:, :, ::-1]), spec.height, spec.width), found[1]

    @property
    def exposure(self) -> float | None:
        """See :class:`Camera`."""
        return self._exposure

    def close(self) -> None:
        """See :class:`Camera`."""
        self._over.set()
        self._thread.join(5.0)
        self._capture.release()

    def _read(self) -> None:
        while not self._over.is_set():
            good = self._capture.grab()
            stamp = time.monotonic()
            good, picture = self._capture.retrieve() if good else (False, None)
            if good and picture is not None:
                self._newest = picture, stamp
                self._first.set()
            if not good:
                self._over.wait(0.05)


def open_cameras(configs: tuple[CameraConfig, ...]) -> dict[str, OpenCvCamera]:
    """All of them by name; none stays open if one fails.

    Raises:
        BodyFault: one cannot be opened.
    """
    opened: dict[str, OpenCvCamera] = {}
    with contextlib.ExitStack() as stack:
        for config in configs:
            opened[config.spec.name] = OpenCvCamera(config)
            stack.callback(opened[config.spec.name].close)
        stack.pop_all()  # they are the caller's now
    return opened
