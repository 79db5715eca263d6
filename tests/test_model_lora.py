"""Low-rank updates and recomputed activations change what is learnt or kept, never what is computed."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hf_models import batch, config, save_models

from vla.errors import ConfigError
from vla.model.checkpoint import trainable
from vla.model.config import HfConfig, LoraConfig, VlaConfig
from vla.model.fast import FastCodec
from vla.model.head_config import FastConfig
from vla.model.hf_backbone import HfBackbone
from vla.model.lora import adapted, merged
from vla.model.presets import preset, with_head, with_learning
from vla.model.vla_model import VlaModel, build

LORA = LoraConfig(rank=3, scale=6.0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_models(tmp_path_factory)


def with_lora(settings: VlaConfig, lora: LoraConfig = LORA) -> VlaConfig:
    assert isinstance(settings.backbone, HfConfig)
    return replace(settings, backbone=replace(settings.backbone, lora=lora, freeze_connector=True, freeze_vision=True))


def moved(model: VlaModel) -> VlaModel:
    """Weights that learn somewhere else than where they start: updates start with a product of zero."""
    chance = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in trainable(model).values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=chance))
    return model.eval()


def sampled(model: VlaModel) -> torch.Tensor:
    return model.eval().sample(batch().inputs, 3, noise=torch.ones(2, 4, 2))


@pytest.mark.parametrize("name", ["smolvlm", "paligemma"])
def test_only_the_updates_and_the_head_learn(name: str, folders: dict[str, Path]):
    model = build(with_lora(config(folders[name])))
    learning = [name for name in trainable(model) if not name.startswith("head.")]
    assert learning and all(".lora_" in name for name in learning)
    assert isinstance(model.backbone, HfBackbone)
    assert len(learning) == 2 * len(LORA.targets) * model.backbone.shape.layers
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(trainable(model).values(), lr=1.0)
    for _ in range(2):  # at first B is zero and A has no gradient
        model.loss(batch(), generator=torch.Generator().manual_seed(0)).backward()
        optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed <= set(trainable(model))
    last = f"layers.{model.backbone.shape.layers - 1}."  # of the last layer only keys and values are looked at
    assert {name for name in learning if last not in name or "k_proj" in name or "v_proj" in name} <= changed


def test_merged_equals_unmerged(folders: dict[str, Path]):
    model = moved(build(with_lora(config(folders["smolvlm"]))))
    whole = merged(model)
    assert isinstance(whole.config.backbone, HfConfig) and whole.config.backbone.lora is None
    assert not any("lora" in name for name in whole.state_dict())
    torch.testing.assert_close(sampled(whole), sampled(model), atol=1e-5, rtol=1e-5)
    plain = build(config(folders["smolvlm"]))
    plain.load_state_dict({name: model.state_dict().get(name, value) for name, value in plain.state_dict().items()})
    assert not torch.allclose(sampled(plain), sampled(model), atol=1e-3)  # the updates did something


def test_updates_are_added_to_a_model_that_is_there(folders: dict[str, Path]):
    model = moved(build(config(folders["paligemma"])))
    new = adapted(model, LORA)
    assert torch.equal(sampled(new), sampled(model))
    again = merged(new)
    assert all(map(torch.equal, again.state_dict().values(), model.state_dict().values()))


def test_fitted_words_stay_with_the_model(folders: dict[str, Path]):
    settings = with_head(config(folders["smolvlm"]), "insulated")
    model = build(replace(settings, backbone_loss=FastConfig(vocabulary=40, scale=5.0)))
    assert model.fast is not None
    model.fast.codec = FastCodec.fit([batch().actions[0].numpy()], horizon=4, scale=5.0, vocabulary=40)
    for new in (adapted(model, LORA), merged(adapted(model, LORA))):
        assert new.fast is not None and new.fast.fitted is model.fast.codec


def test_the_network_is_built_again_from_its_config(folders: dict[str, Path]):
    """As a checkpoint does: config to JSON and back, then the weights by name."""
    model = moved(build(with_lora(config(folders["smolvlm"], layers=2))))
    settings = VlaConfig.from_json(model.config.to_json())
    assert settings == model.config
    again = build(settings, pretrained=False, architecture=model.backbone.architecture(), seed=9)
    again.load_state_dict(model.state_dict())
    assert torch.equal(sampled(again), sampled(model))


def test_what_cannot_be_done_is_said(folders: dict[str, Path]):
    settings = config(folders["smolvlm"])
    with pytest.raises(ConfigError, match="elbow"):
        build(with_lora(settings, LoraConfig(targets=("elbow",))))
    with pytest.raises(ConfigError, match="no low-rank"):
        merged(build(settings))
    with pytest.raises(ConfigError, match="already"):
        adapted(build(with_lora(settings)), LORA)


@pytest.mark.parametrize("name", ["smolvlm", "paligemma"])
def test_recomputed_activations_give_the_same_gradients(name: str, folders: dict[str, Path]):
    losses, gradients, kept = [], [], []
    for again in (False, True):
        model = build(replace(config(folders[name]), recompute=again)).train()
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, sizes=sizes: (sizes.append(x.numel()), x)[1], lambda x: x
        ):
            loss = model.loss(batch(), generator=torch.Generator().manual_seed(0))
        loss.backward()
        losses.append(loss.detach())
        gradients.append({name: value.grad for name, value in model.named_parameters()})
        kept.append(sum(sizes))
    assert torch.equal(*losses) and kept[1] < kept[0] / 2
    for key, one in gradients[0].items():
        two = gradients[1][key]
        assert (one is None) == (two is None), key
        if one is not None and two is not None:
            torch.testing.assert_close(two, one, atol=1e-6, rtol=1e-5)


def test_which_parts_learn_is_chosen_by_name():
    chosen = with_learning(preset("pi0"), lora=8, freeze=["vision", "text"]).backbone
    assert isinstance(chosen, HfConfig)
    assert chosen.freeze_vision and not chosen.freeze_connector
    assert chosen.lora == LoraConfig(rank=8, scale=8.0)
    assert with_learning(preset("pi0")) == preset("pi0")
    nothing_frozen = with_learning(preset("smolvlm-256m"), freeze=[]).backbone
    assert isinstance(nothing_frozen, HfConfig) and not nothing_frozen.freeze_vision
    with pytest.raises(ConfigError, match="no wrist; those to choose from are vision, connector, text"):
        with_learning(preset("pi0"), freeze=["wrist"])
    with pytest.raises(ConfigError, match="'nano' has no vision; it has no part"):
        with_learning(preset("nano"), freeze=["vision"])
    with pytest.raises(ConfigError, match="no pretrained decoder"):
        with_learning(preset("nano"), lora=8)
