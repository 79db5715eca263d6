"""From a window source to batches: reads pictures once where the vision is frozen, and builds the tokenizer."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from vla.child_process import cores
from vla.errors import ConfigError
from vla.experience import Place
from vla.model.answers import Answers
from vla.model.checkpoint import Checkpoint, text_suffix
from vla.model.config import HfConfig, OfflineConfig, VlaConfig
from vla.model.encode import Encoder
from vla.model.text import Text, word_tokenizer
from vla.model.vla_model import VlaModel
from vla.normalize import Statistics
from vla.protocols import WindowSource
from vla.training.config import TrainConfig
from vla.training.features import FeatureStore, weights_name
from vla.training.journal import Journal
from vla.training.loader import CachedLoader, LiveLoader, Loader
from vla.training.pairs import PairLoader, Pairs
from vla.training.ranks import Ranks
from vla.training.shard import Shard, extra_shard
from vla.training.windows import Windows, read_windows

_MOST_WORKERS = 8  # each decodes some 4,000 pictures of 224 pixels a second


def make_encoder(
    model: VlaModel, source: WindowSource, statistics: Mapping[str, Statistics], checkpoint: Checkpoint | None
) -> Encoder:
    """The encoder of a run; its words are still to come where the tokenizer is made from the data.

    Raises:
        StatisticsMissing: of an embodiment or of a channel.
        ConfigError: the data's statistics are not those of the checkpoint that the run goes on from.
    """
    text = checkpoint.encoder.text if checkpoint else make_text(model.config, ())
    encoder = Encoder(model.config, source.specs, statistics, text, model.backbone.image_size)
    if checkpoint is not None and checkpoint.encoder.statistics != encoder.statistics:
        raise ConfigError(f"{checkpoint.path}: the run to resume has other statistics than the data")
    return encoder


def make_loader(
    model: VlaModel,
    encoder: Encoder,
    source: WindowSource,
    config: TrainConfig,
    cache: Path,
    journal: Journal,
    ranks: Ranks,
    shard: Shard,
    *,
    resumed: bool,
) -> Loader:
    """The batches of a run, of which each rank has its shard.

    Args:
        model: its frozen vision, if it has one, looks at every picture now and never again.
        encoder: gets a tokenizer of the words that are met, unless the run is resumed.
        source: of the windows.
        config: of the training.
        cache: folder for features.
        journal: shown the progress.
        ranks: the first one computes the features, the others find them.
        shard: of this rank.
        resumed: whether the tokenizer is the checkpoint's.
    """
    vision = model.backbone.frozen_vision
    if vision is None:
        workers = workers_of(config, ranks.device.type, cores() // ranks.here)
        return LiveLoader(source, encoder, config, shard, workers)
    with ranks.one_after_first():
        store = FeatureStore(
            cache,
            model.backbone.features,
            weights_name(vision),
            image_size=encoder.image_size,
            versions=config.versions,
            shift=config.shift,
        )
        windows = _read(model, encoder, source, config, store, journal)
    if not resumed:
        encoder.text = make_text(model.config, windows.sentences)
    return CachedLoader(source, windows, store, encoder, config, shard)


def workers_of(config: TrainConfig, device: str, share: int) -> int:
    """Processes that decode for one rank.

    Beside a GPU the training's own thread has to keep it busy, and threads that decode would make it wait for the
    interpreter; on the CPU the model takes all cores anyway, and processes would only add their memory.

    Args:
        config: may say how many.
        device: that the model is on.
        share: of the machine's cores that are this rank's.
    """
    if config.workers is not None:
        return config.workers
    return min(share - 1, _MOST_WORKERS) if device != "cpu" and share >= 4 else 0


def _read(
    model: VlaModel, encoder: Encoder, source: WindowSource, config: TrainConfig, store: FeatureStore, journal: Journal
) -> Windows:
    """All windows that the run needs, their pictures as rows of the store."""
    places = needed_places(source, config)
    return read_windows(
        source,
        places,
        lambda name, images: encoder.pictures(encoder.index(name), images),
        store,
        horizon=model.config.horizon,
        progress=lambda count: journal.show("reading", count / len(places), f"{count} of {len(places)} windows"),
    )


def make_answers(
    model: VlaModel, encoder: Encoder, pairs: Pairs | None, config: TrainConfig, ranks: Ranks
) -> Callable[[int], Iterator[Answers | None]]:
    """Batches of image-text pairs from a number on; None for each if there are no pairs.

    Raises:
        ConfigError: the backbone is no language model, or there are pairs without a share or the other way round.
    """
    if (pairs is None) != (not config.pairs_share):
        raise ConfigError("image-text pairs and their share of a step's examples belong together")
    if pairs is None:
        return lambda start: itertools.repeat(None)
    shard = extra_shard(config.pairs_share, config.batch_size, config.accumulate, ranks.rank, ranks.size)
    return PairLoader(pairs, model, encoder, config.seed, shard).batches


def needed_places(source: WindowSource, config: TrainConfig) -> list[Place]:
    """Places that the run will look at, in the source's own order: all, unless its steps end before that."""
    places = list(source.frames())
    draws = None if config.steps is None else config.steps * config.batch_size
    if draws is None or draws >= len(places):
        return places
    drawn = {source.place(index) for index in range(draws)}
    return [place for place in places if place in drawn]


def make_text(config: VlaConfig, sentences: Sequence[str]) -> Text:
    """The tokenizer: a pretrained backbone's own, else one of the words in ``sentences``."""
    if isinstance(config.backbone, HfConfig):
        from vla.model.hf_backbone import load_tokenizer

        tokenizer = load_tokenizer(config.backbone.name)
    elif isinstance(config.backbone, OfflineConfig):
        from vla.model.offline_parts import minilm_tokenizer, smollm2

        tokenizer = minilm_tokenizer() if config.backbone.instruction == "sentence" else smollm2().tokenizer()
    else:
        tokenizer = word_tokenizer(sentences, config.backbone.vocabulary)
    return Text(tokenizer, config.backbone.text_length, text_suffix(config))
