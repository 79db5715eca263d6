"""Making lerobot's objects, robots and leaders, from a few settings; lerobot is imported here and only when asked."""

import importlib
import logging
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from vla.embodiment import CameraSpec
from vla.errors import BodyFault, ConfigError, DependencyMissing, UnknownName
from vla.robot_driver.arm_camera import parse_cameras
from vla.robot_driver.lerobot_bus import PortGone, arms, buses, faults, let_go, port_trouble, shut

Sort = Literal["robots", "teleoperators"]

_TRIES = 5  # lerobot connects with some 130 questions, of which it asks none twice
_EXTRA = "pip install 'vla-stack[so101]'"

_log = logging.getLogger(__name__)


def cameras_of(texts: Sequence[str]) -> tuple[tuple[CameraSpec, ...], dict[str, dict[str, Any]]]:
    """Cameras as a user writes them (:func:`~vla.robot_driver.arm_camera.parse_cameras`).

    Returns:
        what they are, and lerobot's configuration of each.

    Raises:
        ConfigError: one is not written like that.
        DataError: a calibration does not belong to it.
    """
    given = parse_cameras(texts)
    fields = {
        camera.spec.name: {
            "type": "opencv",
            "index_or_path": int(camera.device) if camera.device.isdecimal() else camera.device,
            "width": camera.spec.width,
            "height": camera.spec.height,
            "fps": int(camera.rate),
        }
        for camera in given
    }
    return tuple(camera.spec for camera in given), fields


def ports(text: str) -> dict[str, Any]:
    """The fields of lerobot's configuration for a port, or for the ports of two arms with a comma between."""
    left, comma, right = text.partition(",")
    if comma:
        return {"left_arm_config": {"port": left}, "right_arm_config": {"port": right}}
    return {"port": text or None}


def make(sort: Sort, kind: str, fields: Mapping[str, Any]) -> Any:
    """One of lerobot's robots or teleoperators, not connected yet.

    Args:
        sort: which.
        kind: lerobot's name of it, e.g. ``"so101_follower"``.
        fields: of its configuration; values that are None are left out.

    Raises:
        DependencyMissing: lerobot's libraries for it are not installed.
        UnknownName: lerobot has no such kind.
        ConfigError: the configuration has no such field, or does not take that value.
    """
    import draccus

    base, make_device = _lerobot(sort)
    for module in pkgutil.iter_modules(importlib.import_module(f"lerobot.{sort}").__path__):
        if module.ispkg:
            try:
                importlib.import_module(f"lerobot.{sort}.{module.name}")
            except ImportError as error:  # the libraries of an arm that is not asked for
                _log.debug("lerobot.%s.%s is not available: %s", sort, module.name, error)
    known = base.get_known_choices()
    if kind not in known:
        raise UnknownName(f"{sort[:-1]} of lerobot", kind, known)
    given = {name: str(value) if isinstance(value, Path) else value for name, value in fields.items()}
    given = {name: value for name, value in given.items() if value is not None}
    try:
        return make_device(draccus.decode(base, {"type": kind, **given}))
    except ImportError as error:
        raise DependencyMissing(f"{kind} needs more of lerobot: {error}; for SO-100 and SO-101: {_EXTRA}") from error
    except (draccus.utils.DraccusException, TypeError, ValueError) as error:
        raise ConfigError(f"{kind}: lerobot does not take {given}: {error}") from error


def connect(device: Any, what: str, calibrate: str) -> None:
    """Connect to a lerobot device without calibrating it; transmission errors are tried again.

    Args:
        device: a robot or a teleoperator.
        what: it is, for messages.
        calibrate: the command that calibrates it.

    Raises:
        BodyFault: its port is missing, a motor is (with its name and id), a motor complains, or it is not calibrated.
    """
    for bus in buses(device).values():
        if trouble := port_trouble(bus.port):
            raise BodyFault(f"{what}: {trouble}")
    _tried(device, what, lambda: device.connect(calibrate=False))
    calibrated = _tried(device, what, lambda: device.is_calibrated, reconnect=False)
    if not calibrated:
        files = [Path(arm.calibration_fpath) for arm in arms(device).values()]
        missing = [str(file) for file in files if not file.is_file()]
        why = (
            f"there is no {' and no '.join(missing)}"
            if missing
            else f"its motors differ from {', '.join(map(str, files))}"
        )
        for bus in buses(device).values():
            let_go(bus)
        raise BodyFault(f"{what} is not calibrated: {why}; run {calibrate}")


def _tried(device: Any, what: str, call: Callable[[], Any], *, reconnect: bool = True) -> Any:
    """What a call returns; several times where the line is at fault, not a motor."""
    for attempt in range(1, _TRIES + 1):
        try:
            with faults(device, what):
                return call()
        except BodyFault as fault:
            for bus in buses(device).values():
                if reconnect or attempt == _TRIES:
                    shut(bus)
            if attempt == _TRIES or isinstance(fault, PortGone):
                raise
            _log.warning("%s; trying again", fault)
    return None


def _lerobot(sort: Sort) -> tuple[Any, Callable[[Any], Any]]:
    try:
        if sort == "robots":
            from lerobot.robots import RobotConfig, make_robot_from_config

            return RobotConfig, make_robot_from_config
        from lerobot.teleoperators import TeleoperatorConfig, make_teleoperator_from_config

        return TeleoperatorConfig, make_teleoperator_from_config
    except ImportError as error:
        raise DependencyMissing(f"lerobot's {sort} need more libraries: {error}; {_EXTRA}") from error
