"""Any leader arm of lerobot's, the SO-100's and SO-101's first. Not run on hardware.

A leader's numbers are sent to a follower of its kind as they are: that is lerobot's convention, so a follower's meaning
(:mod:`vla.robot_driver.lerobot_meaning`) is its leader's too. It was run on lerobot's ``SO101Leader`` with an emulated
bus of servos.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla.errors import BodyFault, ConfigError
from vla.robot_driver.lerobot_bus import buses, drop_stale, faults, let_go
from vla.robot_driver.lerobot_make import connect, make
from vla.robot_driver.lerobot_meaning import Meaning, read_meaning, so_arm
from vla.teleoperation import Command, Joints

SO_LEADERS = ("so100_leader", "so101_leader")


@dataclass(frozen=True)
class Config:
    """A leader arm of lerobot's.

    Attributes:
        port: serial port, e.g. ``/dev/ttyACM1``.
        kind: lerobot's type of teleoperator.
        name: lerobot's id of this one, which names its calibration file.
        calibration: folder of that file; lerobot's own by default.
        file: TOML that says what the numbers of another leader's follower mean.
    """

    port: str = ""
    kind: str = "so101_leader"
    name: str = "so101"
    calibration: Path | None = None
    file: Path | None = None

    def __post_init__(self):
        if self.kind not in SO_LEADERS and self.file is None:
            raise ConfigError(f"what the numbers of {self.kind} mean is not known; say it in its follower's file")

    def make(self) -> "LerobotLeader":
        """The device; nothing is opened before it is started."""
        return LerobotLeader(self)


class LerobotLeader:
    """A :class:`~vla.teleoperation.Teleoperator` whose joints are the follower's targets."""

    def __init__(self, config: Config):
        self.config = config
        self._device: Any = None
        self._meaning: Meaning | None = None
        self._what = f"{config.kind} {config.name}"

    def start(self) -> None:
        """Connect; its motors are without power, so that a hand moves them.

        Raises:
            DependencyMissing: lerobot's libraries for it are not installed.
            BodyFault: its port or a motor is missing, or it is not calibrated.
        """
        config = self.config
        meaning, fields = read_meaning(config.file) if config.file else (None, {})
        given = {"port": config.port or None, "id": config.name, "calibration_dir": config.calibration, **fields}
        device = make("teleoperators", config.kind, given)
        calibrate = (
            f"lerobot-calibrate --teleop.type={config.kind} --teleop.port={config.port} --teleop.id={config.name}"
        )
        if config.calibration:
            calibrate += f" --teleop.calibration_dir={config.calibration}"
        connect(device, self._what, calibrate)
        self._meaning = meaning or so_arm(device.bus.calibration, degrees=device.config.use_degrees, leader=True)
        self._device = device

    def begin(self) -> None:
        """Nothing of before counts anyway: each reading is where the arm is."""

    def read(self) -> Command:
        """Where its joints are.

        Raises:
            BodyFault: a motor does not answer (it is named), or the port is gone.
        """
        if self._device is None or self._meaning is None:
            raise BodyFault(f"{self._what} was not started")
        with faults(self._device, self._what):
            for bus in buses(self._device):
                drop_stale(bus)
            values = self._meaning.sent(self._device.get_action())
        action = self._meaning.spec.action
        physical = {channel.name: float(v) * channel.scale for channel, v in zip(action.channels, values, strict=True)}
        openings = {
            channel.name: float(
                np.clip((v - action.gripper.closed) / (action.gripper.opened - action.gripper.closed), 0, 1)
            )
            for channel, v in zip(action.channels, values.tolist(), strict=True)
            if channel.kind == "gripper" and action.gripper is not None
        }
        joints = {channel.name: physical[channel.name] for channel in action.channels if channel.kind == "joint"}
        if len(openings) == 1:
            return Command(Joints(joints), gripper=next(iter(openings.values())))
        return Command(Joints(joints | openings))

    def close(self) -> None:
        """Close its port; safe to call more than once, and without a start."""
        device, self._device = self._device, None
        if device is None:
            return
        for bus in buses(device):
            let_go(bus)
        if not buses(device) and device.is_connected:
            device.disconnect()
