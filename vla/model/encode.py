"""The model's border: observations and actions in raw units on one side, padded normalised tensors on the other.

Training and running go through the same object, so that they cannot drift apart.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64

from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError
from vla.experience import Observation
from vla.model.backbone import Inputs
from vla.model.config import HfConfig, VlaConfig
from vla.model.encode_numbers import NumberEncoder
from vla.model.text import Text, state_prompt
from vla.normalize import Statistics


class Encoder(NumberEncoder):
    """Encodes for one model: what :class:`NumberEncoder` does, and words.

    Args:
        config: fitted to ``specs``.
        specs: the embodiments; repeats are allowed.
        statistics: by embodiment name.
        text: the instruction's tokenizer.
        image_size: of the backbone.

    Raises:
        StatisticsMissing: of an embodiment or of one of its channels.
        SpecMismatch: an embodiment has other channels than the config was fitted to.
        ConfigError: the state is to be written into the prompt, and the tokenizer knows no numbers.
    """

    def __init__(
        self,
        config: VlaConfig,
        specs: Sequence[EmbodimentSpec],
        statistics: Mapping[str, Statistics],
        text: Text,
        image_size: int,
    ):
        if config.expert.state == "prompt" and not isinstance(config.backbone, HfConfig):
            raise ConfigError("a state in the prompt needs a Hugging Face backbone, whose tokenizer knows its numbers")
        super().__init__(config, specs, statistics, image_size)
        self.text = text

    def words(
        self, sentences: Sequence[str], body: Sequence[int], state: Float32[np.ndarray, "b padded"]
    ) -> tuple[Int64[torch.Tensor, "b l"], Bool[torch.Tensor, "b l"]]:
        """Tokens of the instructions, with the (encoded) states written out in them where the model wants that."""
        if self.config.expert.state != "prompt":
            return self.text.encode(sentences)
        sizes = [self.config.bodies[place].state for place in body]
        rows = zip(sentences, state, sizes, strict=True)
        return self.text.encode_exactly([state_prompt(sentence, row[:size]) for sentence, row, size in rows])

    def inputs(self, body: int, observation: Observation) -> Inputs:
        """One observation as a batch of one."""
        pictures, present = self.pictures(body, observation.images)
        state = self.state(body, observation.state)
        tokens, mask = self.words([observation.instruction], [body], state[None])
        return Inputs(
            torch.from_numpy(pictures)[None],
            None,
            torch.from_numpy(present)[None],
            tokens,
            mask,
            torch.from_numpy(state)[None],
            torch.tensor([body]),
        )
