"""What a client of a served policy calls the parts of an observation, and in whose units it speaks.

::

    {"observation/image": UInt8[h w 3], ..., "observation/state": Float[s], "prompt": str} ─ Dialect ─▶ Observation

A dialect is a table: field names, and the embodiment whose channels, sizes and orientations stand behind them.
:func:`~vla.transforms.connect` does the rest, as between any body and any policy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from vla.embodiment import CameraSpec, EmbodimentSpec
from vla.embodiments.libero_openpi import libero_openpi
from vla.errors import SpecMismatch, VlaError
from vla.experience import Image, Observation
from vla.transforms import connect

PROTOCOL = 1
"""Of what our server adds to openpi's messages; clients refuse another one."""

MAX_SIDE = 1024
"""Of a picture whose size a dialect leaves open [pixels]."""

MAX_PROMPT = 4000
"""Of an instruction [characters]."""

MAX_PLAN = 1000
"""Rows of a plan to go on from; chunks have some 50."""

PLAN = ("left", "delay")
"""Fields of a request for a chunk that goes on from a plan, for clients that speak the policy's own units."""

_OVERHEAD = 2**16  # names, state, instruction, plan


class FieldError(VlaError):
    """A field of a request is missing, unknown, or not what the dialect says; the message names it."""


@dataclass(frozen=True)
class Dialect:
    """Names of an observation's parts on the wire, and the embodiment they are in.

    Attributes:
        name: by which a client chooses it.
        spec: whose state, cameras and actions the client speaks in.
        images: field name to camera of ``spec``.
        state: field name; Float32 or Float64 [s].
        prompt: field name of the instruction; may be left out after a reset that gave one.
        any_size: pictures may have another size than the camera's if their shape is the same; they are resized.
    """

    name: str
    spec: EmbodimentSpec
    images: Mapping[str, str]
    state: str = "observation/state"
    prompt: str = "prompt"
    any_size: bool = False

    @property
    def max_bytes(self) -> int:
        """What the largest valid request takes."""
        sizes = [(camera.height, camera.width) for camera in self.spec.cameras]
        return _OVERHEAD + 3 * sum(MAX_SIDE**2 if self.any_size else height * width for height, width in sizes)

    def describe(self) -> dict[str, Any]:
        """What each field must hold, as JSON."""
        side = f" or another size up to {MAX_SIDE}" if self.any_size else ""
        cameras = {field: self.spec.camera(name) for field, name in self.images.items()}
        pictures = {
            field: f"uint8 [{camera.height} {camera.width} 3]{side}, RGB, {camera.orientation}, {camera.name}"
            for field, camera in cameras.items()
        }
        state = f"float [{len(self.spec.state)}]: {', '.join(self.spec.state_names)}"
        return {**pictures, self.state: state, self.prompt: "str", "time": "float [s], may be left out"}

    def observation(self, message: Mapping[str, Any], *, instruction: str = "", time: float = 0.0) -> Observation:
        """The observation that a request holds, in the units of :attr:`spec`.

        Args:
            message: field name to value; arrays may be read-only.
            instruction: if the message has none.
            time: if the message has none [s].

        Raises:
            FieldError: a field is missing, unknown, or has another type, dtype, shape or range.
        """
        known = {*self.images, self.state, self.prompt, "time"}
        if unknown := sorted(set(message) - known):
            raise FieldError(f"unknown field {unknown[0]!r}; known: {', '.join(sorted(known))}")
        images = {
            camera: self._image(field, self.spec.camera(camera), _array(message, field))
            for field, camera in self.images.items()
        }
        prompt = message.get(self.prompt, instruction)
        if not isinstance(prompt, str) or not prompt or len(prompt) > MAX_PROMPT:
            raise FieldError(f"{self.prompt}: expected an instruction of 1 to {MAX_PROMPT} characters")
        measured = message.get("time", time)
        if not isinstance(measured, float | int) or not np.isfinite(measured):
            raise FieldError("time: expected seconds, a finite number")
        return Observation(images, self._state(_array(message, self.state)), prompt, float(measured))

    def message(self, observation: Observation) -> dict[str, Any]:
        """The request for an observation; undoes :meth:`observation`."""
        pictures = {field: observation.images[camera] for field, camera in self.images.items()}
        rest = {self.state: observation.state, "time": observation.time}
        return {**pictures, **rest, **({self.prompt: observation.instruction} if observation.instruction else {})}

    def _image(self, field: str, camera: CameraSpec, value: np.ndarray) -> Image:
        wanted = (camera.height, camera.width, 3)
        fits = value.shape == wanted
        if self.any_size and value.ndim == 3 and value.shape[2] == 3:
            height, width = value.shape[:2]
            same = height * camera.width == width * camera.height
            fits = same and 0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE
        if value.dtype != np.uint8 or not fits:
            size = f", or the same shape up to {MAX_SIDE}" if self.any_size else ""
            raise FieldError(f"{field}: expected uint8 {list(wanted)}{size}, found {value.dtype} {list(value.shape)}")
        return value

    def _state(self, value: np.ndarray) -> np.ndarray:
        wanted = (len(self.spec.state),)
        if value.dtype not in (np.float32, np.float64) or value.shape != wanted:
            raise FieldError(f"{self.state}: expected float {list(wanted)}, found {value.dtype} {list(value.shape)}")
        with np.errstate(over="ignore"):  # becomes infinite, which is refused
            state = value.astype(np.float32)
        if not np.isfinite(state).all():
            place = int(np.argmin(np.isfinite(state)))
            raise FieldError(
                f"{self.state}: {self.spec.state_names[place]} is {value[place]}, expected a finite number"
            )
        return state


def native(spec: EmbodimentSpec) -> Dialect:
    """The policy's own units and camera names, for clients that know its embodiment."""
    return Dialect("native", spec, {f"observation/images/{name}": name for name in spec.camera_names})


def openpi_libero() -> Dialect:
    """What openpi's LIBERO evaluation sends and expects."""
    images = {"observation/image": "agentview", "observation/wrist_image": "robot0_eye_in_hand"}
    return Dialect("openpi-libero", libero_openpi(), images, any_size=True)


def dialects_for(spec: EmbodimentSpec) -> dict[str, Dialect]:
    """The dialects that a policy can be asked in, by name; the first is for clients that name none."""
    found = native(spec)
    foreign = openpi_libero()
    try:
        connect(foreign.spec, spec)
    except SpecMismatch:
        return {found.name: found}
    return {foreign.name: foreign, found.name: found}


@dataclass(frozen=True)
class Planned:
    """What a chunk is to go on from; see :class:`~vla.asynchronous.ContinuingPolicy`.

    Attributes:
        left: planned actions from the observation on.
        delay: how many of them will have been executed.
    """

    left: Float32[np.ndarray, "k a"]
    delay: int


def read_plan(message: Mapping[str, Any], size: int) -> Planned:
    """The plan that a request holds beside its observation.

    Args:
        message: field name to value.
        size: of an action.

    Raises:
        FieldError: a field is missing or does not fit.
    """
    left, delay = (message.get(field) for field in PLAN)
    expected = f"left: expected finite float32 [k, {size}], k from 1 to {MAX_PLAN}"
    if not isinstance(left, np.ndarray) or left.dtype != np.float32 or left.ndim != 2 or left.shape[1] != size:
        raise FieldError(expected)
    if not 0 < len(left) <= MAX_PLAN or not np.isfinite(left).all():
        raise FieldError(expected)
    if type(delay) is not int or not 0 <= delay <= len(left):
        raise FieldError(f"delay: expected an integer from 0 to {len(left)}")
    return Planned(left, delay)


def _array(message: Mapping[str, Any], field: str) -> np.ndarray:
    if field not in message:
        raise FieldError(f"{field} is missing")
    value = message[field]
    if not isinstance(value, np.ndarray):
        raise FieldError(f"{field}: expected an array, found {type(value).__name__}")
    return value
