"""Image-text pairs: read from the layouts that public sets have, the backbone's own loss, mixed in by a share."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from test_training_mixture import TRAIN, Two, tiny_vlm  # noqa: F401  (a fixture)
from transformers import AutoModelForImageTextToText

from vla.errors import ConfigError, DataError
from vla.model.answers import answer_loss
from vla.model.config import ExpertConfig, HfConfig, NanoConfig, VlaConfig, fit_to
from vla.model.encode import Encoder
from vla.model.text import Text, word_tokenizer
from vla.model.vla_model import VlaModel, build
from vla.training.journal import read_metrics
from vla.training.loop import train
from vla.training.pairs import CAPTION, PairLoader, Pairs
from vla.training.shard import Shard, extra_shard


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hugging face")


def picture(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


COUNT = 7
ANSWERS = [["red", "blue", "Reach the square."][number % 3] for number in range(COUNT)]


def write(path: Path, **columns: Any) -> Path:
    if not columns:
        images = [{"bytes": picture(number), "path": None} for number in range(COUNT)]
        columns = {"image": images, "question": ["Reach the red"] * COUNT, "answer": ANSWERS}
    pq.write_table(pa.table(columns), path)
    return path


def test_the_layouts_of_public_sets(tmp_path: Path):
    data = [picture(number) for number in range(2)]
    plain = Pairs([write(tmp_path / "a.parquet", images=[[each] for each in data], caption=["one", "two"])])
    assert (plain[1].question, plain[1].answer) == (CAPTION, "two")
    np.testing.assert_array_equal(plain[1].image, np.asarray(Image.open(io.BytesIO(data[1]))))
    nested = [[{"answer": "yes", "answer_id": 1}, {"answer": "no", "answer_id": 2}]] * 2
    images = [{"bytes": each, "path": "x.png"} for each in data]
    vqa = Pairs([write(tmp_path / "b.parquet", image=images, question=["Is it?", "Or not?"], answers=nested)])
    assert (vqa[1].question, vqa[1].answer) == ("Or not?", "yes")
    (tmp_path / "set").mkdir()
    for part in ("0", "1"):
        write(tmp_path / "set" / f"{part}.parquet")
    both = Pairs([tmp_path / "set"])
    assert len(both) == 2 * COUNT and both.content != plain.content


def test_what_cannot_be_used_is_named(tmp_path: Path):
    image = {"bytes": picture(0), "path": None}
    with pytest.raises(DataError, match="columns: expected one of answer"):
        Pairs([write(tmp_path / "a.parquet", image=[image], label=[3])])
    with pytest.raises(DataError, match="Parquet file"):
        Pairs([tmp_path / "nothing.parquet"])
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="readable"):
        Pairs([tmp_path / "broken.parquet"])
    bad = Pairs([write(tmp_path / "b.parquet", image=[{"bytes": b"no picture", "path": None}], answer=["x"])])
    with pytest.raises(DataError, match="row 0: picture"):
        bad[0]
    empty = Pairs([write(tmp_path / "c.parquet", image=[image], answer=[" "])])
    with pytest.raises(DataError, match="row 0: answer"):
        empty[0]


def model_and_loader(config: HfConfig | NanoConfig, pairs: Pairs, shard: Shard) -> tuple[VlaModel, PairLoader]:
    source = Two()
    model = build(fit_to(VlaConfig(config, ExpertConfig(width=16, mlp=32), horizon=8), source.specs))
    tokenizer = word_tokenizer(["Reach the red square.", "blue"], 50)
    encoder = Encoder(model.config, source.specs, source.statistics(), Text(tokenizer, 48), model.backbone.image_size)
    return model, PairLoader(pairs, model, encoder, 3, shard)


def test_the_loss_is_that_of_the_model_it_comes_from(tiny_vlm: HfConfig, tmp_path: Path):  # noqa: F811
    model, loader = model_and_loader(tiny_vlm, Pairs([write(tmp_path / "a.parquet")]), Shard(4))
    answers = next(loader.batches(0))
    inputs = answers.inputs
    theirs: Any = AutoModelForImageTextToText.from_pretrained(tiny_vlm.name, attn_implementation="eager")
    theirs.lm_head.weight = theirs.model.text_model.embed_tokens.weight
    assert inputs.images is not None
    pixels = inputs.images[:, :1].permute(0, 1, 4, 2, 3).float() / 127.5 - 1
    found = []
    for row in range(4):
        question = inputs.tokens[row][inputs.token_mask[row]]
        words = answers.words[row][answers.mask[row]]
        with torch.no_grad():
            places = model.backbone._see(inputs.images[row, :1]).shape[1]  # pyright: ignore
            tokens = torch.cat([torch.full((places,), 59), question, words])[None]
            labels = torch.where(torch.arange(tokens.shape[1]) < places + len(question), -100, tokens)
            found.append(theirs(input_ids=tokens, pixel_values=pixels[row : row + 1], labels=labels).loss)
    assert answer_loss(model.backbone, answers).item() == pytest.approx(torch.stack(found).mean().item(), abs=1e-5)
    assert int(answers.words[0][answers.mask[0]][-1]) == theirs.config.text_config.eos_token_id


def test_every_row_comes_once_before_it_comes_again(tiny_vlm: HfConfig, tmp_path: Path):  # noqa: F811
    pairs = Pairs([write(tmp_path / "a.parquet")])
    _, whole = model_and_loader(tiny_vlm, pairs, Shard(COUNT))
    pictures = [sorted(map(bytes, batch.inputs.images[:, 0].numpy())) for batch in first(whole, 2)]
    assert pictures[0] == pictures[1] and len(set(pictures[0])) == COUNT
    halves = [first(model_and_loader(tiny_vlm, pairs, Shard(2, rank, 2))[1], 1)[0] for rank in range(2)]
    together = first(model_and_loader(tiny_vlm, pairs, Shard(4))[1], 1)[0]
    seen = torch.stack([half.inputs.images for half in halves], 1).flatten(0, 1)
    assert torch.equal(seen, together.inputs.images)


def first(loader: PairLoader, count: int) -> list[Any]:
    batches = loader.batches(0)
    return [next(batches) for _ in range(count)]


def test_a_share_of_a_steps_examples():
    for share, expected in ((0.2, 16), (0.5, 64), (0.01, 4)):
        shards = [extra_shard(share, 64, 2, rank, 2) for rank in range(2)]
        assert sum(shard.size for shard in shards) * 2 == expected


def test_training_with_pairs_learns_the_answers_and_resumes(tiny_vlm: HfConfig, tmp_path: Path):  # noqa: F811
    source, pairs = Two(), Pairs([write(tmp_path / "a.parquet")])
    config = replace(TRAIN, steps=20, pairs_share=0.5, pairs=pairs.content, learning_rate=1e-2, save_every=10)
    model = VlaConfig(tiny_vlm, ExpertConfig(width=16, mlp=32), horizon=8)

    def run(out: Path, **settings: Any) -> list[dict[str, float]]:
        train(config, model, source, source.statistics(), out, quiet=True, pairs=pairs, **settings)
        return read_metrics(out / "metrics.jsonl")

    rows = run(tmp_path / "run")
    assert rows[-1]["loss_answers"] < 0.5 * rows[0]["loss_answers"]
    for row in rows:
        assert row["loss"] == pytest.approx((row["loss_actions"] + row["loss_answers"]) / 2)
    (tmp_path / "run" / "last").unlink()
    (tmp_path / "run" / "last").symlink_to("checkpoints/00000010")
    (tmp_path / "run" / "checkpoints" / "00000020").rename(tmp_path / "later")
    again = run(tmp_path / "run", resume=True)
    assert [row["loss"] for row in again] == [row["loss"] for row in rows]
    with pytest.raises(ConfigError, match="belong together"):
        train(replace(config, pairs_share=0.0), model, source, source.statistics(), tmp_path / "x", pairs=pairs)


def test_nano_has_no_language_model(tmp_path: Path):
    with pytest.raises(ConfigError, match="nano has none"):
        model_and_loader(NanoConfig(image_size=32), Pairs([write(tmp_path / "a.parquet")]), Shard(2))
