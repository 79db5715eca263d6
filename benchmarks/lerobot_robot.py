"""What does driving an SO-101 through our body cost beside lerobot's own robot, which it drives?

Both read and command the same emulated arm (a process of its own behind a pseudo-terminal) through lerobot's follower
and Feetech's library: ours converts units, drops stale answers, checks the servos' health twice a second and keeps
within limits. Steps of the two take turns in one run; medians of a step (observe, then command what was measured).
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from vla.robot_driver import lerobot_robot
from vla.robot_driver.feetech_emulator import spawn
from vla.safety import SafeBody

STEPS, ROUNDS = 60, 7


def milliseconds(step: Callable[[], None]) -> float:
    """How long one step takes."""
    begin = time.perf_counter()
    step()
    return 1e3 * (time.perf_counter() - begin)


def main() -> None:
    """Print one JSON line."""
    with tempfile.TemporaryDirectory() as folder, spawn(calibration=Path(folder) / "arm.json") as arm:
        config = lerobot_robot.Config(arm.port, name="arm", calibration=Path(folder))
        body = config.make()
        robot, safe = body.robot, SafeBody(body, config.limits())

        def theirs() -> None:
            robot.send_action({key: value for key, value in robot.get_observation().items() if key.endswith(".pos")})

        def ours() -> None:
            safe.command(safe.observe().state)

        rounds = []
        for _ in range(ROUNDS):
            pairs = [(milliseconds(ours), milliseconds(theirs)) for _ in range(STEPS)]
            rounds.append([statistics.median(column) for column in zip(*pairs, strict=True)])
        body.close()
    ours_ms, theirs_ms = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratio = statistics.median(first / second for first, second in rounds)
    result = {"benchmark": "lerobot_robot", "ours_ms": ours_ms, "lerobot_ms": theirs_ms, "ratio": ratio}
    print(json.dumps({key: round(value, 3) if isinstance(value, float) else value for key, value in result.items()}))


if __name__ == "__main__":
    main()
