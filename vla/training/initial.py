"""Starting from another run's weights: what fits by name and shape is taken, everything else is listed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from vla.errors import ConfigError
from vla.files import write_text
from vla.model.checkpoint import Checkpoint, load
from vla.model.encode import Encoder
from vla.model.vla_model import VlaModel

INIT = "init.json"
_WORDS = "embed_tokens.weight"


@dataclass(frozen=True)
class Start:
    """What became of a checkpoint's weights.

    Attributes:
        checkpoint: the folder they come from.
        taken: names of weights that are the checkpoint's now.
        other_shape: that both have, with both shapes (theirs, ours).
        not_here: that only the checkpoint has.
        new: that only this model has.
        notes: what fits by shape but may mean something else.
    """

    checkpoint: str
    taken: tuple[str, ...]
    other_shape: Mapping[str, tuple[Sequence[int], Sequence[int]]]
    not_here: tuple[str, ...]
    new: tuple[str, ...]
    notes: tuple[str, ...]

    def summary(self) -> str:
        """A few lines for people; names of one part are counted together."""
        lines = [f"{self.checkpoint}: {len(self.taken)} weights taken"]
        groups = {"of another shape": self.other_shape, "not in this model": self.not_here, "new": self.new}
        for title, names in groups.items():
            if names:
                lines.append(f"{title}: {', '.join(_by_part(list(names)))}")
        return "\n".join([*lines, *self.notes])


def start_from(path: Path, model: VlaModel, encoder: Encoder, out: Path | None) -> Start:
    """Give a model a checkpoint's averaged weights where name and shape agree; rows of the word table go by word.

    Args:
        path: of a checkpoint or a run.
        model: changed in place.
        encoder: of the model; its tokenizer says which row is which word.
        out: folder for ``init.json``; None to write nothing.

    Raises:
        DataError: there is no checkpoint, or it is damaged.
        ConfigError: nothing fits.
    """
    before = load(path)
    theirs, ours = before.model.state_dict(), model.state_dict()
    tokenizers = before.encoder.text.tokenizer, encoder.text.tokenizer
    taken, other_shape = [], {}
    notes = _notes(before, model, encoder)
    for name in sorted(ours.keys() & theirs.keys()):
        if name.endswith(_WORDS) and tokenizers[0].get_vocab() != tokenizers[1].get_vocab():
            notes.append(_take_words(theirs[name], ours[name], *tokenizers))
            taken.append(name)
        elif theirs[name].shape == ours[name].shape:
            with torch.no_grad():
                ours[name].copy_(theirs[name])
            taken.append(name)
        else:
            other_shape[name] = (tuple(theirs[name].shape), tuple(ours[name].shape))
    not_here, new = sorted(theirs.keys() - ours.keys()), sorted(ours.keys() - theirs.keys())
    start = Start(str(before.path), tuple(taken), other_shape, tuple(not_here), tuple(new), tuple(notes))
    if not taken:
        raise ConfigError(f"nothing of {before.path} fits this model. {start.summary()}")
    if out is not None:
        write_text(out / INIT, json.dumps(vars(start), indent=1))
    return start


def _take_words(theirs: Tensor, ours: Tensor, before: Tokenizer, now: Tokenizer) -> str:
    """Rows of words that both know; the others keep their new weights."""
    if theirs.shape[1] != ours.shape[1]:
        return "word table: of another width, nothing of it is taken"
    known, new = before.get_vocab(), now.get_vocab()
    shared = sorted(known.keys() & new.keys())
    with torch.no_grad():
        ours[[new[word] for word in shared]] = theirs[[known[word] for word in shared]].to(ours.dtype)
    unknown = sorted(new.keys() - known.keys())
    told = f": {', '.join(unknown[:20])}{' ...' if len(unknown) > 20 else ''}" if unknown else ""
    return f"word table: {len(shared)} words taken, {len(unknown)} new{told}"


def _notes(before: Checkpoint, model: VlaModel, encoder: Encoder) -> list[str]:
    """Differences that no shape shows."""
    pairs = {
        "embodiments": ([spec.name for spec in one.specs] for one in (before.encoder, encoder)),
        "cameras": (one.config.cameras for one in (before.model, model)),
    }
    there_here = {title: [", ".join(names) for names in pair] for title, pair in pairs.items()}
    return [f"{title}: {there} there, {here} here" for title, (there, here) in there_here.items() if there != here]


def _by_part(names: Sequence[str]) -> list[str]:
    """Names as parts with the number of weights in each, e.g. ``expert.layers (28)``."""
    counts: dict[str, int] = {}
    for name in names:
        part = ".".join(name.split(".")[:2])
        counts[part] = counts.get(part, 0) + 1
    return [part if count == 1 else f"{part} ({count})" for part, count in counts.items()]
