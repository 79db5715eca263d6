"""Where one frame lies in another, and where a camera sits and what it sees through: numbers of an embodiment."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from vla.errors import ConfigError


@dataclass(frozen=True)
class Offset:
    """Where a frame lies and how it is turned, seen from another.

    Attributes:
        position: of its origin [m].
        rotation: axis-angle [rad].

    Raises:
        ConfigError: there are not three finite numbers of each.
    """

    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self):
        for name in ("position", "rotation"):
            object.__setattr__(self, name, _finite(f"an offset's {name}", getattr(self, name), 3))


@dataclass(frozen=True)
class CameraCalibration:
    """Where a camera sits and what it sees through, as it was measured once.

    The camera's frame is x right, y down, z forwards, of the upright picture in the size that its spec has.

    Attributes:
        parent: what it is fixed to: the tool (its frame is the tool centre point's), or the arm's base.
        pose: of the camera in that frame.
        focal: focal lengths along x and y [pixels].
        centre: of projection, x and y; whole numbers are centres of pixels [pixels].
        distortion: OpenCV's k1, k2, p1, p2, k3.
        tool: the tool centre point in the flange's frame that a camera on the tool was calibrated with; None if nobody
            said, and for a camera that is fixed to the base.

    Raises:
        ConfigError: a number is missing or not finite, or a focal length is not above 0.
    """

    parent: Literal["tool", "base"]
    pose: Offset
    focal: tuple[float, float]
    centre: tuple[float, float]
    distortion: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)
    tool: Offset | None = None

    def __post_init__(self):
        if self.parent not in ("tool", "base"):
            raise ConfigError(f"a camera is fixed to the tool or the base, found {self.parent!r}")
        for name, size in (("focal", 2), ("centre", 2), ("distortion", 5)):
            object.__setattr__(self, name, _finite(f"a camera's {name}", getattr(self, name), size))
        if not min(self.focal) > 0:
            raise ConfigError(f"a camera's focal lengths are above 0, found {self.focal}")

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "CameraCalibration":
        """From a JSON value with the fields' names.

        Raises:
            ConfigError: a number is missing or out of range.
            TypeError: a field is missing or unknown.
        """
        offsets = {name: Offset(**value[name]) for name in ("pose", "tool") if value.get(name) is not None}
        return cls(**{**value, **offsets})


def _finite(what: str, values: Any, size: int) -> tuple[float, ...]:
    """A list from a file and a tuple are the same."""
    numbers = tuple(float(value) for value in values)
    if len(numbers) != size or not all(map(math.isfinite, numbers)):
        raise ConfigError(f"{what} is {('', '', 'two', 'three', 'four', 'five')[size]} finite numbers, found {numbers}")
    return numbers
