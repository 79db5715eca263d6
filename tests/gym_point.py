"""A tiny Gymnasium environment for tests: a point on a line that is to be moved to a place; importing registers it."""

from typing import Any

import gymnasium
import numpy as np


class PointEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 - Gymnasium's own interface

    def __init__(self, goal: float = 0.5, seed: int | None = None, render_mode: str | None = None, ends: bool = True):
        self.goal, self.made_with, self.render_mode, self.ends = goal, seed, render_mode, ends
        self.observation_space = gymnasium.spaces.Dict(
            {
                "pixels": gymnasium.spaces.Dict({"top": gymnasium.spaces.Box(0, 255, (8, 12, 3), np.uint8)}),
                "arm": gymnasium.spaces.Box(-np.inf, np.inf, (4,), np.float64),
            }
        )
        self.action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        if seed is not None:
            super().reset(seed=seed)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed if self.made_with is None else None)
        self.x, self.steps = float(self.np_random.uniform(-0.1, 0.1)), 0
        return self.observed(), {}

    def step(self, action):
        self.steps += 1
        self.x += 0.1 * float(action[0])
        solved = abs(self.x - self.goal) < 0.06
        return self.observed(), float(solved), solved and self.ends, self.steps >= 40, {"is_success": solved}

    def observed(self):
        picture = np.zeros((8, 12, 3), np.uint8)
        picture[:, int(np.clip(6 + 6 * self.x, 0, 11))] = 255
        return {"pixels": {"top": picture}, "arm": np.array([7.0, self.x, 0.0, self.steps])}

    def render(self) -> Any:
        return np.full((6, 6, 3), 9, np.uint8)


gymnasium.register("vla-tests/Point-v0", entry_point="gym_point:PointEnv")
