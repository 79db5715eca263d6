"""How a LIBERO evaluation is made, as data: ours, and those of the public evaluators whose numbers are compared.

Published numbers differ by what stands here. Every result carries the protocol it was made under; facts were read in
the sources named, at the commit or version named.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from vla.errors import UnknownName

SUITES: tuple[str, ...] = ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90")
SeedRule = Literal["counting", "fixed", "rows"]


@dataclass(frozen=True)
class Protocol:
    """Everything but policy, rows and simulator versions that decides a LIBERO result.

    Attributes:
        name: e.g. ``"ours"``.
        settle_steps: control steps after a scene is set, before the policy.
        settle_gripper: last number of the settling action, raw: -1 opens; the other six are 0.
        max_steps: control steps of an episode for each of ``SUITES``, settling not counted.
        other_steps: limit of any other suite; 0 for that of the suite its name begins with.
        camera_size: height and width that pictures are rendered at [pixels]; 0 for the policy's own, so that none is
            resized.
        camera_turn: degrees by which robosuite's raw pictures are turned before the policy sees them.
        execute: actions of each chunk executed before the policy looks again; 0 for all of them.
        init_rule: which initial state an episode starts from.
        seed: of the first episode.
        seed_rule: ``counting``: episode i has ``seed`` + i; ``fixed``: all have ``seed``;
            ``rows``: each row of a given file has its own.
        source: where this was read.
        apart: what of that evaluator is not reproduced.
    """

    name: str
    max_steps: tuple[int, int, int, int, int] = (220, 280, 300, 520, 400)
    other_steps: int = 0
    settle_steps: int = 10
    settle_gripper: float = -1.0
    camera_size: int = 256
    camera_turn: int = 180
    execute: int = 8
    init_rule: str = "episode i of a task starts from its initial state i"
    seed: int = 0
    seed_rule: SeedRule = "counting"
    source: str = ""
    apart: tuple[str, ...] = ()

    def limit(self, suite: str) -> int:
        """Control steps that an episode of the suite may take.

        ``libero_spatial_swap`` has libero_spatial's limit unless the evaluator has one for all it does not know; 400
        where nobody has set a number.
        """
        limits: dict[str, int] = dict(zip(SUITES, self.max_steps, strict=True))
        if suite in limits:
            return limits[suite]
        if self.other_steps:
            return self.other_steps
        return limits.get(split_suite(suite)[0], 400)

    def to_json(self) -> dict[str, Any]:
        """What decides a result, as a JSON value: the fields without ``source`` and ``apart``."""
        facts = asdict(self) | {"max_steps": dict(zip(SUITES, self.max_steps, strict=True))}
        return {key: value for key, value in facts.items() if key not in ("source", "apart")}


_FIXTURES = (
    "it seeds an environment once, so that fixtures (cabinet, stove) stand elsewhere after each reset; here a row's "
    "seed alone decides them, whatever ran before"
)
_PICTURES = "how pictures are resized and cropped on the way into a network: that belongs to the policy"
_ERRORS = "it counts an episode that raises as a failure; here it is an error, in a column of its own"

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="ours",
            camera_size=0,
            source="LIBERO's usual limits and ten settling steps, as openpi and OpenVLA-OFT have them; a row's scene "
            "depends on nothing that ran before, and pictures are rendered at the policy's size, so that no resizing "
            "comes in between",
        ),
        Protocol(
            name="openpi",
            execute=5,
            seed=7,
            seed_rule="fixed",
            source="Physical-Intelligence/openpi examples/libero/main.py at 04a8d0c",
            apart=(
                f"{_PICTURES} (there: 256 pixels resized with padding to 224)",
                _FIXTURES,
                _ERRORS,
            ),
        ),
        Protocol(
            name="openvla",
            execute=1,
            seed_rule="fixed",
            source="openvla/openvla experiments/robot/libero at c8f03f4: env.seed(0); seed 7 is that of its networks",
            apart=(
                f"{_PICTURES} (there: JPEG-coded, Lanczos to 224, for checkpoints trained with crops a centre crop of "
                "90 % of the area)",
                "agentview is its only camera",
                "the gripper's number is made -1 or 1 before it is sent: that belongs to the policy",
                _FIXTURES,
                _ERRORS,
            ),
        ),
        Protocol(
            name="openvla-oft",
            execute=8,
            seed_rule="fixed",
            source="moojink/openvla-oft experiments/robot/libero at 213c5ff: env.seed(0); seed 7 is that of its "
            "networks",
            apart=(
                f"{_PICTURES} (there: Lanczos to 224, centre crop of 90 % of the area)",
                _FIXTURES,
                _ERRORS,
            ),
        ),
        Protocol(
            name="lerobot",
            max_steps=(280, 280, 300, 520, 400),
            other_steps=500,
            camera_size=360,
            execute=0,
            seed=1000,
            source="lerobot 0.6.1: envs/libero.py, envs/configs.py (360 pixels), configs/eval.py (seed 1000, then "
            "counting); execute is n_action_steps of its policies, the whole chunk unless their configuration says "
            "less",
            apart=(_PICTURES,),
        ),
    )
}


def find_protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        UnknownName: there is none.
    """
    if name not in PROTOCOLS:
        raise UnknownName("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def split_suite(suite: str) -> tuple[str, str]:
    """A suite's LIBERO suite and what was perturbed in it: ``libero_goal_swap`` is ``("libero_goal", "swap")``.

    The perturbation is empty for LIBERO's own suites and for names that begin like none of them.
    """
    for known in SUITES:
        if suite == known:
            return suite, ""
        if suite.startswith(f"{known}_"):
            return known, suite.removeprefix(f"{known}_")
    return suite, ""
