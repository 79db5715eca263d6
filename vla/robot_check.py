"""Is this robot fit to be driven? Reads it for some seconds, and moves it a little only if asked to.

::

    body ─▶ numbers, as fast as they are asked for ─▶ rate, latency, clock, ranges, noise
         ─▶ pictures                                ─▶ sizes, latency, ages, exposure, black or frozen
         ─▶ a small motion there and back (on request) ─▶ does it follow, how soon, does it come back
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from vla.embodiment import EmbodimentSpec
from vla.errors import BodyFault, ConfigError, PolicyFault
from vla.experience import Observation
from vla.protocols import Body

Status = Literal["ok", "warning", "error", "note"]

BUCKETS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
"""Upper ends of the latency histogram [ms]; the last bucket has everything above."""

STEP_M = 0.005
"""How far the small motion goes along z [m]."""
STEP_RAD = 0.02
"""How far it goes where joints are commanded: the last one [rad]."""

_PACE = 0.01  # [s] between two readings: faster than any policy, slower than a flood
_PICTURES = 8
_WAY = 2.0  # [s] there, and as long back
_GAIN = 0.3  # of what is still to go, each period: stable where changes add up and the arm is two periods late
_STILL_M, _STILL_RAD = 0.002, 0.01  # an arm that nobody moves may seem to move by so much
_TOO_FAR = 3.0  # times the small motion: the arm goes where it should not, and is stopped


@runtime_checkable
class TellsPictures(Protocol):
    """A body that says when its last pictures were taken, and how long they were exposed."""

    @property
    def picture_times(self) -> Mapping[str, float]:
        """On this process's clock, by camera [s]."""
        ...

    @property
    def exposures(self) -> Mapping[str, float | None]:
        """By camera [s]; None where the device does not say."""
        ...


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what.
        status: ``"note"`` is a fact that nobody judges.
        found: for people.
        value: for programs, a JSON value.
    """

    name: str
    status: Status
    found: str
    value: Any = None

    def to_json(self) -> dict[str, Any]:
        """A JSON value."""
        return {"name": self.name, "status": self.status, "found": self.found, "value": self.value}


def check_robot(
    body: Body,
    *,
    seconds: float = 3.0,
    move: bool = False,
    tells: object = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Finding]:
    """Look at a robot that is connected; whatever goes wrong is a finding, and ends what depends on it.

    Args:
        body: the robot.
        seconds: for which its numbers are read.
        move: move it by 5 mm, or its last joint by 0.02 rad, and back.
        tells: who says when pictures were taken, if it is :class:`TellsPictures`: the body inside its limits.
        clock: of this process [s].
        sleep: waits [s].

    Raises:
        ConfigError: the time to read for is not above 0.
    """
    if not seconds > 0:
        raise ConfigError(f"a robot is read for a time above 0 s, found {seconds}")
    found: list[Finding] = []
    try:
        found += _numbers(body, seconds, clock, sleep)
        if body.spec.cameras:
            found += _pictures(body, tells if isinstance(tells, TellsPictures) else None, clock, sleep)
        if move:
            if any(one.status == "error" for one in found):
                found.append(Finding("motion", "note", "not moved, because of the errors above"))
            else:
                found += _motion(body, clock, sleep)
    except (BodyFault, PolicyFault) as fault:
        found.append(Finding("connection", "error", str(fault)))
    return found


def histogram(latencies_ms: Float64[np.ndarray, "n"]) -> dict[str, int]:
    """How many are within each bucket, by its upper end in ms; ``more`` for what is beyond the last."""
    edges = [0.0, *map(float, BUCKETS_MS), np.inf]
    counts, _ = np.histogram(latencies_ms, edges)
    return dict(zip([*map(str, BUCKETS_MS), "more"], counts.tolist(), strict=True))


def _numbers(body: Body, seconds: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> list[Finding]:
    body.observe(images=False)  # what is slow only once is not the robot's rate
    stamps, latencies, states, begin = [], [], [], clock()
    while clock() - begin < seconds:
        asked = clock()
        seen = body.observe(images=False)
        latencies.append((clock() - asked) * 1000)
        stamps.append(seen.time)
        states.append(seen.state)
        sleep(max(0.0, _PACE - (clock() - asked)))
    spent = clock() - begin
    table, times = np.array(states, np.float64), np.array(stamps)
    late = np.array(latencies)
    p50, p99 = np.percentile(late, (50, 99))
    spread = {"p50": float(p50), "p99": float(p99), "max": float(late.max()), "histogram": histogram(late)}
    period = 1000 / body.spec.action.rate
    slow: Status = "ok" if p99 < period / 2 else "warning" if p50 < period / 2 else "error"
    said = f"p50 {p50:.2f}, p99 {p99:.2f}, max {late.max():.2f} ms; a control period is {period:.0f} ms"
    found = [Finding("latency of numbers", slow, said, spread), _rate(times, spent, body.spec)]
    found.append(_clock(times, spent))
    return [*found, *_ranges(table, body.spec), _rest(table, body.spec)]


def _rate(times: np.ndarray, spent: float, spec: EmbodimentSpec) -> Finding:
    fresh = len(np.unique(times)) / spent
    value = {"readings": len(times) / spent, "fresh": fresh, "control": spec.action.rate}
    enough: Status = "ok" if fresh >= spec.action.rate else "error"
    said = f"{fresh:.1f} new measurements a second in {len(times) / spent:.1f} readings, control wants"
    return Finding("rate of numbers", enough, f"{said} {spec.action.rate:g}", value)


def _clock(times: np.ndarray, spent: float) -> Finding:
    back = int((np.diff(times) < 0).sum())
    if back:
        return Finding("clock", "error", f"measured time went back {back} times", {"back": back})
    ratio = float((times[-1] - times[0]) / spent)
    steady: Status = "ok" if abs(ratio - 1) < 0.05 else "warning" if abs(ratio - 1) < 0.5 else "error"
    return Finding("clock", steady, f"runs at {ratio:.3f} times this machine's", {"ratio": ratio})


def _ranges(states: np.ndarray, spec: EmbodimentSpec) -> list[Finding]:
    """Every state number is finite and within its channel's range."""
    wrong = []
    for place, channel in enumerate(spec.state):
        values = states[:, place] * channel.scale
        bad = values[~((values >= channel.low) & (values <= channel.high))]
        if len(bad):
            wrong.append(f"{channel.name} is {bad[0]:g} {channel.unit}, expected {channel.low:g} to {channel.high:g}")
    if wrong:
        return [Finding(f"range of {line.split()[0]}", "error", line) for line in wrong]
    return [Finding("ranges", "ok", f"all of {len(spec.state)} numbers are finite and within theirs")]


def _rest(states: np.ndarray, spec: EmbodimentSpec) -> Finding:
    """Nobody moves it: how much does it seem to move?"""
    swing = states.max(0) - states.min(0)
    worst = {}
    for place, channel in enumerate(spec.state):
        if channel.kind in ("position", "joint"):
            worst[channel.name] = float(swing[place] * channel.scale)
    if not worst:
        return Finding("at rest", "note", "no position to judge by")
    units = {channel.name: channel.unit for channel in spec.state}
    shares = {key: value / (_STILL_M if units[key] == "m" else _STILL_RAD) for key, value in worst.items()}
    name = max(shares, key=lambda key: shares[key])
    unit = units[name]
    still: Status = "ok" if shares[name] < 1 else "warning"
    return Finding("at rest", still, f"{name} varied by {worst[name]:.5f} {unit}, the most of all", worst)


def _pictures(
    body: Body, tells: TellsPictures | None, clock: Callable[[], float], sleep: Callable[[float], None]
) -> list[Finding]:
    body.observe()
    seen: list[Observation] = []
    latencies, ages = [], {camera.name: [] for camera in body.spec.cameras}
    for _ in range(_PICTURES):
        asked = clock()
        seen.append(body.observe())
        latencies.append((clock() - asked) * 1000)
        if tells is not None:
            for name, taken in tells.picture_times.items():
                ages[name].append(clock() - taken)
        sleep(max(0.0, 1 / body.spec.action.rate - (clock() - asked)))
    late = np.array(latencies)
    spread = {"p50": float(np.median(late)), "max": float(late.max()), "histogram": histogram(late)}
    said = f"p50 {np.median(late):.1f}, max {late.max():.1f} ms for all cameras together"
    found = [Finding("latency of pictures", "note", said, spread)]
    exposures = tells.exposures if tells is not None else {}
    for camera in body.spec.cameras:
        pictures = [observation.images.get(camera.name) for observation in seen]
        shape = (camera.height, camera.width, 3)
        given = [None if picture is None else picture.shape for picture in pictures]
        if set(given) != {shape}:
            found.append(Finding(f"camera {camera.name}", "error", f"expected pictures of {shape}, found {given[0]}"))
            continue
        stack = np.array(pictures)
        bright = float(stack.mean())
        same = all(np.array_equal(stack[0], picture) for picture in stack[1:])
        exposure = exposures.get(camera.name)
        value = {"brightness": bright, "exposure_s": exposure, "age_s": max(ages[camera.name], default=None)}
        shown = "unknown" if exposure is None else f"{exposure * 1000:.1f} ms"
        age = "" if value["age_s"] is None else f", at most {value['age_s'] * 1000:.0f} ms old"
        said = f"{camera.width}x{camera.height}, mean brightness {bright:.0f} of 255, exposure {shown}{age}"
        bad = "black: " if stack.max() < 8 else "the same picture every time: " if same else ""
        # a camera in a simulator has no noise: at rest its pictures are alike
        status: Status = "error" if stack.max() < 8 else "warning" if same else "ok"
        found.append(Finding(f"camera {camera.name}", status, bad + said, value))
    return found


def _motion(body: Body, clock: Callable[[], float], sleep: Callable[[float], None]) -> list[Finding]:
    """There and back; the gripper is told to stay as it is."""
    spec = body.spec
    kinds = [channel.kind for channel in spec.action.channels]
    names = [channel.name for channel in spec.state]
    joints, adds_up = spec.action.frame == "joint", spec.action.mode == "delta"
    kind = "joint" if joints else "position"
    places = [place for place, channel in enumerate(spec.state) if channel.kind == kind]
    # along the tool's own axes the measured z would not tell how far it went
    if kind not in kinds or not places or (not joints and not (adds_up and spec.action.frame == "base")):
        return [Finding("motion", "note", "how to move a little is not known for these actions; not moved")]
    watched = places[-1] if joints else places[min(2, len(places) - 1)]
    moved = [place for place, each in enumerate(kinds) if each == kind]
    lever = moved[-1] if joints else moved[min(2, len(moved) - 1)]
    size = STEP_RAD if joints else STEP_M
    unit = "rad" if joints else "m"
    start = body.observe(images=False).state
    each = max(4, round(_WAY * spec.action.rate))
    reaction, reached, begun = None, 0.0, clock()
    try:
        for number in range(2 * each):
            seen = body.observe(images=False).state
            here = float((seen[watched] - start[watched]) * spec.state[watched].scale)
            reached = max(reached, here)
            if reaction is None and here > size / 10:
                reaction = clock() - begun
            if not abs(here) <= _TOO_FAR * size:
                said = f"{names[watched]}: asked for {size:g} {unit}, found {here:+.4f}: stopped"
                return [Finding("motion", "error", said, {"asked": size, "reached": here, "channel": names[watched]})]
            goal = size if number < each else 0.0
            # joint targets go along a ramp; changes close the loop gently, whether or not they add up in the controller
            share = min(1.0, (number % each + 1) / (each / 2))
            amount = _GAIN * (goal - here) if adds_up else (share if goal else 1 - share) * size
            body.command(_action(spec, start, lever, amount))
            sleep(max(0.0, begun + (number + 1) / spec.action.rate - clock()))
    finally:
        body.stop()
    sleep(0.3)
    rest = float((body.observe(images=False).state[watched] - start[watched]) * spec.state[watched].scale)
    value = {"asked": size, "reached": reached, "left": rest, "reaction_s": reaction, "channel": names[watched]}
    said = f"{names[watched]}: asked for {size:g} {unit} and back, reached {reached:.4f}, {rest:+.4f} left over"
    said += "" if reaction is None else f", first seen after {reaction * 1000:.0f} ms"
    good = 0.8 * size <= reached <= 1.5 * size and abs(rest) < 0.2 * size
    wrong = reached < 0.2 * size
    return [Finding("motion", "ok" if good else "error" if wrong else "warning", said, value)]


def _action(spec: EmbodimentSpec, start: np.ndarray, lever: int, amount: float) -> np.ndarray:
    """Nothing moves but one channel; the gripper stays as it was measured."""
    joints = [float(start[p]) * c.scale for p, c in enumerate(spec.state) if c.kind == "joint"]
    action = np.zeros(spec.action.size, np.float64)
    taken = 0
    for place, channel in enumerate(spec.action.channels):
        if channel.kind == "joint" and spec.action.mode == "absolute":
            action[place] = joints[taken]
            taken += 1
        elif channel.kind == "gripper":
            action[place] = _as_it_is(spec, start)
    action[lever] += amount
    return (action / [channel.scale for channel in spec.action.channels]).astype(np.float32)


def _as_it_is(spec: EmbodimentSpec, start: np.ndarray) -> float:
    """The gripper's action that keeps it open, or closed, whichever it is nearer to."""
    gripper = spec.action.gripper
    assert gripper is not None  # an action with a gripper's channel has one
    for place, channel in enumerate(spec.state):
        if channel.kind == "gripper" and np.isfinite([channel.low, channel.high]).all():
            share = (start[place] * channel.scale - channel.low) / (channel.high - channel.low)
            return gripper.opened if share > 0.5 else gripper.closed
    return gripper.opened
