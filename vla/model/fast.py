"""FAST: a chunk of actions as a short sequence of words (Pertsch et al. 2025).

::

    chunk (h, a) in -1..1 ─ cosine transform over time ─ times scale, rounded ─▶ coefficients, low frequencies first
                                                    one symbol a value ─ byte-pair encoding ─▶ words

The transform is orthonormal, so no coefficient of a chunk within -1..1 is larger than ``sqrt(h)``: the alphabet follows
from the horizon and the scale, and only the pairs that are merged are fitted to data.
"""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import scipy.fft
from jaxtyping import Float, Float32, Int64
from tokenizers import Tokenizer, models, trainers

from vla.errors import ConfigError, DataError

_FIRST = 0x4E00  # symbols are letters of one block, so that no normaliser or splitter of text touches them


class FastCodec:
    """Encodes and decodes chunks; made by :meth:`fit` or :meth:`from_json`.

    Args:
        horizon: actions in a chunk.
        scale: of the coefficients before they are rounded.
        pairs: byte-pair encoding over the symbols.
    """

    def __init__(self, horizon: int, scale: float, pairs: Tokenizer):
        self.horizon, self.scale, self.pairs = horizon, scale, pairs
        self.bound = _bound(horizon, scale)
        self.spelling = [pairs.id_to_token(number) or "" for number in range(pairs.get_vocab_size())]
        self.lengths = np.array([len(word) for word in self.spelling], dtype=np.int64)

    @classmethod
    def fit(
        cls, chunks: Iterable[Float32[np.ndarray, "h _"]], *, horizon: int, scale: float, vocabulary: int
    ) -> "FastCodec":
        """Merge the pairs that are frequent in these chunks, as long as there are words left.

        Args:
            chunks: normalised to -1..1, each with its embodiment's own channels.
            horizon: actions in each.
            scale: larger is finer, and makes longer sequences.
            vocabulary: words at most.

        Raises:
            ConfigError: the alphabet alone has more words than that.
        """
        check_vocabulary(horizon, scale, vocabulary)
        bound = _bound(horizon, scale)
        alphabet = [chr(_FIRST + number) for number in range(2 * bound + 1)]
        pairs = Tokenizer(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary, min_frequency=2, show_progress=False, initial_alphabet=alphabet
        )
        pairs.train_from_iterator((_spell(_coefficients(chunk, scale, bound), bound) for chunk in chunks), trainer)
        return cls(horizon, scale, pairs)

    def encode(self, chunks: Sequence[Float32[np.ndarray, "h _"]]) -> list[list[int]]:
        """Words of each chunk, which may have different numbers of channels."""
        texts = [_spell(_coefficients(chunk, self.scale, self.bound), self.bound) for chunk in chunks]
        return [encoding.ids for encoding in self.pairs.encode_batch(texts)]

    def decode(self, words: Sequence[int], channels: int) -> Float32[np.ndarray, "h channels"]:
        """The chunk that the words spell.

        Raises:
            ConfigError: they spell more or fewer coefficients than a chunk of ``channels`` has, or one is no word.
        """
        unknown = [word for word in words if not 0 <= word < len(self.spelling)]
        if unknown:
            raise ConfigError(f"FAST: {unknown[0]} is none of the {len(self.spelling)} words")
        text = "".join(self.spelling[word] for word in words)
        if len(text) != self.horizon * channels:
            wanted = f"{self.horizon} x {channels}"
            raise ConfigError(f"FAST: the words spell {len(text)} coefficients; expected {wanted}")
        numbers = np.array([ord(symbol) - _FIRST - self.bound for symbol in text], dtype=np.float64)
        coefficients = numbers.reshape(self.horizon, channels) / self.scale
        return np.asarray(scipy.fft.idct(coefficients, axis=0, norm="ortho"), dtype=np.float32)

    def to_json(self) -> str:
        """Everything, with the pairs as the ``tokenizers`` library's own JSON."""
        value = {"horizon": self.horizon, "scale": self.scale, "pairs": json.loads(self.pairs.to_str())}
        return json.dumps(value, indent=1)

    @classmethod
    def from_json(cls, path: Path) -> "FastCodec":
        """Read a file of :meth:`to_json`.

        Raises:
            DataError: it is missing or damaged.
        """
        try:
            value = json.loads(path.read_text())
            return cls(int(value["horizon"]), float(value["scale"]), Tokenizer.from_str(json.dumps(value["pairs"])))
        except OSError as error:
            raise DataError(path, "file", expected="a readable file", found=str(error)) from error
        except Exception as error:  # the library raises nothing more specific
            raise DataError(path, "JSON", expected="horizon, scale and pairs", found=str(error)) from error


def check_vocabulary(horizon: int, scale: float, vocabulary: int) -> None:
    """Raise ConfigError unless each value of a coefficient can be a word."""
    values = 2 * _bound(horizon, scale) + 1
    if vocabulary < values:
        raise ConfigError(
            f"FAST: coefficients of {horizon} actions at scale {scale:g} have {values} values, "
            f"more than the vocabulary of {vocabulary}"
        )


def _bound(horizon: int, scale: float) -> int:
    return math.ceil(scale * math.sqrt(horizon))


def _coefficients(chunk: Float[np.ndarray, "h a"], scale: float, bound: int) -> Int64[np.ndarray, "h a"]:
    transformed = np.asarray(scipy.fft.dct(chunk.astype(np.float64), axis=0, norm="ortho"))
    return np.clip(np.rint(scale * transformed), -bound, bound).astype(np.int64)


def _spell(coefficients: Int64[np.ndarray, "h a"], bound: int) -> str:
    return "".join(chr(_FIRST + bound + number) for number in coefficients.ravel().tolist())
