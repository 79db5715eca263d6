"""Small Hugging Face models with random weights, saved as a Hub model would be; a config and a batch for them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, PaliGemmaConfig, Qwen2_5_VLConfig, SmolVLMConfig

from vla.model.backbone import Inputs
from vla.model.batch import Batch
from vla.model.config import BodyShape, ExpertConfig, HfConfig, VlaConfig
from vla.model.text import word_tokenizer

MAKE: dict[str, Any] = {  # make their fields at run time
    "smolvlm": SmolVLMConfig,
    "paligemma": PaliGemmaConfig,
    "qwen": Qwen2_5_VLConfig,
}
VISION = dict(
    hidden_size=24, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=8
)
DECODER = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=1)


def save_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each family."""
    configs = {
        "smolvlm": MAKE["smolvlm"](
            vision_config=VISION,
            text_config={
                **DECODER,
                "model_type": "llama",
                "num_key_value_heads": 2,
                "vocab_size": 60,
                "pad_token_id": 0,
            },
            scale_factor=2,
            image_token_id=59,
            pad_token_id=0,
        ),
        "paligemma": MAKE["paligemma"](
            vision_config={
                **VISION,
                "model_type": "siglip_vision_model",
                "vision_use_head": False,
                "projection_dim": 32,
            },
            text_config={**DECODER, "model_type": "gemma", "head_dim": 16, "vocab_size": 60},
            projection_dim=32,
            hidden_size=32,
            image_token_index=59,
        ),
    }
    configs["qwen"] = MAKE["qwen"](
        vision_config={"hidden_size": 24, "intermediate_size": 32, "depth": 2, "num_heads": 2, "patch_size": 8}
        | {"spatial_merge_size": 2, "window_size": 32, "fullatt_block_indexes": [1], "out_hidden_size": 32},
        text_config={**DECODER, "vocab_size": 60, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}
        | {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
        image_token_id=59,
        video_token_id=58,
        vision_start_token_id=57,
        vision_end_token_id=56,
    )
    configs["qwen"].text_config.rope_parameters["mrope_section"] = [1, 1, 2]
    found = {}
    for name, config in configs.items():
        torch.manual_seed(0)
        found[name] = tmp_path_factory.mktemp(name)
        AutoModel.from_config(config).save_pretrained(found[name])
        (found[name] / "tokenizer.json").write_text(word_tokenizer(["reach the red square"], 50).to_str())
    return found


def config(folder: Path, **settings: object) -> VlaConfig:
    attention = "bidirectional" if folder.name.startswith("paligemma") else "causal"
    if folder.name.startswith("qwen"):
        settings = {"image_size": 32, **settings}
    backbone = HfConfig(str(folder), attention=attention, freeze_vision=False, **settings)  # pyright: ignore[reportArgumentType]
    return VlaConfig(
        backbone,
        ExpertConfig(width=16, mlp=32),
        horizon=4,
        bodies=(BodyShape("arm", 3, 2),),
        cameras=("primary", "wrist"),
    )


def batch(size: int = 2) -> Batch:
    chance = torch.Generator().manual_seed(0)
    inputs = Inputs(
        torch.randint(0, 256, (size, 2, 32, 32, 3), dtype=torch.uint8, generator=chance),
        None,
        torch.ones(size, 2, dtype=torch.bool),
        torch.randint(3, 7, (size, 5), generator=chance),
        torch.ones(size, 5, dtype=torch.bool),
        torch.randn(size, 3, generator=chance),
        torch.zeros(size, dtype=torch.long),
    )
    return Batch(inputs, torch.randn(size, 4, 2, generator=chance), torch.ones(size, 4, dtype=torch.bool))
