"""BridgeData V2 as its authors' RLDS release (1.0.0) has it.

The first action of every episode is a no-op: nothing had been commanded yet. The gripper's action is 1 = open,
0 = closed already. The flags ``has_image_*`` of the episodes are not reliable and are not read.
"""

from vla.datasets.oxe.mapping import OxeMapping
from vla.embodiments.bridge_widowx import bridge_widowx

MAPPINGS = (
    OxeMapping(
        names=("bridge_dataset", "bridge_orig"),
        embodiment=bridge_widowx,
        state=("observation/state",),
        action=("action",),
        cameras=tuple((f"image_{index}", f"observation/image_{index}") for index in range(4)),
        instruction="language_instruction",
        drop_first=1,
    ),
)
