"""Instructions to token numbers, saved as the JSON of the ``tokenizers`` library.

A Hugging Face backbone brings its own tokenizer. The nano backbone knows the words of its training data and nothing
else: one number a word, lower case, punctuation split off, anything unseen is ``<unk>``.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from vla.errors import ConfigError, DataError

REMEMBERED = 4096  # sentences whose numbers are kept
PAD, UNKNOWN, START = "<pad>", "<unk>", "<s>"


class Text:
    """Encodes instructions to a fixed length.

    Args:
        tokenizer: adds its own start token.
        length: tokens of the longest instruction.
        suffix: put behind every instruction.
    """

    def __init__(self, tokenizer: Tokenizer, length: int, suffix: str = ""):
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self.tokenizer, self.length, self.suffix = tokenizer, length, suffix
        self._known: dict[str, list[int]] = {}

    def encode(self, sentences: Sequence[str]) -> tuple[Int64[Tensor, "b l"], Bool[Tensor, "b l"]]:
        """Token numbers, padded to the longest sentence of the batch, and True where they are real.

        Raises:
            ConfigError: an instruction has more tokens than ``length``, so that its end would be lost.
        """
        return self.encode_exactly([clean(sentence) + self.suffix for sentence in sentences])

    def encode_exactly(self, sentences: Sequence[str]) -> tuple[Int64[Tensor, "b l"], Bool[Tensor, "b l"]]:
        """As :meth:`encode`, of whole prompts: white space stays and nothing is put behind them."""
        rows = [self._numbers(sentence) for sentence in sentences]
        for sentence, row in zip(sentences, rows, strict=True):
            if not 0 < len(row) <= self.length:
                raise ConfigError(f"instruction {sentence!r} has {len(row)} tokens; expected 1 to {self.length}")
        longest = max(len(row) for row in rows)
        tokens = torch.zeros(len(rows), longest, dtype=torch.int64)
        mask = torch.zeros(len(rows), longest, dtype=torch.bool)
        for place, row in enumerate(rows):
            tokens[place, : len(row)] = torch.tensor(row)
            mask[place, : len(row)] = True
        return tokens, mask

    def _numbers(self, sentence: str) -> list[int]:
        """Of one sentence; a robot hears the same one at every step. Several threads may ask at once."""
        numbers = self._known.get(sentence)
        if numbers is None:
            numbers = self.tokenizer.encode(sentence).ids
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[sentence] = numbers
        return numbers

    @property
    def size(self) -> int:
        """Numbers in use, added tokens included."""
        return self.tokenizer.get_vocab_size(with_added_tokens=True)

    def to_json(self) -> str:
        """The tokenizer as its library's JSON."""
        return self.tokenizer.to_str()


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in a ``tokenizer.json``.

    Raises:
        DataError: the file is missing or not one.
    """
    try:
        return Tokenizer.from_str(path.read_text())
    except OSError as error:
        raise DataError(path, "tokenizer", expected="a readable file", found=str(error)) from error
    except Exception as error:  # the library raises nothing more specific
        raise DataError(path, "tokenizer", expected="JSON of the tokenizers library", found=str(error)) from error


def word_tokenizer(sentences: Iterable[str], limit: int) -> Tokenizer:
    """A tokenizer of the words in ``sentences``, the ``limit`` most frequent ones (ties in alphabetical order)."""
    counts = Counter(word for sentence in sentences for word in _words(sentence))
    ranked = sorted(counts, key=lambda word: (-counts[word], word))[: limit - 3]
    vocabulary = {word: number for number, word in enumerate([PAD, UNKNOWN, START, *sorted(ranked)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single=f"{START} $A", special_tokens=[(START, vocabulary[START])]
    )
    return tokenizer


def state_prompt(sentence: str, state: Float[np.ndarray, "s"]) -> str:
    """pi0.5's prompt: the instruction, and the state as numbers of 256 bins between -1 and 1.

    A number below -1 is bin -1, one above 1 is bin 255, as in openpi and LeRobot.
    """
    bins = np.digitize(state, np.linspace(-1, 1, 257)[:-1]) - 1
    words = sentence.strip().replace("_", " ").replace("\n", " ")
    return f"Task: {words}, State: {' '.join(map(str, bins.tolist()))};\nAction: "


def clean(sentence: str) -> str:
    """One line, single spaces."""
    return " ".join(sentence.split())


def _words(sentence: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]+", sentence.lower())
