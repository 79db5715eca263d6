"""Keys, typed or scripted: what they mean, when they count as held, what a script may say."""

import os
import pty
from typing import Any

import numpy as np
import pytest

from vla.errors import BodyFault, ConfigError, DataError
from vla.robot_driver.teleop import keyboard, scripted
from vla.robot_driver.teleop.keys import KEYS, command_of
from vla.teleoperation import BUTTONS, Command, Rate, Teleoperator

SCRIPT = """
# time key seconds
0.0  w  0.2
0.1  a  0.1   # with the one before
0.2  g
0.3  enter
---
0.0  s
0.1  c
0.2  c
0.3  y
"""


def values(command) -> Any:
    return command.motion.values


def test_every_button_and_axis_has_a_key():
    pressed = {button for key in KEYS for button in command_of(set(), {key}, engaged=True).pressed}
    assert pressed == set(BUTTONS)
    rates = [values(command_of({key}, set(), engaged=True)) for key in KEYS]
    assert sorted(tuple(rate) for rate in rates if rate.any()) == sorted(
        tuple(sign * row) for row in np.eye(6) for sign in (-1, 1)
    )
    both = command_of({"w", "s", "r"}, {"z"}, engaged=False)
    assert values(both).tolist() == [0, 0, 1, 0, 0, 0] and not both.pressed and not both.engaged


def read(device, count):
    return [device.read() for _ in range(count)]


def test_a_script_is_pressed_reading_by_reading():
    device = scripted.Config(text=SCRIPT, rate=10.0).make()
    assert isinstance(device, Teleoperator)
    device.start()
    device.begin()
    first = read(device, 5)
    assert [tuple(values(command)[:2]) for command in first] == [(1, 0), (1, 1), (0, 0), (0, 0), (0, 0)]
    assert [set(command.pressed) for command in first] == [set(), set(), {"gripper"}, {"keep"}, set()]
    device.begin()  # wherever the first one was
    second = read(device, 4)
    assert [command.engaged for command in second] == [True, False, True, True]
    assert values(second[0])[0] == -1 and second[3].pressed == {"success"}
    device.begin()
    assert read(device, 2)[1].pressed == {"quit"}
    device.start()
    device.begin()
    assert read(device, 5) != second and device.then == "quit"
    quiet = scripted.Config(text="0 w", then="nothing").make()
    quiet.begin()
    quiet.begin()
    assert not quiet.read().pressed and not quiet.read().moves


@pytest.mark.parametrize("line", ["w", "x w", "0 w 1 2", "-1 w", "0 nothing", "nan w", "0 w inf"])
def test_a_line_that_is_none_is_named(tmp_path, line):
    path = tmp_path / "keys.txt"
    path.write_text(f"0 w\n{line}\n")
    with pytest.raises(DataError, match=r"keys\.txt: line 2"):
        scripted.Config(keys=path).make()


def test_a_script_that_is_none_is_refused(tmp_path):
    with pytest.raises(DataError, match="file"):
        scripted.Config(keys=tmp_path / "none").make()
    for options in ({}, {"keys": tmp_path, "text": "0 w"}, {"text": "0 w", "rate": 0.0}):
        with pytest.raises(ConfigError):
            scripted.Config(**options)


def test_what_a_terminal_sends():
    assert keyboard.keys("wW \r\x7f\x1b") == ["w", "w", "space", "enter", "backspace", "esc"]
    assert keyboard.keys("a\x1b[A\x1b[1;5Cb\x1bOP\x1b[3~q") == ["a", "b", "q"]  # arrows and function keys
    assert keyboard.keys("\x1b") == ["esc"] and keyboard.keys("\x1b\x1b") == ["esc", "esc"]


@pytest.fixture
def terminal():
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as stream:
        yield ours, stream
    os.close(ours)


def test_a_key_counts_as_held_for_a_moment(terminal):
    import termios

    ours, stream = terminal
    before = termios.tcgetattr(stream.fileno())
    now = [0.0]
    device = keyboard.Keyboard(keyboard.Config(hold=0.1), stream, lambda: now[0])
    assert isinstance(device, Teleoperator)
    device.start()
    os.write(ours, b"ww")
    device.begin()  # typed while the scene was set
    assert not device.read().moves
    os.write(ours, b"wgc")
    command = device.read()
    assert values(command)[0] == 1 and command.pressed == {"gripper"} and not command.engaged
    now[0] = 0.09
    assert values(device.read())[0] == 1
    now[0] = 0.11
    assert not values(device.read()).any()
    device.close()
    device.close()
    assert termios.tcgetattr(stream.fileno()) == before
    with pytest.raises(BodyFault, match="not started"):
        device.read()


def test_a_keyboard_needs_a_terminal(tmp_path):
    with (tmp_path / "file").open("w") as stream:
        device = keyboard.Keyboard(keyboard.Config(), stream)
        with pytest.raises(BodyFault, match="terminal"):
            device.start()
        device.close()
    with pytest.raises(ConfigError):
        keyboard.Config(hold=0.0)


def test_in_real_time_keys_do_not_wait_for_whoever_reads_them():
    clock = [50.0]
    script = scripted.parse("0.1 w 0.2\n0.5 g\n0.6 esc", 10.0)
    device = scripted.ScriptedKeys(script, rate=10.0, clock=lambda: clock[0])
    device.start()
    clock[0] = 60.0
    assert device.read() == Command(), "no episode has begun"
    device.begin()
    told = []
    for clock[0] in (60.05, 60.15, 60.16, 60.75, 60.81):
        command = device.read()
        assert isinstance(command.motion, Rate)
        told.append((command.motion.values[0], sorted(command.pressed)))
    assert told == [(0, []), (1, []), (1, []), (1, ["estop", "gripper"]), (0, [])]


def test_a_script_presses_nothing_before_its_first_episode():
    device = scripted.Config(text="0 q", rate=10.0).make()
    device.start()
    assert device.read() == Command()
    device.begin()
    assert device.read().pressed == {"quit"}
