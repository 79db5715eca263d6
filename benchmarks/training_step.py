"""How fast is a training step? Examples a second of our pi0 and of LeRobot's, same weights, in turns; one JSON line.

pi0 with its own ratios (one head of keys and values, the expert half as wide as the backbone, every layer joint),
reduced in width and depth so that two CPU cores can train it; all weights trained, float32. A step is what each
project's trainer does: loss, backward, clipping at 1, AdamW; ours also averages the weights, theirs does not::

    OMP_NUM_THREADS=2 python benchmarks/training_step.py --rounds 5 --steps 3

``--precision bf16`` runs both forward passes under autocast, as both trainers do it; ``--wide`` takes pi0's own widths,
for a GPU (``--device cuda``), where the clock on the wall is read instead of the CPU's.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from vla.embodiments.libero_panda import libero_panda
from vla.model.backbone import Inputs
from vla.model.batch import Batch
from vla.model.checkpoint import trainable
from vla.model.lerobot import read_lerobot
from vla.model.text import word_tokenizer
from vla.training.config import TrainConfig
from vla.training.optimizer import average, make_optimizer, set_rate
from vla.training.spread import LossOf, autocast

SIDE, WORDS, PATCH = 112, 24, 14
SIZES = {"gemma_2b": (512, 2048), "gemma_300m": (256, 1024)}  # width and hidden units of backbone and expert
WIDE = {"gemma_2b": (2048, 16384), "gemma_300m": (1024, 4096)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="of each in a round")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the forward pass of ours")
    parser.add_argument("--their-precision", choices=("fp32", "bf16"), help="of LeRobot's; the same if not given")
    parser.add_argument("--wide", action="store_true")
    options = parser.parse_args()
    device, cuda = torch.device(options.device), options.device == "cuda"
    if options.wide:
        SIZES.update(WIDE)
    clock = time.perf_counter if cuda else time.process_time
    with tempfile.TemporaryDirectory() as name, reduced(Path(name), options.depth, wide=options.wide):
        policy, model = pair(Path(name))
        seen, actions = inputs(options.batch).to(device), torch.randn(options.batch, 50, 7).to(device)
        ours, theirs = (
            autocast(device, options.precision),
            autocast(device, options.their_precision or options.precision),
        )
        contestants = {
            "ours": our_step(model.to(device), seen, actions, ours),
            "lerobot": their_step(policy.to(device), seen, actions, theirs),
        }
        losses = {name: step() for name, step in contestants.items()}  # also warms up
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(options.rounds):
            for name, step in contestants.items():
                begin = clock()
                for _ in range(options.steps):
                    step()
                seconds[name].append((clock() - begin) / options.steps)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(
        json.dumps(
            {
                "benchmark": "training_step",
                "examples_per_second" if cuda else "examples_per_cpu_second": {
                    name: round(options.batch / value, 3) for name, value in medians.items()
                },
                "ratio": round(medians["lerobot"] / medians["ours"], 3),
                "ratio_per_round": [
                    round(theirs / ours, 3) for ours, theirs in zip(seconds["ours"], seconds["lerobot"], strict=True)
                ],
                "parameters": sum(value.numel() for value in model.parameters()),
                "first_loss": {name: round(value, 4) for name, value in losses.items()},  # with noise of their own
                "batch": options.batch,
                "precision": [options.precision, options.their_precision or options.precision],
                "device": torch.cuda.get_device_name() if cuda else "cpu",
                "threads": torch.get_num_threads(),
            }
        )
    )


def our_step(model: Any, seen: Inputs, actions: Tensor, precision: torch.autocast) -> Callable[[], float]:
    model.train()
    config = TrainConfig(steps=1)
    loss_of, optimizer, parameters = LossOf(model), make_optimizer(model, config), trainable(model)
    ema = {name: value.detach().clone() for name, value in parameters.items()}
    padded = nn.functional.pad(actions, (0, model.config.action_size - actions.shape[-1]))
    batch = Batch(seen, padded, torch.ones(actions.shape[:2], dtype=torch.bool, device=actions.device))
    set_rate(optimizer, 1e-5)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        with precision:
            loss = loss_of(batch, None)["loss"]
        loss.backward()
        nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step()
        average(ema, parameters, 0.999, 1000)
        return loss.item()

    return step


def their_step(policy: Any, seen: Inputs, actions: Tensor, precision: torch.autocast) -> Callable[[], float]:
    policy.train()
    optimizer = torch.optim.AdamW(policy.get_optim_params(), lr=1e-5, betas=(0.9, 0.95), weight_decay=0.01)
    assert seen.images is not None
    pixels = seen.images.permute(0, 1, 4, 2, 3).float() / 255
    batch = {
        "observation.images.agentview": pixels[:, 0],
        "observation.images.robot0_eye_in_hand": pixels[:, 1],
        "observation.language.tokens": seen.tokens,
        "observation.language.attention_mask": seen.token_mask,
        "observation.state": seen.state[:, :8],
        "action": actions,
    }

    def step() -> float:
        with precision:
            loss, _ = policy.forward(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def inputs(batch: int) -> Inputs:
    """Two cameras and a prompt; the state padded to pi0's 32."""
    return Inputs(
        torch.randint(0, 256, (batch, 2, SIDE, SIDE, 3), dtype=torch.uint8),
        None,
        torch.ones(batch, 2, dtype=torch.bool),
        torch.randint(3, 300, (batch, WORDS)),
        torch.ones(batch, WORDS, dtype=torch.bool),
        nn.functional.pad(torch.randn(batch, 8), (0, 24)),
        torch.zeros(batch, dtype=torch.int64),
    )


def pair(folder: Path) -> tuple[Any, Any]:
    """LeRobot's policy with random weights, and our model with the same."""
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors

    spec = libero_panda(SIDE)
    images = {
        f"observation.images.{camera.name}": PolicyFeature(FeatureType.VISUAL, (3, SIDE, SIDE))
        for camera in spec.cameras
    }
    config = make_policy_config(
        "pi0",
        device="cpu",
        image_resolution=(SIDE, SIDE),
        chunk_size=50,
        n_action_steps=50,
        input_features=images | {"observation.state": PolicyFeature(FeatureType.STATE, (8,))},
        output_features={"action": PolicyFeature(FeatureType.ACTION, (7,))},
        push_to_hub=False,
    )
    torch.manual_seed(0)
    policy: Any = get_policy_class("pi0")(config)
    policy.save_pretrained(folder / "pi0")
    numbers = {"mean": 0.0, "std": 1.0, "min": -1.0, "max": 1.0, "q01": -1.0, "q99": 1.0}
    measured = {
        name: {key: torch.full((size,), value) for key, value in numbers.items()} | {"count": torch.tensor([50])}
        for name, size in (("observation.state", 8), ("action", 7))
    }
    for pipeline in make_pre_post_processors(policy.config, dataset_stats=measured):
        pipeline.save_pretrained(folder / "pi0")
    return policy, read_lerobot(folder / "pi0", spec, backbone=str(folder / "tokenizer")).model


def reduced(folder: Path, depth: int, *, wide: bool = False) -> ExitStack:
    """LeRobot's classes make smaller models, and look nothing up by name."""
    from lerobot.policies.pi0 import modeling_pi0 as pi0
    from lerobot.processor import tokenizer_processor

    from vla.model import lerobot_config

    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "tokenizer.json").write_text(word_tokenizer(["a b c"], 100).to_str())
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>"}
    (tokenizer / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **names})
    )

    def paligemma(make: Any, config: Any) -> Any:
        vision, text = config.vision_config, config.text_config
        if not wide:
            vision.hidden_size, vision.intermediate_size, vision.num_attention_heads = 288, 1152, 4
        vision.num_hidden_layers, vision.image_size, vision.patch_size = depth, SIDE, PATCH
        vision.projection_dim, text.vocab_size, config.image_token_index = text.hidden_size, 1000, 999
        return make(config)

    def gemma(make: Any, config: Any) -> Any:
        config.vocab_size = 1000
        return make(config)

    def sizes(variant: str) -> Any:
        width, mlp = SIZES[variant]
        return pi0.GemmaConfig(
            width=width, depth=depth, mlp_dim=mlp, num_heads=8, num_kv_heads=1, head_dim=256 if wide else 64
        )

    stack, read = ExitStack(), tokenizer_processor.AutoTokenizer.from_pretrained
    makers = {"PaliGemmaForConditionalGenerationWithPiGemma": paligemma, "PiGemmaForCausalLM": gemma}
    for name, make in makers.items():
        real = getattr(pi0, name)
        stack.enter_context(patch.object(pi0, name, lambda config, make=make, real=real: make(real, config)))
    auto = SimpleNamespace(from_pretrained=lambda name: read(str(tokenizer)))
    stack.enter_context(patch.object(pi0, "get_gemma_config", sizes))
    stack.enter_context(patch.object(tokenizer_processor, "AutoTokenizer", auto))
    variants = {size: name for name, size in SIZES.items()}
    stack.enter_context(patch.object(lerobot_config, "GEMMA_VARIANTS", variants))
    return stack


if __name__ == "__main__":
    main()
