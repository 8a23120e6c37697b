"""Whether `thaw run` makes the vectors of its items' images, with an encoder of its own, and what that may learn from.

docs/decisions/an-encoder-learns-from-the-training-period.md says why.
"""

from pipelines.config import Config, utc_microseconds
from pipelines.errors import ConfigError


def makes_vectors(config: Config) -> bool:
    """Whether items or users read `content_vectors`, and the configuration says of which images they are made."""
    sources = (*config.source.items, *config.source.users)
    return config.images is not None and any(source.dataset == "content_vectors" for source in sources)


def trains_encoder(config: Config) -> bool:
    """Whether those vectors are the workspace's own classifier's: no other model is named."""
    return makes_vectors(config) and config.images is not None and config.images.embed.model is None


def learns_until(config: Config) -> int | None:
    """UTC microseconds from which on no image may be learned from, or None where no log's items read the vectors.

    Raises ConfigError where that is not known before the log is read.
    """
    if not trains_encoder(config):
        return None
    if config.split.validation_start is None:
        raise ConfigError(
            "split.validation_start and split.test_start must be dates where an encoder is trained on the items' "
            "images, because it must know none from after the training period, and shares are known only when the log "
            "is read; set them, or images.embed.model to an encoder that is trained already"
        )
    return utc_microseconds(config.split.validation_start, "split.validation_start")
