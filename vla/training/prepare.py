"""From a window source to batches: reads pictures once where the vision is frozen, and builds the tokenizer."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vla.errors import ConfigError
from vla.experience import Place
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
from vla.training.windows import read_windows


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
    *,
    resumed: bool,
) -> Loader:
    """The batches of a run.

    Args:
        model: its frozen vision, if it has one, looks at every picture now and never again.
        encoder: gets a tokenizer of the words that are met, unless the run is resumed.
        source: of the windows.
        config: of the training.
        cache: folder for features.
        journal: shown the progress.
        resumed: whether the tokenizer is the checkpoint's.
    """
    if model.backbone.frozen_vision is None:
        return LiveLoader(source, encoder, config)
    store = FeatureStore(
        cache,
        model.backbone.features,
        weights_name(model.backbone.frozen_vision),
        image_size=encoder.image_size,
        versions=config.versions,
        shift=config.shift,
    )
    places = needed_places(source, config)
    windows = read_windows(
        source,
        places,
        lambda name, images: encoder.pictures(encoder.index(name), images),
        store,
        horizon=model.config.horizon,
        progress=lambda count: journal.show("reading", count / len(places), f"{count} of {len(places)} windows"),
    )
    if not resumed:
        encoder.text = make_text(model.config, windows.sentences)
    return CachedLoader(source, windows, store, encoder, config)


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
