"""LIBERO as a Gymnasium environment.

The action is the environment's own: seven numbers in [-1, 1], of which +-1 stands for 0.05 m and 0.5 rad, and -1 opens,
+1 closes the gripper. (:class:`vla.sim.libero.LiberoBody` takes metres, radians and 1 = open instead.) Pictures are
drawn in every step, because Gymnasium's ``step`` returns them; a ``Body`` draws them only when asked.
"""

from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float32

from vla.embodiments.libero_panda import ACTION, RATE_HZ, RAW_ACTION
from vla.rows import Row
from vla.sim.libero import Config
from vla.transforms import action_map

_TO_CANONICAL = action_map(RAW_ACTION, ACTION)

type Observed = dict[str, Any]


class LiberoEnv(gymnasium.Env[Observed, np.ndarray]):
    """One task of LIBERO.

    An observation is a dictionary: ``state`` (Float32[8]: hand position [m], axis-angle [rad], two fingers [m]) and one
    UInt8[size size 3] picture for each camera. The reward is 1 in the step that reaches the goal, which terminates the
    episode, and 0 before; the task's limit of steps truncates it. ``reset(seed=...)`` decides the scene;
    ``reset(options={"init": 3})`` starts from one of the benchmark's initial states instead of sampled places, and
    ``{"widen": 2.0}`` widens the regions that places are sampled from.

    Args:
        suite: a LIBERO suite.
        task: name of one of its tasks.
        config: how it is simulated.
        render_mode: ``"rgb_array"`` for :meth:`render`.

    Raises:
        UnknownName: there is no such suite or task.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": int(RATE_HZ)}  # noqa: RUF012 - Gymnasium's own interface

    def __init__(self, suite: str, task: str, config: Config | None = None, render_mode: str | None = None):
        config = config or Config()
        self.render_mode = render_mode
        self._suite, self._task_name = suite, task
        self._benchmark = config.make()
        self._body, self._task = self._benchmark.open(Row(suite, task, init=-1, seed=0))
        self._steps = 0
        size = (config.camera_size, config.camera_size, 3)
        spaces: dict[str, gymnasium.Space] = {
            name: gymnasium.spaces.Box(0, 255, size, np.uint8) for name in self._body.spec.camera_names
        }
        spaces["state"] = gymnasium.spaces.Box(-np.inf, np.inf, (len(self._body.spec.state),), np.float32)
        self.observation_space = gymnasium.spaces.Dict(spaces)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (RAW_ACTION.size,), np.float32)

    @property
    def instruction(self) -> str:
        """What a policy is told."""
        return self._task.instruction

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observed, dict[str, Any]]:
        """A new scene, settled; without a seed the next one of this environment's own order."""
        super().reset(seed=seed)
        scene = seed if seed is not None else int(self.np_random.integers(2**31))
        row = Row(self._suite, self._task_name, **{"init": -1, **(options or {}), "seed": scene})
        self._body, self._task = self._benchmark.open(row)
        self._task.reset()
        self._steps = 0
        return self._observed(), self._info()

    def step(self, action: Float32[np.ndarray, "7"]) -> tuple[Observed, float, bool, bool, dict[str, Any]]:
        """Act for 50 ms; returns observation, reward, whether the goal is reached, whether time is up, and more."""
        self._body.command(_TO_CANONICAL(np.asarray(action, dtype=np.float32)))
        self._steps += 1
        solved = self._task.succeeded()
        late = not solved and self._steps >= self._task.max_steps
        return self._observed(), float(solved), solved, late, self._info()

    def render(self) -> np.ndarray | None:
        """The first camera's picture, upright."""
        if self.render_mode is None:
            return None
        camera = self._body.spec.cameras[0]
        return self._body.world.render(camera.name, camera.height)

    def close(self) -> None:
        """Give back the simulator and the graphics context."""
        self._benchmark.close()

    def _observed(self) -> Observed:
        observation = self._body.observe()
        return {**observation.images, "state": observation.state}

    def _info(self) -> dict[str, Any]:
        return {"success": self._task.succeeded(), "instruction": self.instruction, "row": self._task.row.to_json()}
