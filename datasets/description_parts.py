"""The parts that a description of a data set is made of: columns of numbers, cameras, and names that need no unit."""

from dataclasses import dataclass

from vla.embodiment import Channel, Kind, Orientation, Role, Unit

STANDARD: tuple[tuple[str, Unit, Kind], ...] = (
    (r"d?[xyz](_\w+)?", "m", "position"),
    (r"d?(roll_x|pitch_y|yaw_z)(_\w+)?", "rad", "rotation"),
    (r"d?(rx|ry|rz)(_\w+)?", "rad", "rotation"),
    (r"d?q[xyzw](_\w+)?", "1", "rotation"),
    (r"d?rot6d_[0-5](_\w+)?", "1", "rotation"),
    (r"gripper(_\w+)?", "1", "gripper"),
    (r"finger(_\w+)?", "m", "gripper"),
    (r"d?joint(_\w+)?", "rad", "joint"),
    (r"vjoint(_\w+)?", "rad/s", "joint"),
    (r"force_\w+", "N", "force"),
    (r"torque_\w+", "Nm", "force"),
    (r"base_d[xy]", "m", "other"),
    (r"base_dyaw", "rad", "other"),
)
"""Patterns of channel names with their unit and kind; the first that fits the whole name counts."""

LEFT_OUT = "_"


@dataclass(frozen=True)
class Camera:
    """One camera and the field that holds its pictures.

    Attributes:
        name: what it is called here.
        field: of the data set.
        role: what the view shows.
        orientation: of the stored pictures.
        bgr: the stored pictures have red and blue swapped.
        bgr_mended: height and width [pixels] of copies in circulation whose pictures were resized and put right.
    """

    name: str
    field: str
    role: Role = "other"
    orientation: Orientation = "upright"
    bgr: bool = False
    bgr_mended: tuple[int, int] | None = None

    def swapped(self, height: int, width: int) -> bool:
        """Whether pictures stored at this size [pixels] have red and blue swapped."""
        return self.bgr and (height, width) != self.bgr_mended


@dataclass(frozen=True)
class Column:
    """Numbers of one field that become channels side by side.

    Attributes:
        field: of the data set.
        channels: in the field's order; None for a number that is left out.
        start: the first number taken.
    """

    field: str
    channels: tuple[Channel | None, ...]
    start: int = 0

    @property
    def stop(self) -> int:
        """One past the last number taken."""
        return self.start + len(self.channels)
