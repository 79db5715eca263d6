"""A robot by name, for every command that moves one: simulated here, or a driver of ``robot_driver/`` by ``Config``.

========== ======================================================================= ==========================
name       what                                                                    episodes
========== ======================================================================= ==========================
mujoco-arm a Panda in a LIBERO scene, simulated in real time in its own process     scenes of LIBERO, by row
libero     the same scene in this process, whose clock waits                        scenes of LIBERO, by row
any other  a driver's file name: its settings by --robot-set NAME=VALUE             what a person sets and judges
========== ======================================================================= ==========================
"""

import contextlib
import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from vla.embodiment import EmbodimentSpec
from vla.errors import BodyFault, ConfigError, UnknownName
from vla.mounting import check_calibrations
from vla.operated import BareTask
from vla.plugins import plugin, plugin_names
from vla.protocols import Body, Task
from vla.rows import EVALUATION_SEEDS, Row
from vla.runtime import Pace
from vla.safety import SafeBody, SafetyEvent, SafetyLimits
from vla.safety_watch import Estoppable

SIMULATED = ("mujoco-arm", "libero")
CAMERA_SIZE = 256


@dataclass(frozen=True)
class RobotOptions:
    """Which robot, and in which scene."""

    robot: str = "mujoco-arm"
    """mujoco-arm: a Panda in a LIBERO scene, simulated in real time in a process of its own; libero: the same scene,
    stepped; or a driver of robot_driver/ by name."""
    robot_set: tuple[str, ...] = ()
    """Settings of the driver, NAME=VALUE each."""
    suite: str = "libero_spatial"
    """LIBERO suite whose scenes are set before a simulated arm."""
    tasks: tuple[str, ...] = ()
    """Tasks of the suite by number or name; all if none is given."""
    seed: int = 0
    """Of the first scene; the others count up."""
    unsafe: bool = False
    """Run without the policy side's limits on step size, workspace and stale observations, and by hand where nobody can
    press an emergency stop; noted in the recording."""
    allow_simulator_drift: bool = False
    """Simulate with a MuJoCo that LIBERO's numbers do not hold for; every result is marked."""

    @property
    def simulated(self) -> bool:
        """Whether its scenes are LIBERO's."""
        return self.robot in SIMULATED

    @property
    def real(self) -> bool:
        """Whether something may be hurt by it, as far as is known."""
        return not self.simulated and self.robot != "mujoco_arm"

    @property
    def guarded(self) -> bool:
        """Whether somebody has to be able to press an emergency stop."""
        return self.real and not self.unsafe

    def check(self) -> None:
        """See that there is such a robot, before anything is started.

        Raises:
            UnknownName: there is none.
            ConfigError: settings where there are none.
        """
        names = (*SIMULATED, *plugin_names("robot_driver"))
        if self.robot not in names:
            raise UnknownName("robot", self.robot, names)
        if self.simulated and self.robot_set:
            raise ConfigError(f"--robot-set is for drivers by name: {', '.join(plugin_names('robot_driver'))}")

    def demonstration(self, number: int, names: Sequence[str]) -> Row:
        """Scene of the n-th demonstration: places sampled anew, so that none of the benchmark's is used up.

        Args:
            number: from 0.
            names: of the tasks, which take turns.
        """
        return Row(self.suite, names[number % len(names)], -1, EVALUATION_SEEDS + self.seed + number)


@dataclass
class Robot:
    """A robot that is connected.

    Attributes:
        name: as it was chosen.
        body: within its limits, unless they were switched off.
        task: of a scene; a driver's robot has one whatever the row says.
        paced: whether its clock runs by itself.
        facts: for the summary, JSON values, e.g. its process.
        report: how it is doing, JSON values, for the summary.
    """

    name: str
    body: Body
    task: Callable[[Row, str, int], Task]
    paced: bool
    facts: dict[str, Any] = field(default_factory=dict)
    report: Callable[[], dict[str, Any]] = dict

    @property
    def spec(self) -> EmbodimentSpec:
        """Of the body."""
        return self.body.spec

    @property
    def safety(self) -> str:
        """What a recording says about its limits."""
        return "on" if isinstance(self.body, SafeBody) else "off"

    @property
    def events(self) -> tuple[SafetyEvent, ...]:
        """All interventions so far."""
        return self.body.events if isinstance(self.body, SafeBody) else ()

    def pace(self, real_time: bool = True) -> Pace | None:
        """The loop's: of a robot whose clock waits only where a person needs it."""
        return Pace(self.spec.action.rate) if self.paced or real_time else None

    def estop(self) -> None:
        """The body's emergency stop; where it has none, its stop."""
        if isinstance(self.body, Estoppable):
            self.body.estop("the operator pressed it")
        else:
            self.body.stop()


@runtime_checkable
class Reports(Protocol):
    """A driver's body that counts something, e.g. the deadlines that its servo missed."""

    def report(self) -> dict[str, Any]:
        """JSON values."""
        ...


@runtime_checkable
class Limited(Protocol):
    """A driver's ``Config`` that knows what its robot may be told to do."""

    def limits(self) -> SafetyLimits:
        """Declared beside the robot's embodiment."""
        ...


@contextlib.contextmanager
def opened_robot(
    options: RobotOptions,
    *,
    first: Row | None = None,
    out: Path | None = None,
    camera_size: int = CAMERA_SIZE,
    by_hand: bool = False,
    on_event: Callable[[SafetyEvent], None] | None = None,
) -> Iterator[Robot]:
    """The robot, connected; when the block ends it stands still and is let go.

    Args:
        options: which.
        first: scene that a simulated one starts with.
        out: folder for a simulated arm's own log.
        camera_size: of a simulated one's pictures.
        by_hand: a person moves it: the same action again and again is then no sign of a policy that hangs.
        on_event: told of every safety event as it happens.

    Raises:
        UnknownName: there is no such robot, suite or task.
        ConfigError: a setting of the driver is wrong or missing, or it declares no limits and nobody said ``unsafe``.
        BodyFault: it cannot be reached.
        DependencyMissing: its library is not installed.
        SpecMismatch: a camera on the tool was calibrated with another tool.
    """
    options.check()
    with contextlib.ExitStack() as stack:
        if options.simulated:
            assert first is not None
            opened = _simulated(stack, options, first, out, camera_size)
        else:
            opened = _driven(stack, options)
        robot, limits = opened
        stack.callback(robot.body.close)
        check_calibrations(robot.spec)
        if not options.unsafe:
            if by_hand:  # a key that is held down says the same again and again
                limits = dataclasses.replace(limits, repeated=0)
            safe = SafeBody(robot.body, limits, on_event=on_event)
            stack.enter_context(safe.watched())
            robot.body = safe
        yield robot


def _simulated(
    stack: contextlib.ExitStack, options: RobotOptions, first: Row, out: Path | None, camera_size: int
) -> tuple[Robot, SafetyLimits]:
    from vla.commands.libero_arm import LiberoArm
    from vla.embodiments.libero_panda import limits
    from vla.robot_driver import mujoco_arm
    from vla.robot_driver.mujoco_arm_process import spawn
    from vla.sim import libero

    config = libero.Config(camera_size=camera_size, allow_simulator_drift=options.allow_simulator_drift)
    allowed = limits(options.suite)
    if options.robot == "libero":
        benchmark = config.make()
        stack.callback(benchmark.close)
        body, _ = benchmark.open(first)
        stepped = _Stepped(body)
        robot = Robot(options.robot, stepped, lambda row, *_: stepped.scene(*benchmark.open(row)), paced=False)
        # its clock stands while nobody commands, and so does the arm
        return robot, dataclasses.replace(allowed, clock_jump=math.inf, heartbeat=math.inf)
    log = out / "arm.jsonl" if out else None
    process = stack.enter_context(spawn(LiberoArm(first, config), log=log))
    host, port = process.address
    arm = mujoco_arm.Config(host, port).make()
    facts = {"arm_pid": process.pid, "policy_pid": os.getpid()}
    robot = Robot(
        options.robot,
        arm,
        lambda row, *_: arm.task(row.to_json()),
        paced=True,
        facts=facts,
        report=lambda: {"arm": arm.telemetry()},
    )
    return robot, allowed


def _driven(stack: contextlib.ExitStack, options: RobotOptions) -> tuple[Robot, SafetyLimits]:
    from vla.commands.name_value import make_config, parse_settings

    settings: Mapping[str, Any] = dict(parse_settings(options.robot_set, "--robot-set"))
    config: Any = make_config(plugin("robot_driver", options.robot).Config, options.robot, settings, "--robot-set")
    knows: object = config
    if isinstance(knows, Limited):
        limits = knows.limits()  # what is wrong here connects nothing
    elif options.unsafe:
        limits = SafetyLimits()
    else:
        raise ConfigError(
            f"the driver {options.robot!r} declares no limits: give its Config a limits(), or run it with --unsafe"
        )
    body: Body = config.make()
    report = functools.partial(_reported, body)
    return Robot(options.robot, body, lambda _, said, steps: BareTask(said, steps), paced=True, report=report), limits


def _reported(body: object) -> dict[str, Any]:
    """What a body says of itself; that it no longer answers costs nobody the results."""
    try:
        return {"arm": body.report()} if isinstance(body, Reports) else {}
    except BodyFault as error:
        return {"arm": {"error": str(error)}}


class _Stepped:
    """A simulated body whose scene may change underneath it: a benchmark may give another body for the next row."""

    def __init__(self, body: Body):
        self._body = body

    @property
    def spec(self) -> EmbodimentSpec:
        return self._body.spec

    def scene(self, body: Body, task: Task) -> Task:
        self._body = body
        return task

    def observe(self, *, images: bool = True) -> Any:
        return self._body.observe(images=images)

    def command(self, action: Any) -> Any:
        return self._body.command(action)

    def stop(self) -> None:
        self._body.stop()

    def close(self) -> None:
        """The benchmark closes what it opened."""
        self._body.stop()
