"""Episodes that a person drives, one after the other: what ``vla teleop`` and ``vla record`` have in common."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.console import Console

from vla.commands.robot_choice import Robot, RobotOptions
from vla.operated import Hands, NoPolicy, OperatedTask, Operator
from vla.protocols import Observer, Outcome
from vla.rows import Row
from vla.runtime import run_episode


def task_list(options: RobotOptions) -> list[str]:
    """Names of the tasks that take turns; of a driver's robot, which has no scenes, its own name.

    Raises:
        UnknownName: there is no such suite or task.
    """
    from vla.commands.choices import task_names

    return task_names(options.suite, options.tasks) if options.simulated else [options.robot]


def instruction_of(said: Sequence[str], options: RobotOptions) -> str:
    """What a robot without scenes is told; a scene's own words count where nobody said anything."""
    return said[0] if said else options.robot


def episodes_by_hand(
    robot: Robot,
    operator: Operator,
    scene: Callable[[], Row],
    *,
    instruction: str,
    seconds: float,
    observers: Callable[[], Sequence[Observer]],
    real_time: bool,
    console: Console,
) -> Iterator[Outcome]:
    """Episodes until the operator quits, presses the emergency stop, or something fails.

    Args:
        robot: what moves.
        operator: who moves it.
        scene: of the next episode.
        instruction: of a robot without scenes.
        seconds: after which an episode ends by itself.
        observers: of the next episode, told of every step.
        real_time: keep to the control rate even where the robot's clock would wait.
        console: says what begins.
    """
    limit = max(1, round(seconds * robot.spec.action.rate))
    while not (operator.quits or operator.stopped):
        task = OperatedTask(robot.task(scene(), instruction, limit), operator, limit)
        outcome = run_episode(
            robot.body,
            task,
            NoPolicy(robot.spec),
            seed=0,
            executor=lambda *_: Hands(operator),
            observers=[Announcer(console), *observers()],
            pace=robot.pace(real_time),
        )
        yield outcome
        if outcome.status == "error":
            return


class Announcer:
    """An observer that tells the person what is to be done."""

    wants_images = False

    def __init__(self, console: Console):
        self.console = console

    def start(self, spec: Any, instruction: str) -> None:
        """An episode begins."""
        self.console.print(f"ready: {instruction}", markup=False)

    def step(self, step: Any) -> None:
        """Nothing to say."""

    def finish(self, outcome: Outcome) -> None:
        """Whoever runs the episodes says it."""
