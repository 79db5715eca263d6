"""An input device by name: a file of ``robot_driver/teleop/``, its ``Config`` set by ``--teleop-set NAME=VALUE``."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError
from vla.jogging import Speeds
from vla.operated import Operator
from vla.plugins import plugin
from vla.robot_driver.teleop.with_keys import WithKeys
from vla.teleoperation import Braking
from vla.teleoperation_watch import Watched

SCRIPTED, KEYBOARD = "scripted", "keyboard"
OWN_KEYS = (SCRIPTED, KEYBOARD, "lerobot_leader")
"""Devices that have all buttons, or see to them by themselves."""


@dataclass(frozen=True)
class TeleopOptions:
    """Which device, and how fast the arm follows it."""

    teleop: str = "keyboard"
    """Device by name: keyboard (of this terminal), scripted, gamepad, spacemouse, ...; see robot_driver/teleop/."""
    teleop_set: tuple[str, ...] = ()
    """Settings of the device, NAME=VALUE each."""
    keys: Path | None = None
    """Of scripted: file of key presses, a line TIME KEY [SECONDS] each."""
    linear: float = Speeds.linear
    """Speed of the hand at full deflection [m/s]."""
    angular: float = Speeds.angular
    """Of its rotation [rad/s]."""
    joint: float = Speeds.joint
    """Of a joint, where the arm is moved by joints [rad/s]."""
    scale: float = 1.0
    """Share of these speeds to begin with; the buttons faster and slower change it."""

    def config(self, spec: EmbodimentSpec, then: Literal["quit", "nothing"] = "quit") -> Any:
        """The device's ``Config``.

        Args:
            spec: of the body; scripts are read at its rate.
            then: what a script presses in episodes beyond its own.

        Raises:
            UnknownName: there is no such device, or it has no such setting.
            ConfigError: a setting is out of its range, or --keys is given for another device.
        """
        from vla.commands.name_value import make_config, parse_settings

        settings = dict(parse_settings(self.teleop_set, "--teleop-set"))
        module = plugin("robot_driver/teleop", self.teleop)
        if self.teleop == SCRIPTED:
            settings = {"rate": spec.action.rate, "then": then, **settings}
            if self.keys is not None:
                settings["keys"] = self.keys
        elif self.keys is not None:
            raise ConfigError(f"--keys is for --teleop {SCRIPTED}")
        return make_config(module.Config, self.teleop, settings, "--teleop-set")

    def check(self) -> None:
        """See that there is such a device, before anything is started.

        Raises:
            UnknownName: there is none.
            ConfigError: a speed is out of its range, or --keys is given for another device, or missing.
        """
        plugin("robot_driver/teleop", self.teleop)
        if (self.teleop == SCRIPTED) < (self.keys is not None):
            raise ConfigError(f"--keys is for --teleop {SCRIPTED}")
        self.speeds()

    def speeds(self) -> Speeds:
        """At full deflection."""
        return Speeds(**{item.name: getattr(self, item.name) for item in fields(Speeds)})


@contextlib.contextmanager
def opened_operator(
    options: TeleopOptions,
    spec: EmbodimentSpec,
    estop: Callable[[], None],
    *,
    instructions: Sequence[str] = (),
    then: Literal["quit", "nothing"] = "quit",
    guarded: bool = True,
    warn: Callable[[str], None] = lambda line: None,
) -> Iterator[Operator]:
    """The operator at a device, which is given back when the block ends; the terminal's keys are there in any case.

    Args:
        options: which device.
        spec: of the body.
        estop: called at once when the emergency stop is pressed, from the device's own thread.
        instructions: to choose from.
        then: what a script presses in episodes beyond its own.
        guarded: whether somebody has to be able to press an emergency stop.
        warn: told if there are no keys.

    Raises:
        UnknownName: there is no such device.
        ConfigError: a setting is wrong, nobody can move such a body by hand, or nobody could stop it.
        BodyFault: the device is not there.
        DependencyMissing: its library is not installed.
    """
    config = options.config(spec, then)
    keys = options.teleop not in OWN_KEYS and sys.stdin.isatty()
    check_estop(options.teleop, config, keys=keys, guarded=guarded, warn=warn)
    device = config.make()
    if keys:
        device = WithKeys(device, plugin("robot_driver/teleop", KEYBOARD).Config().make())
    if options.teleop != SCRIPTED or config.real_time:  # else it counts readings, one a control step
        device = Watched(device, lambda: operator.brake())
    operator = Operator(device, spec, estop, instructions=instructions, speeds=options.speeds())
    try:
        device.start()
        yield operator
    finally:
        device.close()


def check_estop(name: str, config: Any, *, keys: bool, guarded: bool, warn: Callable[[str], None]) -> None:
    """See that somebody can press the emergency stop, and say how where it is no key.

    Args:
        name: of the device.
        config: its settings.
        keys: whether a terminal's keys go with it.
        guarded: whether somebody has to be able to.
        warn: told what there is instead of keys.

    Raises:
        ConfigError: nobody can, and somebody has to.
    """
    if keys or name in (SCRIPTED, KEYBOARD):
        return
    how = config.estop if isinstance(config, Braking) else ""
    if not how and guarded:
        raise ConfigError(
            f"nobody could press an emergency stop: {name}, as it is set, has no button for it, and no keyboard goes "
            "with it; run it in a terminal (lerobot_leader: with buttons=keyboard), or with --unsafe"
        )
    if name not in OWN_KEYS or not how:
        warn(f"there is no terminal, so no keys; the emergency stop is {how or 'to end this program'}")
