"""Whatever a policy says, what reaches the body is finite, small, inside the workspace and fresh."""

import math
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.embodiment import ActionSpec, Channel, Gripper
from vla.embodiments import libero_panda
from vla.errors import BodyFault, ConfigError, PolicyFault
from vla.experience import ActionChunk, Observation
from vla.protocols import Body
from vla.runtime import run_episode
from vla.safety import RULES, SafeBody, SafetyLimits

PANDA = libero_panda.libero_panda(8)
LIMITS = SafetyLimits(0.03, 0.2, (-0.1, -0.1, 0.0), (0.1, 0.1, 0.5), max_age=0.5)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Arm:
    """A body that does what it is told, and remembers it."""

    def __init__(self, spec=PANDA, position=(0.0, 0.0, 0.2)):
        self.spec, self.position, self.sent, self.stops, self.time = spec, np.array(position), [], 0, 0.0
        self.frozen = False

    def observe(self, *, images=True):
        state = np.zeros(len(self.spec.state), np.float32)
        state[:3] = self.position
        return Observation({}, state, "", self.time)

    def command(self, action):
        self.sent.append(action)
        self.time += 0.0 if self.frozen else 0.05
        return action

    def stop(self):
        self.stops += 1

    def close(self):
        pass


def safe(arm, limits=LIMITS, **options):
    body = SafeBody(arm, limits, **options)
    body.observe()
    return body


def action(*values, gripper=1.0):
    return np.array([*values, *[0.0] * (6 - len(values)), gripper], np.float32)


numbers = st.floats(-10.0, 10.0, width=32)


@given(st.lists(numbers, min_size=7, max_size=7), st.tuples(*[st.floats(-0.3, 0.6)] * 3))
def test_every_limit_holds_whatever_is_asked(values, position):
    arm = Arm(position=position)
    safe(arm).command(np.array(values, np.float32))
    sent = arm.sent[0].astype(np.float64)
    assert np.linalg.norm(sent[:3]) <= LIMITS.max_translation + 1e-6
    assert np.linalg.norm(sent[3:6]) <= LIMITS.max_rotation + 1e-5
    here = np.array(position, np.float32)
    outside = np.maximum(np.array(LIMITS.low) - (here + sent[:3]), here + sent[:3] - np.array(LIMITS.high))
    before = np.maximum(np.array(LIMITS.low) - here, here - np.array(LIMITS.high))
    assert (outside <= np.maximum(before, 0.0) + 1e-6).all()  # never further out than it was
    assert sent[6] == np.float32(values[6])


@given(st.tuples(*[st.floats(-1 / 64, 1 / 64, width=32)] * 3))
def test_what_is_within_limits_passes_to_the_last_bit(step):
    arm = Arm()
    body = safe(arm)
    asked = action(*step)
    np.testing.assert_array_equal(body.command(asked), asked)
    assert body.events == ()


def test_direction_is_kept_and_the_event_is_told():
    arm, told = Arm(), []
    body = safe(arm, on_event=told.append)
    sent = body.command(action(0.3, 0.4, 0.0, 0.0, 3.0))
    np.testing.assert_allclose(sent[:6], [0.018, 0.024, 0.0, 0.0, 0.2, 0.0], atol=1e-6)
    assert [event.rule for event in told] == ["translation", "rotation"]
    assert told == list(body.events) and told[0].value == pytest.approx(0.5)


def test_the_table_is_not_entered_and_nobody_is_flung_back():
    arm = Arm(position=(0.0, 0.0, 0.01))
    body = safe(arm)
    np.testing.assert_allclose(body.command(action(0.01, 0.0, -0.02))[:3], [0.01, 0.0, -0.01], atol=1e-6)
    assert body.events[-1].rule == "workspace" and "along z" in body.events[-1].what
    arm.position[2] = -0.2  # already below: no way down, no leap up, its own way up is open
    body.observe()
    assert body.command(action(0.0, 0.0, -0.01))[2] == 0.0
    assert body.command(action())[2] == 0.0
    assert body.command(action(0.0, 0.0, 0.02))[2] == pytest.approx(0.02)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_stops_the_arm_and_is_not_sent(bad):
    arm = Arm()
    body = safe(arm)
    with pytest.raises(PolicyFault, match=r"dy is .*stopped"):
        body.command(action(0.0, bad))
    assert arm.stops == 1 and arm.sent == [] and body.events[0].rule == "finite"


@pytest.mark.parametrize("bad", [np.zeros(6, np.float32), np.zeros((1, 7), np.float32), np.zeros(7, np.int64)])
def test_wrong_shapes_stop_the_arm(bad):
    arm = Arm()
    with pytest.raises(PolicyFault, match="an action is 7 floats"):
        safe(arm).command(bad)
    assert arm.stops == 1 and arm.sent == []


def test_an_old_answer_stops_the_arm():
    clock, arm = Clock(), Arm()
    body = SafeBody(arm, LIMITS, clock=clock)
    with pytest.raises(PolicyFault, match="before any observation"):
        body.command(action())
    body.observe()
    clock.now = 0.4
    body.command(action())
    clock.now = 0.6
    with pytest.raises(PolicyFault, match=r"0\.600 s old"):
        body.command(action())
    assert arm.stops == 2 and body.events[-1].rule == "stale"


def test_frozen_measurements_stop_the_arm():
    clock, arm = Clock(), Arm()
    body = SafeBody(arm, LIMITS, clock=clock)
    body.observe()
    clock.now = 5.0
    body.observe()  # nothing was asked of it: a simulator that waits is not frozen
    body.command(action())  # advances the arm's clock
    clock.now = 5.3
    body.observe()
    arm.frozen = True  # from here on it takes commands, and nothing it measures changes
    body.command(action())
    clock.now = 5.6
    body.observe()
    clock.now = 5.9
    with pytest.raises(BodyFault, match="stands still"):
        body.observe()
    assert body.events[-1].rule == "frozen" and arm.stops == 1


class NanPolicy:
    spec = PANDA

    def reset(self, instruction, *, seed):
        self.calls = 0

    def act(self, observation):
        self.calls += 1
        values = np.zeros((1, 7), np.float32)
        if self.calls == 3:
            values = values.astype(np.float32)
            values[0, 0] = np.nan
        return ActionChunk(values, observation.time, 0.05)


class Still:
    instruction, max_steps = "hold", 9

    def reset(self):
        pass

    def succeeded(self):
        return False


def test_in_the_run_loop():
    spec = replace(PANDA, cameras=())
    arm = Arm(spec)
    policy = NanPolicy()
    policy.spec = spec
    body = SafeBody(arm, LIMITS)
    assert isinstance(body, Body)
    outcome = run_episode(body, Still(), policy, seed=0)
    assert outcome.status == "error" and "nan" in outcome.error and len(arm.sent) == 2 and arm.stops >= 1


def test_absolute_actions():
    channels = (
        *(Channel(f"t{axis}", "m", "position", scale=0.5) for axis in "xyz"),
        Channel("gripper", "1", "gripper"),
    )
    spec = replace(PANDA, action=ActionSpec(channels, "absolute", "base", None, Gripper(), 20.0))
    arm = Arm(spec, position=(0.0, 0.0, 0.49))
    body = safe(arm, SafetyLimits(max_translation=0.03, low=LIMITS.low, high=LIMITS.high))
    sent = body.command(np.array([0.0, 0.0, 2.0, 1.0], np.float32))
    np.testing.assert_allclose(sent, [0.0, 0.0, 1.0, 1.0], atol=1e-6)  # 0.5 m, in units of 0.5 m
    assert [event.rule for event in body.events] == ["translation", "workspace"]


def test_limits_that_cannot_be_watched_are_refused():
    with pytest.raises(ConfigError, match="low"):
        SafetyLimits(low=(0.0, 0.0, 1.0), high=(1.0, 1.0, 0.5))
    with pytest.raises(ConfigError, match="max_age"):
        SafetyLimits(max_age=0.0)
    tool = replace(PANDA, action=replace(PANDA.action, frame="tool"))
    with pytest.raises(ConfigError, match="base frame"):
        SafeBody(Arm(tool), LIMITS)
    joints = replace(PANDA, action=ActionSpec((Channel("j", "rad", "joint"),), "delta", "joint", None, None, 20.0))
    with pytest.raises(ConfigError, match="three position channels"):
        SafeBody(Arm(joints), SafetyLimits(max_translation=0.1))
    SafeBody(Arm(joints), SafetyLimits())
    absolute = replace(PANDA, action=replace(PANDA.action, mode="absolute"))
    with pytest.raises(ConfigError, match="absolute"):
        SafeBody(Arm(absolute), LIMITS)


def test_libero_limits_leave_every_legal_action_alone():
    arm = Arm(position=(0.0, 0.0, 1.1))
    body = safe(arm, libero_panda.LIMITS)
    top = np.array([channel.high for channel in PANDA.action.channels], np.float32)
    np.testing.assert_array_equal(body.command(top), top)
    assert body.events == ()
    arm.position[2] = 0.9
    body.observe()
    assert body.command(action(0.0, 0.0, -0.05))[2] > -0.05


def test_the_e_stop_stops_from_another_thread_and_holds_until_it_is_reset():
    arm, told = Arm(), []
    body = safe(arm, on_event=told.append)
    thread = threading.Thread(target=body.estop)
    thread.start()
    thread.join()
    assert arm.stops >= 1 and [event.rule for event in told] == ["estop"] and told[0].does == "stop"
    body.estop("again")
    for forbidden in (lambda: body.command(action()), body.observe):
        with pytest.raises(BodyFault, match="e-stop is pressed"):
            forbidden()
    assert arm.sent == [] and len(told) == 1
    body.reset()
    body.observe()
    body.command(action())
    assert len(arm.sent) == 1


class ArmWithEstop(Arm):
    """It can be stopped while it is busy."""

    def __init__(self):
        super().__init__()
        self.busy, self.pressed = threading.Event(), threading.Event()

    def observe(self, *, images=True):
        self.busy.set()
        assert self.pressed.wait(10.0)
        return super().observe(images=images)

    def estop(self, reason):
        self.pressed.set()

    def release(self):
        self.pressed.clear()


def test_the_e_stop_does_not_wait_for_a_busy_body():
    arm = ArmWithEstop()
    body = SafeBody(arm, LIMITS)

    def press():
        arm.busy.wait()
        body.estop()

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(BodyFault, match="e-stop"):
        body.observe()  # would wait for ever
    thread.join()
    body.reset()
    assert not arm.pressed.is_set()


def test_silence_stops_an_arm_that_was_told_to_move():
    clock, arm = Clock(), Arm()
    body = SafeBody(arm, replace(LIMITS, heartbeat=0.2), clock=clock)
    body.check()  # nothing was commanded yet
    body.observe()
    body.command(action(0.01))
    clock.now = 0.2
    body.check()
    assert arm.stops == 0
    clock.now = 0.21
    body.check()
    body.check()
    assert arm.stops == 1 and [event.rule for event in body.events] == ["heartbeat"]


def test_the_heartbeat_has_a_thread_of_its_own():
    arm, stopped = Arm(), threading.Event()
    body = SafeBody(arm, replace(LIMITS, heartbeat=0.01), on_event=lambda event: stopped.set())
    with body.watched():
        body.observe()
        body.command(action(0.01))
        assert stopped.wait(10.0)
    assert arm.stops == 1
    with safe(Arm()).watched():
        pass


def test_an_arm_that_cannot_be_told_to_stop_is_told_again():
    class Deaf(Arm):
        def stop(self):
            super().stop()
            if self.stops < 3:
                raise BodyFault("no answer")

    arm, stopped = Deaf(), threading.Event()

    def told(event):
        if "no command" in event.what:
            stopped.set()

    body = SafeBody(arm, replace(LIMITS, heartbeat=0.01), on_event=told)
    with body.watched():
        body.observe()
        body.command(action(0.01))
        assert stopped.wait(10.0)
    assert arm.stops == 3
    assert next(event.what.split(":")[0] for event in body.events) == "the arm could not be told to stop"


def test_bad_senses_stop_the_arm_in_the_call_that_shows_them():
    arm, limits = Arm(), replace(LIMITS, black=5, stuck=2)
    body = safe(arm, limits)
    body.command(action(0.03))
    with pytest.raises(BodyFault, match=r"same state.*stopped"):
        body.observe()
    black = {"front": np.zeros((4, 4, 3), np.uint8)}
    arm.observe = lambda images=True: Observation(black, np.zeros(8, np.float32), "", 1.0)
    with pytest.raises(BodyFault, match=r"camera front.*stopped"):
        body.observe()
    assert arm.stops == 2 and [event.rule for event in body.events] == ["stuck", "camera_black"]


def test_a_policy_that_repeats_itself_is_stopped():
    arm = Arm()
    body = safe(arm, replace(LIMITS, repeated=3))
    for _ in range(9):
        body.command(action())
    body.command(action(0.01))
    body.command(action(0.01))
    with pytest.raises(PolicyFault, match="said before"):
        body.command(action(0.01))
    assert arm.stops == 1 and body.events[-1].rule == "repeated"


@given(st.lists(st.tuples(*[st.floats(-0.05, 0.05)] * 3), min_size=2, max_size=8))
def test_steps_change_no_faster_than_declared_but_never_into_the_table(steps):
    arm = Arm(position=(0.0, 0.0, 0.004))
    body = safe(arm, replace(LIMITS, max_change=0.01))
    for step in steps:
        body.command(action(*step))
    sent = np.array([command[:3] for command in arm.sent], np.float64)
    assert (sent[:, 2] >= -0.004 - 1e-6).all()
    free = np.diff(np.concatenate([np.zeros((1, 3)), sent]), axis=0)[:, :2]
    assert (np.linalg.norm(free, axis=1) <= 0.01 + 1e-6).all()


JOINT_ARM = replace(
    PANDA,
    state=tuple(Channel(name, "rad", "joint", -1.0, 1.0) for name in ("shoulder", "elbow")),
    state_rotation=None,
    action=ActionSpec(
        channels=tuple(Channel(name, "rad", "joint", -1.0, 1.0, max_rate=2.0) for name in ("to_shoulder", "to_elbow")),
        mode="absolute",
        frame="joint",
        rotation=None,
        gripper=None,
        rate=20.0,
    ),
)


@given(st.tuples(*[st.floats(-9.0, 9.0)] * 2), st.tuples(*[st.floats(-0.875, 0.875, width=32)] * 2))
def test_joint_targets_stay_in_range_and_in_reach(target, here):
    arm = Arm(JOINT_ARM)
    arm.observe = lambda images=True: Observation({}, np.array(here, np.float32), "", 0.0)
    body = SafeBody(arm, SafetyLimits())
    body.observe()
    sent = body.command(np.array(target, np.float32)).astype(np.float64)
    assert (np.abs(sent) <= 1.0 + 1e-6).all() and (np.abs(sent - here) <= 0.1 + 1e-6).all()
    rules = {event.rule for event in body.events}
    assert rules <= {"joint_velocity", "joint_position"}
    assert bool(rules) == bool((np.abs(sent - np.array(target, np.float32)) > 2e-6).any())
    assert all(RULES[rule] == "clamp" for rule in rules)
