"""Episodes of random numbers and pictures, with something in every field that a data set must keep."""

import numpy as np

from vla.embodiment import EmbodimentSpec
from vla.embodiments.libero_panda import libero_panda
from vla.experience import Episode

SPEC = libero_panda(16)


def episode(seed: int, steps: int = 5, spec: EmbodimentSpec = SPEC, **changes) -> Episode:
    """An episode that the seed decides; a change replaces a field."""
    rng = np.random.default_rng(seed)
    fields = {
        "state": rng.normal(size=(steps, len(spec.state))).astype(np.float32),
        "action": rng.normal(size=(steps, spec.action.size)).astype(np.float32),
        "images": {
            camera.name: list(rng.integers(0, 256, (steps, camera.height, camera.width, 3), dtype=np.uint8))
            for camera in spec.cameras
        },
        "time": np.sort(rng.uniform(0, 9, steps)),
        "instruction": f"stelle die Schüssel {seed % 2} weg",
        "success": (True, False, None)[seed % 3],
        "source": f"here[{seed}]",
        "info": {"seed": seed, "nested": {"ok": [1, 2.5]}},
    }
    return Episode(spec=spec, **(fields | changes))
