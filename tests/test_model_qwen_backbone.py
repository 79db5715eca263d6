"""Qwen2.5-VL against its own processor, its own positions and its own forward pass."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hf_models import batch, config, save_models
from transformers import DynamicCache

from vla.errors import ConfigError
from vla.model.qwen_backbone import QwenBackbone
from vla.model.vla_model import VlaModel, build


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_models(tmp_path_factory)["qwen"]


@pytest.fixture(scope="module")
def model(folder: Path) -> VlaModel:
    return build(config(folder)).eval()


def backbone_of(model: VlaModel) -> QwenBackbone:
    assert isinstance(model.backbone, QwenBackbone)
    return model.backbone


def processed(images: torch.Tensor) -> dict[str, torch.Tensor]:
    """What Qwen's own processor makes of pictures of the right size."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    processor: Any = Qwen2VLImageProcessorPil
    settings: dict[str, Any] = {"patch_size": 8, "merge_size": 2, "temporal_patch_size": 2, "do_resize": False}
    return processor(**settings)(images=[image.numpy() for image in images], return_tensors="pt")


def test_pictures_enter_as_its_processor_cuts_them(model: VlaModel):
    images = batch(3).inputs.images
    assert images is not None
    given, backbone = processed(images[:, 0]), backbone_of(model)
    theirs = backbone.model.get_image_features(given["pixel_values"], given["image_grid_thw"]).pooler_output
    torch.testing.assert_close(backbone._see(images[:, 0]), torch.stack(list(theirs)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("present", [(True, True), (True, False), (False, True)])
def test_the_cache_is_its_own_for_its_own_positions(model: VlaModel, present: tuple[bool, bool]):
    """Its positions for a prompt of these pictures and words, and its decoder at them; missing cameras left out."""
    backbone, given = backbone_of(model), batch().inputs
    given = replace(given, image_mask=torch.tensor([present] * 2))
    prefix = backbone.prefix(given)
    assert given.images is not None
    pictures = given.images[:, list(present)]
    count, places = pictures.shape[1], backbone._side**2
    ids = torch.cat([torch.full((2, count * places), 59), given.tokens], 1)
    kinds = (ids == 59).int()
    grid = torch.tensor([[1, 4, 4]] * (2 * count))
    if count == 2:  # its function takes pictures side by side for one: a word between them, left out again afterwards
        ids = torch.cat([ids[:, :places], torch.full((2, 1), 5), ids[:, places:]], 1)
        kinds = (ids == 59).int()
    positions, _ = backbone.model.get_rope_index(ids, kinds, image_grid_thw=grid)
    if count == 2:
        positions[:, :, places:] -= 1
        positions = torch.cat([positions[:, :, :places], positions[:, :, places + 1 :]], 2)
    seen = backbone._see(pictures.flatten(0, 1)).unflatten(0, (2, count)).flatten(1, 2)
    embeddings = torch.cat([seen, backbone.decoder.embed_tokens(given.tokens)], 1)
    cache: Any = DynamicCache()
    backbone.decoder(inputs_embeds=embeddings, position_ids=positions, past_key_values=cache, use_cache=True)
    for ours, theirs in zip(prefix.keys, cache.layers, strict=True):
        torch.testing.assert_close(ours[:, :, prefix.mask[0]], theirs.keys, atol=1e-5, rtol=1e-5)
    assert prefix.lengths.tolist() == (positions.amax((0, 2)) + 1).tolist()


def test_the_expert_goes_on_where_words_would(model: VlaModel):
    """What comes next is turned as one more word would be."""
    backbone, given = backbone_of(model), batch().inputs
    cos, sin = backbone.rotary(backbone.prefix(given).lengths[:, None])
    longer = replace(
        given,
        tokens=torch.nn.functional.pad(given.tokens, (0, 1), value=4),
        token_mask=torch.nn.functional.pad(given.token_mask, (0, 1), value=True),
    )
    last = backbone._positions(longer)[:, :, -1:]
    theirs = backbone.decoder.rotary_emb(cos, position_ids=last)
    torch.testing.assert_close(cos, theirs[0][0])
    torch.testing.assert_close(sin, theirs[1][2])


def test_its_pictures_have_a_size_that_fits(folder: Path):
    with pytest.raises(ConfigError, match="image_size"):
        build(config(folder, image_size=None))
    with pytest.raises(ConfigError, match="multiple of 16"):
        build(config(folder, image_size=40))
