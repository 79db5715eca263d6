"""How long does a full-size pi0 think about one chunk on a GPU? One JSON line a stage; the last sums up.

PaliGemma-3B and the 300 M expert with random weights in bfloat16, 2 cameras of 224 pixels, a prompt of 48 places,
50 actions, 10 Euler steps, batch 1. Ours as the product runs it (``vla.model.flow_sampler``), the same without
compiling, the plain network, and LeRobot's ``PI0Policy`` with the same weights, in turns; beside them the roofline:
the chunk's bytes and operations over the card's two ceilings, as measured and as published. Stages that fail say so and
do not stop the others::

    python benchmarks/chunk_latency_gpu.py --stages ceilings,ours,parts,lerobot
"""

import argparse
import json
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vla.model.action_network import ActionNetwork
from vla.model.backbone import Inputs
from vla.model.config import BodyShape, VlaConfig
from vla.model.flow import integrate
from vla.model.flow_sampler import FlowSampler, with_weights_of
from vla.model.lerobot_weights import to_theirs
from vla.model.presets import preset
from vla.model.vla_model import VlaModel, build

PUBLISHED = {"bytes_per_s": 3.35e12, "flops_per_s": 989e12}  # an H100 SXM's, dense bf16
STEPS, PLACES, CAMERAS, WORDS = 10, 256, 2, 48
FULL = {"vision": (1152, 4304, 27, 16, 224), "text": (2048, 16384, 18, 256), "expert": (1024, 4096)}
TINY = {"vision": (64, 96, 2, 16, 28), "text": (64, 96, 3, 16), "expert": (32, 64)}
VOCABULARY = 257152


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stages", default="ceilings,ours,parts,lerobot")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--tiny", action="store_true", help="a small model, to try the script")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--profile", type=Path, help="where the kernels of one chunk are listed")
    options = parser.parse_args()
    torch.manual_seed(0)
    bench = Bench(options)
    for stage in options.stages.split(","):
        begin = time.perf_counter()
        try:
            found = getattr(bench, stage)()
        except Exception as error:  # noqa: BLE001 - the other stages still have something to say
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}"[:300]}
        say(stage, found | {"stage_s": round(time.perf_counter() - begin, 1)})
        bench.result |= found
    say("result", bench.result)


class Bench:
    """One model and what was found about it."""

    def __init__(self, options: argparse.Namespace):
        self.options, self.device = options, options.device
        self.sizes = TINY if options.tiny else FULL
        self.result: dict[str, Any] = {"question": "time for one chunk of pi0 at batch 1", "device": name(self.device)}
        begin = time.perf_counter()
        with torch.device(self.device):
            self.model = build(config(self.sizes), pretrained=False, architecture=architecture(self.sizes)).eval()
            with torch.no_grad():
                for parameter in self.model.parameters():
                    parameter.add_(0.01 * torch.randn_like(parameter))
        self.inputs = observation(self.sizes["vision"][-1], self.device)
        self.noise = torch.randn(1, 50, 32, device=self.device)
        self.wanted = plainly(self.model, self.inputs, self.noise)
        self.sampler: FlowSampler | None = None
        say("build", {"parameters": count(self.model), "s": round(time.perf_counter() - begin, 1)})

    def ceilings(self) -> dict[str, Any]:
        """What the card copies and multiplies."""
        block = torch.randint(0, 255, (1 << (20 if self.options.tiny else 32),), dtype=torch.uint8, device=self.device)
        other = torch.empty_like(block)
        copy = median(lambda: other.copy_(block), 10, self.device)
        side = 256 if self.options.tiny else 8192
        a, b = (torch.randn(side, side, device=self.device, dtype=torch.bfloat16) for _ in range(2))
        product = median(lambda: a @ b, 10, self.device)
        measured = {"bytes_per_s": 2 * len(block) / copy, "flops_per_s": 2 * side**3 / product}
        return {"measured": measured, "roofline": roofline(self.sizes, measured)}

    def plain(self) -> dict[str, Any]:
        """The network as it is trained, in bfloat16, without a graph."""
        with_weights_of(self.model, torch.bfloat16)
        inputs = replace(self.inputs, state=self.inputs.state.bfloat16())
        noise = self.noise.bfloat16()
        found = plainly(self.model, inputs, noise)
        return {
            "plain_ms": 1e3 * median(lambda: plainly(self.model, inputs, noise), 5, self.device),
            "plain_error": error(found, self.wanted),
        }

    def eager(self) -> dict[str, Any]:
        """Ours, recorded without compiling."""
        torch.compiler.set_stance("force_eager")
        sampler = FlowSampler(self.model, self.device)
        ours = lambda: sampler(self.inputs, self.noise, STEPS)  # noqa: E731
        found = {"eager_graph_error": error(ours(), self.wanted)}
        found["eager_graph_ms"] = 1e3 * median(ours, self.options.rounds, self.device)
        torch.compiler.set_stance("default")
        return found

    def ours(self) -> dict[str, Any]:
        """As the product runs it."""
        begin = time.perf_counter()
        self.sampler = FlowSampler(self.model, self.device)
        first = self.chunk()
        ready = time.perf_counter() - begin
        times = measured(self.chunk, self.options.rounds, self.device)
        return {
            "ours_ms": 1e3 * statistics.median(times),
            "ours_ms_worst": 1e3 * max(times),
            "ours_error": error(first, self.wanted),
            "ours_ready_s": round(ready, 1),
        }

    def sdpa(self) -> dict[str, Any]:
        """The expert's attention as torch's own."""
        from functools import partial

        from vla.model import expert_steps

        kept = expert_steps.FusedLayers
        expert_steps.FusedLayers = partial(kept, attention="sdpa")  # pyright: ignore[reportAttributeAccessIssue]
        sampler = FlowSampler(self.model, self.device)
        ours = lambda: sampler(self.inputs, self.noise, STEPS)  # noqa: E731
        found = {"sdpa_error": error(ours(), self.wanted)}
        found["sdpa_ms"] = 1e3 * median(ours, self.options.rounds, self.device)
        expert_steps.FusedLayers = kept
        return found

    def parts(self) -> dict[str, Any]:
        """Prefix and steps by themselves, and the kernels."""
        found: dict[str, Any] = {}
        one = lambda: self.sampler(self.inputs, self.noise, 1)  # noqa: E731  # pyright: ignore[reportOptionalCall]
        one()
        found["one_step_ms"] = 1e3 * median(one, self.options.rounds, self.device)
        found["each_step_ms"] = (self.result["ours_ms"] - found["one_step_ms"]) / (STEPS - 1)
        if self.options.profile is not None:
            from torch.profiler import ProfilerActivity, profile

            kinds = [ProfilerActivity.CUDA] if self.device == "cuda" else [ProfilerActivity.CPU]
            with profile(activities=kinds) as seen:
                self.chunk()
                wait(self.device)
            table = seen.key_averages().table(sort_by="device_time_total", row_limit=60, max_name_column_width=100)
            self.options.profile.write_text(table)
            print("\n".join(line[:110] + line[-105:] for line in table.splitlines()[:40]), file=sys.stderr)
        return found

    def lerobot(self) -> dict[str, Any]:
        """LeRobot's policy in its own bfloat16 with the same weights, ours and theirs in turns."""
        from lerobot.configs import FeatureType, PolicyFeature
        from lerobot.policies.pi0 import modeling_pi0
        from lerobot.policies.pi0.configuration_pi0 import PI0Config

        side = self.sizes["vision"][-1]
        if self.options.tiny:
            shrink(modeling_pi0, self.sizes)
        images = {f"observation.images.c{n}": PolicyFeature(FeatureType.VISUAL, (3, side, side)) for n in range(2)}
        settings = PI0Config(
            device=self.device,
            dtype="bfloat16",
            image_resolution=(side, side),
            num_inference_steps=STEPS,
            input_features=images | {"observation.state": PolicyFeature(FeatureType.STATE, (32,))},
            output_features={"action": PolicyFeature(FeatureType.ACTION, (32,))},
            push_to_hub=False,
        )
        with torch.device(self.device):
            policy: Any = modeling_pi0.PI0Policy(settings).eval()
        theirs = to_theirs("pi0", self.model.config, self.model.state_dict())
        strange = policy.load_state_dict(theirs, strict=False)
        pixels = self.inputs.images.permute(0, 1, 4, 2, 3).float() / 255  # pyright: ignore[reportOptionalMemberAccess]
        batch = {f"observation.images.c{n}": pixels[:, n] for n in range(2)}
        batch |= {"observation.language.tokens": self.inputs.tokens, "observation.state": self.inputs.state}
        batch |= {"observation.language.attention_mask": self.inputs.token_mask}

        def chunk() -> Tensor:
            with torch.inference_mode():
                return policy.predict_action_chunk(batch, noise=self.noise)

        found = {"lerobot_error": error(chunk(), self.wanted)}
        found["lerobot_tensors_apart"] = len(strange.missing_keys) + len(strange.unexpected_keys)
        times: dict[str, list[float]] = {"lerobot": [], "ours": []}
        for _ in range(8):
            times["lerobot"] += measured(chunk, 1, self.device)
            times["ours"] += measured(self.chunk, 1, self.device)
        found |= {f"{who}_in_turns_ms": 1e3 * statistics.median(each) for who, each in times.items()}
        found["lerobot_over_ours"] = found["lerobot_in_turns_ms"] / found["ours_in_turns_ms"]
        return found

    def autotune(self) -> dict[str, Any]:
        """The expert's products chosen by measuring."""
        from functools import cache

        from vla.model import fused_expert

        def tuned(function: Callable[..., Any], device: str) -> Callable[..., Any]:
            return torch.compile(function, dynamic=False, mode="max-autotune-no-cudagraphs")

        kept = fused_expert.fused
        fused_expert.fused = cache(tuned)  # pyright: ignore[reportAttributeAccessIssue]
        sampler = FlowSampler(self.model, self.device)
        begin = time.perf_counter()
        ours = lambda: sampler(self.inputs, self.noise, STEPS)  # noqa: E731
        found: dict[str, Any] = {"autotune_error": error(ours(), self.wanted)}
        found["autotune_ready_s"] = round(time.perf_counter() - begin, 1)
        found["autotune_ms"] = 1e3 * median(ours, self.options.rounds, self.device)
        fused_expert.fused = kept
        return found

    def chunk(self) -> Tensor:
        """Ours, once."""
        assert self.sampler is not None, "the stage 'ours' comes first"
        return self.sampler(self.inputs, self.noise, STEPS)


def roofline(sizes: dict[str, Any], measured: dict[str, float]) -> dict[str, Any]:
    """Bytes that have to be read and operations that have to be done, and the times these take at least."""
    (vw, vm, vl, _, _), (tw, tm, tl, dim), (ew, em) = sizes["vision"], sizes["text"], sizes["expert"]
    heads, patches = 8, PLACES * CAMERAS
    places = patches + WORDS
    vision = vl * (4 * vw * vw + 2 * vw * vm) + 588 * vw + vw * tw
    qkv, out = tw * (heads + 2) * dim, heads * dim * tw
    text = (tl - 1) * (qkv + out + 3 * tw * tm) + 2 * tw * dim
    expert = tl * (ew * (heads + 2) * dim + heads * dim * ew + 3 * ew * em) + 2 * 32 * ew + 2 * ew * ew
    cache = tl * 2 * (places + 51) * dim
    attention = 4 * (vl * CAMERAS * PLACES**2 * vw + (tl - 1) * places**2 * heads * dim)
    attention += 4 * STEPS * tl * 51 * (places + 51) * heads * dim
    flops = 2 * (vision * patches + text * places + expert * 51 * STEPS) + attention
    moved = 2 * (vision + text + (expert + cache) * STEPS)
    times = {
        f"{name}_ms": {"bytes": 1e3 * moved / peak["bytes_per_s"], "flops": 1e3 * flops / peak["flops_per_s"]}
        for name, peak in (("published", PUBLISHED), ("measured", measured))
    }
    # the prefix is bound by its operations, the steps by their bytes: no version does both at once
    first = 1e3 * (2 * (vision * patches + text * places)) / measured["flops_per_s"]
    second = 1e3 * 2 * (expert + cache) * STEPS / measured["bytes_per_s"]
    return {"gigabytes": moved / 1e9, "teraflops": flops / 1e12, **times, "prefix_then_steps_ms": first + second}


@torch.inference_mode()
def plainly(model: VlaModel, inputs: Inputs, noise: Tensor) -> Tensor:
    """As the network is trained: nothing made ahead."""
    network = model.get_submodule("head.network")
    assert isinstance(network, ActionNetwork)
    return integrate(network.given(model.backbone, model.prefix(inputs), inputs), noise, STEPS)


def config(sizes: dict[str, Any]) -> VlaConfig:
    base = preset("pi0")
    expert = replace(base.expert, width=sizes["expert"][0], mlp=sizes["expert"][1])
    return replace(base, expert=expert, bodies=(BodyShape("arm", 32, 32),), cameras=("primary", "wrist"))


def architecture(sizes: dict[str, Any]) -> dict[str, Any]:
    (vw, vm, vl, vh, side), (tw, tm, tl, dim) = sizes["vision"], sizes["text"]
    vision = {"model_type": "siglip_vision_model", "hidden_size": vw, "intermediate_size": vm, "patch_size": 14}
    vision |= {"num_hidden_layers": vl, "num_attention_heads": vh, "image_size": side, "projection_dim": tw}
    text = {"model_type": "gemma", "hidden_size": tw, "intermediate_size": tm, "num_hidden_layers": tl}
    text |= {"num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": dim, "vocab_size": VOCABULARY}
    own = {"projection_dim": tw, "hidden_size": tw, "image_token_index": VOCABULARY - 1}
    more = {"vision_use_head": False}, {"hidden_activation": "gelu_pytorch_tanh"}
    return {"model_type": "paligemma", "vision_config": vision | more[0], "text_config": text | more[1], **own}


def shrink(module: Any, sizes: dict[str, Any]) -> None:
    """LeRobot's classes make the small model."""
    (vw, vm, vl, vh, _), (tw, tm, tl, dim), (ew, em) = sizes["vision"], sizes["text"], sizes["expert"]
    real = module.PaliGemmaForConditionalGenerationWithPiGemma

    def paligemma(config: Any) -> Any:
        vision = config.vision_config
        vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers = vw, vm, vl
        vision.num_attention_heads, vision.projection_dim = vh, tw
        return real(config)

    def gemma(variant: str) -> Any:
        width, mlp = {"gemma_2b": (tw, tm), "gemma_300m": (ew, em)}[variant]
        return module.GemmaConfig(width=width, depth=tl, mlp_dim=mlp, num_heads=8, num_kv_heads=1, head_dim=dim)

    module.PaliGemmaForConditionalGenerationWithPiGemma, module.get_gemma_config = paligemma, gemma


def observation(side: int, device: str) -> Inputs:
    chance = torch.Generator().manual_seed(0)
    inputs = Inputs(
        torch.randint(0, 256, (1, CAMERAS, side, side, 3), dtype=torch.uint8, generator=chance),
        None,
        torch.ones(1, CAMERAS, dtype=torch.bool),
        torch.randint(3, 200_000, (1, WORDS), generator=chance),
        torch.ones(1, WORDS, dtype=torch.bool),
        torch.randn(1, 32, generator=chance),
        torch.zeros(1, dtype=torch.long),
    )
    return inputs.to(device)


def error(found: Tensor, wanted: Tensor) -> float:
    """Of all numbers together, relative to what float32 gives."""
    return float((found.float() - wanted).norm() / wanted.norm())


def median(way: Callable[[], Any], rounds: int, device: str) -> float:
    return statistics.median(measured(way, rounds, device))


def measured(way: Callable[[], Any], rounds: int, device: str) -> list[float]:
    """Seconds of each call, the device's work included; one more warms up."""
    times = []
    for turn in range(rounds + 1):
        wait(device)
        begin = time.perf_counter()
        way()
        wait(device)
        times += [time.perf_counter() - begin] if turn else []
    return times


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


def count(model: VlaModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def say(stage: str, found: dict[str, Any]) -> None:
    print(json.dumps({"stage": stage, **rounded(found)}), flush=True)


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
