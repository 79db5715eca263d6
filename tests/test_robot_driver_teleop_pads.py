"""Gamepad and SpaceMouse: what their states mean; the libraries underneath are stood in for, no device is here."""

import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.commands.teleop_choice import check_estop
from vla.errors import BodyFault, ConfigError, DependencyMissing
from vla.robot_driver.teleop import gamepad, keyboard, lerobot_leader, scripted, spacemouse
from vla.robot_driver.teleop.with_keys import WithKeys
from vla.teleoperation import BUTTONS, Teleoperator

unit = st.floats(-1.0, 1.0)


def rate(command) -> Any:
    return command.motion.values


def test_a_stick_pushed_forward_is_forward():
    def moved(axes, down=()):
        return np.flatnonzero(rate(gamepad.command_of(axes, set(down), set(), 0.1))).tolist()

    push = {"LEFTY": -1.0, "LEFTX": -1.0}
    np.testing.assert_allclose(rate(gamepad.command_of(push, set(), set(), 0.1))[:3], [1, 1, 0])  # forward, left
    assert moved({"TRIGGERLEFT": 1.0}) == [2] and moved({"RIGHTX": 0.5}) == [5] and moved({"RIGHTY": 0.5}) == [4]
    assert moved({}, [gamepad.LEFT]) == [3] and moved({"LEFTX": 0.09, "RIGHTY": -0.1}) == []


@given(st.dictionaries(st.sampled_from(gamepad.AXES), unit), st.floats(0.0, 0.9))
def test_any_state_of_a_pad_is_a_command(axes, dead_zone):
    command = gamepad.command_of(axes, {"A"}, {"A", "B"}, dead_zone)
    assert np.abs(rate(command)).max() <= 1 and not command.pressed  # held down, not pressed


@given(st.lists(unit, min_size=6, max_size=6))
def test_a_spacemouse_moves_as_it_is_pushed(deflection):
    values = rate(spacemouse.command_of(deflection, [False, True], [], 0.1))
    for given_, value in zip(deflection, values, strict=True):
        assert value == pytest.approx(0 if abs(given_) <= 0.1 else np.sign(given_) * (abs(given_) - 0.1) / 0.9)


def test_every_button_can_be_pressed_on_a_pad():
    assert set(gamepad.BUTTONS.values()) == set(BUTTONS)
    pressed = gamepad.command_of({}, {"A", "GUIDE"}, set(), 0.1).pressed
    assert pressed == {"gripper", "estop"}
    assert spacemouse.command_of([0] * 6, [False, True], [True], 0.1).pressed == {"take_over"}


def test_both_buttons_of_a_spacemouse_are_the_emergency_stop_once():
    def pressed(down, before):
        return spacemouse.command_of([0] * 6, down, before, 0.1).pressed

    for before in ([], [False, False], [True, False], [False, True]):
        assert pressed([True, True], before) == {"estop"}
    assert pressed([True, True], [True, True]) == pressed([True], [True]) == frozenset()
    assert pressed([True, False], [False, False]) == {"gripper"} == pressed([True], [])


def test_every_device_says_how_it_stops_or_moves_no_arm_without_keys():
    said: list[str] = []

    def check(name, config, *, keys=False, guarded=True):
        said.clear()
        check_estop(name, config, keys=keys, guarded=guarded, warn=said.append)
        return " ".join(said)

    assert "the emergency stop is the button Guide" in check("gamepad", gamepad.Config())
    assert "both buttons" in check("spacemouse", spacemouse.Config())
    assert not check("spacemouse", spacemouse.Config(), keys=True)
    assert not check("keyboard", keyboard.Config())
    leader = lerobot_leader.Config(port="/dev/null")
    assert not check("lerobot_leader", leader)
    for name, config in (("lerobot_leader", replace(leader, buttons="none")), ("own", object())):
        with pytest.raises(ConfigError, match=f"nobody could press an emergency stop: {name}"):
            check(name, config)
        assert "the emergency stop is to end this program" in check(name, config, guarded=False)


class Pad:
    """As SDL's: numbers of 16 bits."""

    def __init__(self, number):
        self.number, self.axes, self.down, self.plugged = number, {}, set(), True

    def attached(self):
        return self.plugged

    def get_axis(self, axis):
        return self.axes.get(axis, 0)

    def get_button(self, button):
        return button in self.down

    def quit(self):
        self.plugged = False


@pytest.fixture
def sdl(monkeypatch):
    pads: list[Pad] = []

    def opened(number):
        pads.append(Pad(number))
        return pads[-1]

    pygame, sub, controller = ModuleType("pygame"), ModuleType("pygame._sdl2"), ModuleType("pygame._sdl2.controller")
    for kind, names in (("AXIS", gamepad.AXES), ("BUTTON", (*gamepad.BUTTONS, gamepad.LEFT, gamepad.RIGHT))):
        for name in names:
            setattr(pygame, f"CONTROLLER_{kind}_{name}", name)
    for name, work in {"init": lambda: 0, "update": lambda: 0, "get_count": lambda: 1, "Controller": opened}.items():
        setattr(controller, name, work)
    sub.controller = controller  # pyright: ignore[reportAttributeAccessIssue]
    for module in (pygame, sub, controller):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return pads


def test_a_pad_is_read_until_it_is_unplugged(sdl):
    device = gamepad.Config().make()
    assert isinstance(device, Teleoperator)
    device.close()
    device.start()
    (pad,) = sdl
    pad.down = {"A"}
    device.begin()
    pad.axes = {"LEFTY": -32768}
    command = device.read()
    assert rate(command).tolist() == [1, 0, 0, 0, 0, 0] and not command.pressed
    pad.down = {"A", "X"}
    assert device.read().pressed == {"keep"}
    pad.plugged = False
    with pytest.raises(BodyFault, match="plugged in"):
        device.read()
    device.close()
    with pytest.raises(BodyFault, match="not started"):
        device.read()
    with pytest.raises(BodyFault, match="no gamepad 1; 1 are"):
        gamepad.Config(number=1).make().start()


class Mouse:
    """As pyspacemouse's: one report a reading."""

    def __init__(self, reports: list[Any]):
        self.reports, self.state = (
            reports,
            SimpleNamespace(t=0.0, x=0, y=0, z=0, roll=0, pitch=0, yaw=0, buttons=[0, 0]),
        )

    def read(self):
        if self.reports:
            report = self.reports.pop(0)
            if report is None:
                raise OSError("gone")
            self.state = SimpleNamespace(**{**vars(self.state), **report, "t": self.state.t + 1})
        return self.state

    def close(self):
        pass


def library(monkeypatch, **functions):
    module = ModuleType("pyspacemouse")
    for name, work in functions.items():
        setattr(module, name, work)
    monkeypatch.setitem(sys.modules, "pyspacemouse", module)


def fails(error):
    def work(**_):
        raise error

    return work


def test_a_spacemouse_is_read_report_by_report(monkeypatch):
    mouse = Mouse([{"x": 0.9}, {"x": 1.0}, {"yaw": -1.0}])
    library(monkeypatch, get_connected_devices=lambda: ["one"], open=lambda **_: mouse)
    device = spacemouse.Config().make()
    assert isinstance(device, Teleoperator)
    device.close()
    device.start()
    assert rate(device.read()).tolist() == [1, 0, 0, 0, 0, -1]  # nothing waits for the next reading
    mouse.reports = [{"buttons": [1, 0]}]
    assert device.read().pressed == {"gripper"} and not device.read().pressed
    mouse.reports = [None]
    with pytest.raises(BodyFault, match="no longer answers"):
        device.read()
    device.close()
    with pytest.raises(BodyFault, match="not started"):
        device.read()


def test_what_is_missing_is_named(monkeypatch):
    for name in ("pygame", "pyspacemouse"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DependencyMissing, match=r"vla-stack\[gamepad\]"):
        gamepad.Config().make().start()
    with pytest.raises(DependencyMissing, match=r"vla-stack\[spacemouse\]"):
        spacemouse.Config().make().start()
    library(monkeypatch, get_connected_devices=fails(RuntimeError("no hidapi")))
    with pytest.raises(DependencyMissing, match="libhidapi"):
        spacemouse.Config().make().start()
    library(monkeypatch, get_connected_devices=list, open=fails(RuntimeError("No connected or supported devices")))
    with pytest.raises(BodyFault, match="No connected"):
        spacemouse.Config().make().start()
    for make in (
        lambda: gamepad.Config(-1),
        lambda: gamepad.Config(dead_zone=1.0),
        lambda: spacemouse.Config("", -0.1),
    ):
        with pytest.raises(ConfigError):
            make()


def test_a_keyboard_has_the_buttons_that_a_device_lacks():
    device = WithKeys(scripted.Config(text="0 w 1").make(), scripted.Config(text="0 a\n0 y\n0.05 c").make())
    assert isinstance(device, Teleoperator)
    device.start()
    device.begin()
    first, second = device.read(), device.read()
    assert rate(first).tolist() == [1, 0, 0, 0, 0, 0] and first.pressed == {"success"} and first.engaged
    assert not second.engaged
    device.close()
