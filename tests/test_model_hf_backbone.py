"""Small models of the two families, made here with random weights and saved as a Hub model would be."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hf_models import batch, config, save_models
from transformers import DynamicCache

from vla.errors import ConfigError
from vla.model.config import HfConfig
from vla.model.hf_backbone import HfBackbone, load_tokenizer
from vla.model.qwen_backbone import QwenBackbone
from vla.model.recompute import recompute
from vla.model.text import Text
from vla.model.vla_model import VlaModel, build


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_models(tmp_path_factory)


@pytest.fixture(params=["smolvlm", "paligemma", "qwen"])
def model(request: pytest.FixtureRequest, folders: dict[str, Path]) -> VlaModel:
    return build(config(folders[request.param]))


def test_gradients_reach_every_part_through_the_cache(model: VlaModel):
    model.loss(batch()).backward()
    backbone = model.backbone
    assert isinstance(backbone, HfBackbone)
    last = backbone.shape.layers - 1
    for name in ("q_proj", "k_proj", "v_proj"):
        layers = [layer.self_attn.get_submodule(name).weight.grad for layer in backbone.decoder.layers]
        used = layers if name != "q_proj" else layers[:last]  # of the last layer only keys and values are looked at
        assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in used)
    for part in (backbone.vision, backbone.connector):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())


def test_it_samples(model: VlaModel):
    actions = model.eval().sample(batch().inputs, 4, torch.Generator().manual_seed(0))
    assert actions.shape == (2, 4, 2) and torch.isfinite(actions).all()


def test_the_words_cache_is_the_models_own(model: VlaModel):
    """Without pictures, the prefix is what the model caches when it reads the same words itself."""
    backbone = model.eval().backbone
    assert isinstance(backbone, HfBackbone)
    inputs = batch().inputs
    prefix = backbone.prefix(replace(inputs, image_mask=torch.zeros_like(inputs.image_mask)))
    cache: Any = DynamicCache()
    mask = None
    if backbone.config.attention == "bidirectional":
        mask = torch.zeros(2, 1, 5, 5)  # additive: everybody sees everybody
    backbone.decoder(input_ids=inputs.tokens, attention_mask=mask, past_key_values=cache, use_cache=True)
    for ours, theirs in zip(prefix.keys, cache.layers, strict=True):
        assert torch.allclose(ours[:, :, -5:], theirs.keys, atol=1e-5)


def test_pictures_enter_as_the_model_sees_them(model: VlaModel):
    backbone = model.eval().backbone
    assert isinstance(backbone, HfBackbone)
    if isinstance(backbone, QwenBackbone):
        pytest.skip("test_model_qwen_backbone.py does this with its own processor")
    images = batch().inputs.images[:, 0]  # pyright: ignore[reportOptionalSubscript]
    pixels = images.permute(0, 3, 1, 2) / 127.5 - 1
    own = backbone.model
    theirs = own.get_image_features(pixels[:, None] if own.config.model_type == "smolvlm" else pixels)
    assert torch.allclose(backbone._see(images), getattr(theirs, "pooler_output", theirs), atol=1e-5)


def test_the_last_layer_stops_at_its_keys_unless_it_is_computed_twice(model: VlaModel):
    backbone: Any = model.train().backbone
    inputs, calls = batch().inputs, []
    backbone.decoder.layers[-1].mlp.register_forward_hook(lambda *_: calls.append(1))
    kept = backbone.prefix(inputs)
    with torch.no_grad():
        sampled = backbone.prefix(inputs)
    assert calls == []
    recompute(backbone.decoder.layers)
    whole = backbone.prefix(inputs)
    assert calls == [1]
    for short in (kept, sampled):
        for name in ("keys", "values"):
            pairs = zip(getattr(whole, name), getattr(short, name), strict=True)
            assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)


def test_a_missing_camera_changes_nothing(model: VlaModel):
    inputs = batch().inputs
    mask = torch.tensor([[True, False]] * 2)
    other = inputs.images.clone()  # pyright: ignore[reportOptionalMemberAccess]
    other[:, 1] = 0
    noise = torch.randn(2, 4, 2)
    with torch.no_grad():
        for parameter in model.get_submodule("head.network.expert").parameters():
            parameter.add_(0.1)
    first, second = (
        model.eval().sample(replace(inputs, image_mask=mask, images=images), 3, noise=noise)
        for images in (inputs.images, other)
    )
    assert torch.allclose(first, second, atol=1e-5)


def test_fewer_layers_and_no_names(folders: dict[str, Path]):
    """A checkpoint builds the network from its stored architecture, without looking anything up."""
    wanted = config(folders["smolvlm"], layers=2)
    model = build(wanted)
    assert model.backbone.shape.layers == 2
    stored = json.loads(json.dumps(model.backbone.architecture()))
    elsewhere = replace(wanted, backbone=replace(wanted.backbone, name="nowhere/nothing"))
    again = build(elsewhere, pretrained=False, architecture=stored)
    again.load_state_dict(model.state_dict())
    noise = torch.randn(2, 4, 2)
    inputs = batch().inputs
    assert torch.equal(again.eval().sample(inputs, 2, noise=noise), model.eval().sample(inputs, 2, noise=noise))


def test_frozen_parts_do_not_learn(folders: dict[str, Path]):
    settings = config(folders["paligemma"])
    frozen = replace(settings, backbone=replace(settings.backbone, freeze_vision=True, freeze_text=True))
    backbone = build(frozen).backbone
    assert isinstance(backbone, HfBackbone)
    for part, learns in ((backbone.vision, False), (backbone.decoder, False), (backbone.connector, True)):
        assert all(parameter.requires_grad == learns for parameter in part.parameters())


def test_weights_come_from_the_folder_or_by_chance(folders: dict[str, Path]):
    first, second = (build(config(folders["smolvlm"]), seed=seed).backbone for seed in (0, 1))
    chance = build(config(folders["smolvlm"], pretrained=False), seed=1).backbone
    names = [name for name, _ in first.named_parameters()]
    assert all(torch.equal(first.get_parameter(name), second.get_parameter(name)) for name in names)
    assert not torch.equal(first.get_parameter(names[0]), chance.get_parameter(names[0]))


def test_its_tokenizer_comes_along(folders: dict[str, Path]):
    tokenizer = load_tokenizer(str(folders["smolvlm"]))
    assert Text(tokenizer, 8).encode(["reach the red square"])[1].all()


def test_a_model_that_is_not_there_is_one_clear_error(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be loaded"):
        HfBackbone(HfConfig(str(tmp_path / "nothing")))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ConfigError, match="bert"):
        HfBackbone(HfConfig(str(tmp_path)))
