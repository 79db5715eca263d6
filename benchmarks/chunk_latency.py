"""How long does a policy think about one chunk on a CPU, one observation at a time?

Two shapes: the ``nano`` preset with two cameras, and a pi0 of reduced width and depth (random weights, the real ratios
of heads, 2 pictures of 256 places each, 50 actions, 10 Euler steps). Ours as it samples, against the same
network without what is made ahead of the steps, and for pi0 against LeRobot's own ``PI0Policy`` with the same weights,
both in float32 (LeRobot's default) and both in bfloat16 (``--precision bf16`` of our policy, ``dtype`` of theirs).
In turns, one thread a process (OMP_NUM_THREADS); the medians of the rounds, and the median of their ratios, of the
time on the clock and of the processor's, which other work on the machine disturbs less.
"""

import copy
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from vla.model.action_network import ActionNetwork
from vla.model.backbone import Inputs
from vla.model.config import BodyShape, VlaConfig
from vla.model.flow import integrate
from vla.model.flow_sampler import FlowSampler
from vla.model.presets import preset
from vla.model.vla_model import VlaModel, build

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # small policies of LeRobot's classes

ROUNDS, STEPS, SIDE, HORIZON = 7, 10, 224, 50
PALIGEMMA, EXPERT = (512, 2048), (256, 1024)
"""Width and feed-forward width, a quarter of pi0's; 6 of its 18 layers, 8 query heads to 1 of keys and values."""


@torch.inference_mode()
def plainly(model: VlaModel, inputs: Inputs, noise: Tensor) -> Tensor:
    """As the network is trained: nothing made ahead."""
    network = model.get_submodule("head.network")
    assert isinstance(network, ActionNetwork)
    return integrate(network.given(model.backbone, model.prefix(inputs), inputs), noise, STEPS)


def observation(cameras: int, side: int, state: int, words: int) -> Inputs:
    chance = torch.Generator().manual_seed(0)
    return Inputs(
        torch.randint(0, 256, (1, cameras, side, side, 3), dtype=torch.uint8, generator=chance),
        None,
        torch.ones(1, cameras, dtype=torch.bool),
        torch.randint(3, 200, (1, words), generator=chance),
        torch.ones(1, words, dtype=torch.bool),
        torch.randn(1, state, generator=chance),
        torch.zeros(1, dtype=torch.long),
    )


def timed(ways: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Milliseconds of each way, and the ratio of each other to ours."""
    for way in ways.values():
        way()
    found: dict[str, float] = {}
    rounds: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in ways} for kind in ("", "cpu_")}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            begin, busy = time.perf_counter(), time.process_time()
            way()
            rounds[""][name].append(1e3 * (time.perf_counter() - begin))
            rounds["cpu_"][name].append(1e3 * (time.process_time() - busy))
    for kind, each in rounds.items():
        found |= {f"{name}_{kind}ms": round(statistics.median(times), 1) for name, times in each.items()}
        for name in ways:
            own = "ours_bf16" if name.endswith("_bf16") and name != "ours_bf16" else "ours"
            if name != own:
                ratios = [a / b for a, b in zip(each[name], each[own], strict=True)]
                found[f"{name}_over_{own}{'_cpu' if kind else ''}"] = round(statistics.median(ratios), 2)
    return found


def compared(model: VlaModel, inputs: Inputs, noise: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Ours and the plain way, which must agree."""
    ours, plain = model.sample(inputs, STEPS, noise=noise), plainly(model, inputs, noise)
    if not torch.allclose(ours, plain, atol=1e-5 * max(1.0, float(plain.abs().max()))):
        raise SystemExit(f"the two ways differ by {(ours - plain).abs().max():.1e}")
    return {
        "ours": lambda: model.sample(inputs, STEPS, noise=noise),
        "plain": lambda: plainly(model, inputs, noise),
    }


def nano() -> dict[str, float]:
    from dataclasses import replace

    config: VlaConfig = replace(preset("nano"), bodies=(BodyShape("arm", 8, 7),), cameras=("primary", "wrist"))
    model = build(config).eval()
    return timed(compared(model, observation(2, 128, 8, 12), torch.randn(1, config.horizon, 7)))


def pi0(folder: Path) -> dict[str, float]:
    import lerobot_policies as small
    from lerobot.policies.pi0 import modeling_pi0

    from vla.model import lerobot_config
    from vla.model.lerobot import read_lerobot

    def sizes(variant: str) -> Any:
        width, mlp = {"gemma_2b": PALIGEMMA, "gemma_300m": EXPERT}[variant]
        return modeling_pi0.GemmaConfig(
            width=width, depth=6, mlp_dim=mlp, num_heads=8, num_kv_heads=1, head_dim=width // 8 if width > 256 else 64
        )

    tokenizer = small.tokenizer_folder(folder / "tokenizer")
    with ExitStack() as stack:
        stack.enter_context(small.small(tokenizer))
        stack.enter_context(patch.object(modeling_pi0, "get_gemma_config", sizes))
        variants = {PALIGEMMA: "gemma_2b", EXPERT: "gemma_300m"}
        stack.enter_context(patch.object(lerobot_config, "GEMMA_VARIANTS", variants))
        stack.enter_context(patch.object(small, "HORIZON", HORIZON))
        policy = small.make_policy("pi0", folder, image_resolution=(SIDE, SIDE), num_inference_steps=STEPS)
        small.save_policy(policy, folder / "policy")
        model = read_lerobot(folder / "policy", small.ARM, backbone=str(tokenizer)).model
        given = small.example(SIDE, batch=1, words=20, padding=28)
        ways: dict[str, Callable[[], Any]] = dict(compared(model, given.inputs(), given.noise))

        half = small.make_policy("pi0", folder, image_resolution=(SIDE, SIDE), dtype="bfloat16")
        half.load_state_dict(policy.state_dict())
        samplers = [FlowSampler(copy.deepcopy(model), "cpu", kind) for kind in (torch.float32, torch.bfloat16)]
        ways |= {
            "ours": lambda: samplers[0](given.inputs(), given.noise, STEPS),
            "lerobot": lambda: theirs(policy, given),
            "ours_bf16": lambda: samplers[1](given.inputs(), given.noise, STEPS),
            "lerobot_bf16": lambda: theirs(half, given),
        }
        wanted = ways["lerobot"]()
        errors = {f"{name}_error": float(f"{error(ways[name](), wanted):.1e}") for name in ways if name != "lerobot"}
        return timed(ways) | errors


@torch.inference_mode()
def theirs(policy: Any, given: Any) -> Tensor:
    return policy.predict_action_chunk(given.batch(), noise=given.noise)


def error(found: Tensor, wanted: Tensor) -> float:
    """Of all numbers together, relative to LeRobot's in float32."""
    return float((found[..., : wanted.shape[-1]].float() - wanted).norm() / wanted.norm())


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        result = {
            "question": "time for one chunk at batch 1 on a CPU",
            "threads": torch.get_num_threads(),
            "nano": nano(),
            "pi0_reduced": pi0(Path(folder)),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
