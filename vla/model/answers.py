"""The backbone as the language model that it is: answers to questions about pictures, as a loss.

::

    picture, question without its last word ─ backbone.prefix ─▶ cache ─┐
    last word of the question, answer without its end ─ backbone.decode ┴─▶ word table ─▶ answer, end

This is next-word prediction on the answer alone; with a causal backbone it is the model's own training loss. The state
and the action head have no part in it, and it reaches the backbone also where the head is insulated from it.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vla.model.backbone import Backbone, Inputs
from vla.model.masked import masked_cross_entropy


@dataclass(frozen=True)
class Answers:
    """Questions about pictures with their answers.

    Attributes:
        inputs: a picture in the first camera slot, and the question; the state is zero.
        words: of the answers, the end included.
        mask: False on padding.
    """

    inputs: Inputs
    words: Int64[Tensor, "b n"]
    mask: Bool[Tensor, "b n"]

    def __len__(self) -> int:
        return len(self.words)

    def to(self, device: torch.device | str) -> "Answers":
        """The same on a device."""
        return Answers(self.inputs.to(device), self.words.to(device), self.mask.to(device))


def answer_loss(backbone: Backbone, answers: Answers) -> Float[Tensor, ""]:
    """Mean over the answers of each one's mean cross-entropy of a word, given those before it."""
    inputs = answers.inputs
    rows = torch.arange(len(answers), device=inputs.tokens.device)
    last = inputs.token_mask.sum(1) - 1
    asked = inputs.token_mask.clone()
    asked[rows, last] = False
    prefix = backbone.prefix(replace(inputs, token_mask=asked))
    before = torch.cat([inputs.tokens[rows, last, None], answers.words[:, :-1]], 1)
    real = torch.cat([torch.ones_like(answers.mask[:, :1]), answers.mask[:, :-1]], 1)
    hidden, _ = backbone.decode(prefix, backbone.words(before), real)
    logits = hidden @ backbone.words.weight.t()
    return masked_cross_entropy(logits, answers.words, answers.mask)
