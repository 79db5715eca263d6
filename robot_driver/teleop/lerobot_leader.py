"""Any leader arm of lerobot's, the SO-100's and SO-101's first. Not run on hardware.

A leader's numbers are sent to a follower of its kind as they are: that is lerobot's convention, so a follower's meaning
(:mod:`vla.robot_driver.lerobot_meaning`) is its leader's too. It was run on lerobot's ``SO101Leader`` with an emulated
bus of servos. A leader has no buttons: keep, discard, clutch and the rest come from the keyboard or from a script.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from vla.embodiment import ActionSpec
from vla.errors import BodyFault, ConfigError
from vla.robot_driver.lerobot_bus import LEROBOT_PATIENCE_S, arms, be_patient, buses, drop_stale, faults, let_go
from vla.robot_driver.lerobot_make import connect, make, ports
from vla.robot_driver.lerobot_meaning import Meaning, read_meaning, so_arms
from vla.robot_driver.teleop import keyboard, scripted
from vla.teleoperation import Command, Joints, Teleoperator

SO_LEADERS = ("so100_leader", "so101_leader", "bi_so_leader")


@dataclass(frozen=True)
class Config:
    """A leader arm of lerobot's.

    Attributes:
        port: serial port, e.g. ``/dev/ttyACM1``; of two arms the left one's and the right one's with a comma between.
        kind: lerobot's type of teleoperator.
        name: lerobot's id of this one, which names its calibration file.
        calibration: folder of that file; lerobot's own by default.
        file: TOML that says what the numbers of another leader's follower mean.
        patience: how long a servo may take to answer [s]; more on a machine that has much else to do.
        buttons: where they come from.
        keys: file of the script, for buttons from one (:mod:`vla.robot_driver.teleop.scripted`).
        rate: of the script's readings [Hz]; the commands read a device a hundred times a second.
    """

    port: str = ""
    kind: str = "so101_leader"
    name: str = "so101"
    calibration: Path | None = None
    file: Path | None = None
    patience: float = LEROBOT_PATIENCE_S
    buttons: Literal["keyboard", "scripted", "none"] = "keyboard"
    keys: Path | None = None
    rate: float = 100.0

    def __post_init__(self):
        if not self.patience > 0:
            raise ConfigError(f"patience must be above 0 s, found {self.patience}")
        if (self.buttons == "scripted") != (self.keys is not None):
            raise ConfigError("keys are the script of buttons that are scripted: give both, or neither")
        if self.kind not in SO_LEADERS and self.file is None:
            raise ConfigError(f"what the numbers of {self.kind} mean is not known; say it in its follower's file")

    @property
    def estop(self) -> str:
        """See :class:`~vla.teleoperation.Braking`."""
        return {"keyboard": "Esc", "scripted": "esc in the script", "none": ""}[self.buttons]

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
        self._buttons: Teleoperator | None = None
        if config.buttons == "keyboard":
            self._buttons = keyboard.Config().make()
        elif config.buttons == "scripted":
            self._buttons = scripted.Config(config.keys, config.rate, then="nothing").make()

    def start(self) -> None:
        """Connect; its motors are without power, so that a hand moves them.

        Raises:
            DependencyMissing: lerobot's libraries for it are not installed.
            BodyFault: its port or a motor is missing, or it is not calibrated; or there is no keyboard.
        """
        if self._buttons is not None:
            self._buttons.start()
        config = self.config
        meaning, fields = read_meaning(config.file) if config.file else (None, {})
        if meaning is None and config.kind not in SO_LEADERS:
            raise ConfigError(f"{config.file} does not say what the numbers of {config.kind} mean")
        given = {**ports(config.port), "id": config.name, "calibration_dir": config.calibration, **fields}
        device = make("teleoperators", config.kind, given)
        for bus in buses(device).values():
            be_patient(bus, config.patience)
        calibrate = (
            f"lerobot-calibrate --teleop.type={config.kind} --teleop.port={config.port} --teleop.id={config.name}"
        )
        if config.calibration:
            calibrate += f" --teleop.calibration_dir={config.calibration}"
        connect(device, self._what, calibrate)
        self._device = device  # from here on close lets go of it
        self._meaning = meaning or so_arms(arms(device), leader=True)

    def begin(self) -> None:
        """What was pressed meanwhile does not count; where the arm is does."""
        if self._buttons is not None:
            self._buttons.begin()

    def read(self) -> Command:
        """Where its joints are.

        Raises:
            BodyFault: a motor does not answer (it is named), or the port is gone.
        """
        if self._device is None or self._meaning is None:
            raise BodyFault(f"{self._what} was not started")
        with faults(self._device, self._what):
            for bus in buses(self._device).values():
                drop_stale(bus)
            values = self._meaning.sent(self._device.get_action())
        keys = self._buttons.read() if self._buttons is not None else Command()
        joints, openings = _targets(self._meaning.spec.action, values)
        if len(openings) == 1:
            return replace(keys, motion=Joints(joints), gripper=next(iter(openings.values())))
        return replace(keys, motion=Joints(joints | openings))

    def close(self) -> None:
        """Close its port; safe to call more than once, and without a start."""
        if self._buttons is not None:
            self._buttons.close()
        device, self._device = self._device, None
        if device is None:
            return
        for bus in buses(device).values():
            let_go(bus)
        if not buses(device) and device.is_connected:
            device.disconnect()


def _targets(action: ActionSpec, values: Float32[np.ndarray, "a"]) -> tuple[dict[str, float], dict[str, float]]:
    """Joints in their physical units, and grippers from 0 closed to 1 open, by the channels' names."""
    joints, openings = {}, {}
    for channel, value in zip(action.channels, values.tolist(), strict=True):
        if channel.kind == "joint":
            joints[channel.name] = value * channel.scale
        elif channel.kind == "gripper" and action.gripper is not None:
            share = (value - action.gripper.closed) / (action.gripper.opened - action.gripper.closed)
            openings[channel.name] = min(max(share, 0.0), 1.0)
    return joints, openings
