"""Pictures with questions and answers from local Parquet files, as any Hugging Face VQA or caption set has them.

Columns are found by their usual names: a picture (``image``, ``images``: bytes, or a structure with ``bytes``), a
question (``question``, ``query``, ``prompt``; without one the set has captions) and an answer (``answer``, ``answers``,
``caption``, ``text`` ...). The ``datasets`` library maps the files into memory, so any row is read at random.
"""

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from tokenizers import Tokenizer

from vla.errors import ConfigError, DataError
from vla.model.answers import Answers
from vla.model.backbone import Inputs
from vla.model.config import HfConfig, VlaConfig
from vla.model.encode import Encoder
from vla.model.pictures import fitted
from vla.model.text import Text, clean
from vla.model.vla_model import VlaModel
from vla.training.chance import numpy_chance
from vla.training.read_ahead import read_ahead
from vla.training.shard import Shard
from vla.training.slot import Empty

IMAGES = ("image", "images", "jpg", "picture")
QUESTIONS = ("question", "query", "prompt", "problem")
ANSWERS = ("answer", "answers", "multiple_choice_answer", "caption", "captions", "text", "sentence", "sentences")
CAPTION = "Describe the picture."
LONGEST = 256  # words of a question or an answer


@dataclass(frozen=True)
class Pair:
    """A picture, what is asked about it, and the answer."""

    image: UInt8[np.ndarray, "h w 3"]
    question: str
    answer: str


class Pairs:
    """Rows of Parquet files.

    Args:
        paths: files, or folders with some.

    Raises:
        DataError: there is no file, or it is damaged, or columns are missing.
    """

    def __init__(self, paths: Sequence[Path]):
        self.files = _files(paths)
        self._rows = _open(self.files)
        names = self._rows.column_names
        where = self.files[0]
        self._image, self._answer = _column(where, names, IMAGES), _column(where, names, ANSWERS)
        self._question = next((name for name in QUESTIONS if name in names), None)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def content(self) -> str:
        """Hex digits that change whenever files are added, removed or written anew with another length."""
        facts = [(file.name, file.stat().st_size) for file in self.files]
        return hashlib.sha256(repr((facts, len(self))).encode()).hexdigest()[:16]

    def __getitem__(self, row: int) -> Pair:
        """One row; of several pictures or answers the first one.

        Raises:
            DataError: the picture cannot be decoded, or there is no question or answer.
        """
        value = self._rows[row]
        question = CAPTION if self._question is None else value[self._question]
        return Pair(
            _picture(self.files[0], row, value[self._image]),
            _sentence(self.files[0], row, self._question or "question", question),
            _sentence(self.files[0], row, self._answer, value[self._answer]),
        )


class PairLoader:
    """Batches of answers by number; a row comes once before it comes again.

    Args:
        pairs: rows.
        model: whose backbone answers.
        encoder: of the model.
        seed: names the order.
        shard: which rows of the order each batch holds.

    Raises:
        ConfigError: the backbone is no vision-language model of Hugging Face's.
    """

    def __init__(self, pairs: Pairs, model: VlaModel, encoder: Encoder, seed: int, shard: Shard):
        backbone = model.config.backbone
        if not isinstance(backbone, HfConfig):
            raise ConfigError(
                f"image-text pairs train a vision-language model; {backbone.kind} has none: choose another"
            )
        text = Text(encoder.text.tokenizer, LONGEST, encoder.text.suffix)
        self._make = _Batches(pairs, model.config, text, encoder, seed, shard, model.backbone.end_of_text)

    def batches(self, start: int) -> Iterator[Answers]:
        """Batches ``start``, ``start + 1`` and so on, without end."""
        return read_ahead(self._make, start)


@dataclass(frozen=True)
class _Batches:
    """One batch by its number; called by several threads at once."""

    pairs: Pairs
    config: VlaConfig
    text: Text
    encoder: Encoder
    seed: int
    shard: Shard
    end: int | None

    def __call__(self, number: int, empty: Empty) -> Answers:
        pairs = [self.pairs[self._row(place)] for place in self.shard.places(number)]
        size, slots = len(pairs), len(self.config.cameras)
        side = self.encoder.image_size
        images = empty((size, slots, side, side, 3), np.uint8)
        images[:, 1:] = 0
        present = torch.zeros(size, slots, dtype=torch.bool)
        present[:, 0] = True
        for row, pair in enumerate(pairs):
            images[row, 0] = fitted(pair.image, side, self.encoder.fit)
        tokens, mask = self.text.encode([pair.question for pair in pairs])
        state, body = torch.zeros(size, self.config.state_size), torch.zeros(size, dtype=torch.int64)
        inputs = Inputs(torch.from_numpy(images), None, present, tokens, mask, state, body)
        answers = [pair.answer for pair in pairs]
        return Answers(inputs, *_words(self.text.tokenizer, answers, self.text.suffix, self.end))

    def _row(self, place: int) -> int:
        epoch, turn = divmod(place, len(self.pairs))
        return int(_order(self.seed, epoch, len(self.pairs))[turn])


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return numpy_chance(seed, "pairs", epoch).permutation(count)


def _words(
    tokenizer: Tokenizer, answers: Sequence[str], suffix: str, end: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Answers as words, as they go on behind a question: after a blank, unless the question's suffix ends it."""
    blank = "" if suffix else " "
    rows = [tokenizer.encode(blank + clean(answer), add_special_tokens=False).ids for answer in answers]
    for answer, row in zip(answers, rows, strict=True):
        if not 0 < len(row) <= LONGEST:
            raise ConfigError(f"answer {answer[:80]!r} has {len(row)} words; expected 1 to {LONGEST}")
    rows = rows if end is None else [[*row, end] for row in rows]
    words = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    mask = torch.zeros(words.shape, dtype=torch.bool)
    for place, row in enumerate(rows):
        words[place, : len(row)], mask[place, : len(row)] = torch.tensor(row), True
    return words, mask


def _files(paths: Sequence[Path]) -> list[Path]:
    files = [file for path in paths for file in (sorted(path.rglob("*.parquet")) if path.is_dir() else [path])]
    missing = [file for file in files if not file.is_file()]
    if missing or not files:
        where = (missing or list(paths))[0]
        raise DataError(where, "file", expected="a Parquet file, or a folder with some", found="none")
    return files


def _open(files: Sequence[Path]) -> Any:
    import datasets
    import pyarrow.lib
    from datasets.exceptions import DatasetGenerationError

    try:
        datasets.disable_progress_bars()
        rows = datasets.load_dataset("parquet", data_files=[str(file) for file in files], split="train")
    except (DatasetGenerationError, pyarrow.lib.ArrowInvalid, OSError) as error:
        raise DataError(files[0], "Parquet", expected="readable files", found=str(error)) from error
    for name, feature in rows.features.items():
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(name, datasets.Image(decode=False))
    return rows


def _column(file: Path, names: Sequence[str], wanted: Sequence[str]) -> str:
    for name in wanted:
        if name in names:
            return name
    raise DataError(file, "columns", expected=f"one of {', '.join(wanted)}", found=", ".join(names))


def _picture(file: Path, row: int, value: Any) -> UInt8[np.ndarray, "h w 3"]:
    while isinstance(value, list) and value:
        value = value[0]
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        found = "a path only" if isinstance(value, dict) and value.get("path") else type(data).__name__
        raise DataError(file, f"row {row}: picture", expected="encoded bytes", found=found)
    try:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(file, f"row {row}: picture", expected="PNG, JPEG ...", found=str(error)) from error


def _sentence(file: Path, row: int, name: str, value: Any) -> str:
    while isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, dict):  # VQAv2's answers have one key of that name
        value = value.get("answer")
    if not isinstance(value, str) or not value.strip():
        raise DataError(file, f"row {row}: {name}", expected="a sentence", found=repr(value)[:80])
    return value
