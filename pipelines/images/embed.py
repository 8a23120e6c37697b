"""A Keras model as the encoder of images: loaded, checked, and what it makes of a block. [beam, keras]

The pipeline around it is `infer`'s.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np

from pipelines.config import EmbedOptions, ImageOptions
from pipelines.errors import ConfigError
from pipelines.images.infer import BlockHandler, Pixels
from schemas.images import CONTENT_VECTORS


class EncoderHandler(BlockHandler):
    """A Keras model's vectors as CONTENT_VECTORS.

    `rows`: the size of a batch; a shorter one is filled up, so that an image's vector does not depend on how many
    others came with it.
    """

    table = CONTENT_VECTORS

    def __init__(self, options: EmbedOptions, rows: int) -> None:
        super().__init__()
        self._options, self._rows = options, rows

    def load_model(self) -> Any:
        """The encoder."""
        return load_encoder(self._options)

    def columns(self, block: Pixels, model: Any) -> Sequence[Any]:
        """Item, time and vector."""
        filled = np.zeros((self._rows, *block.values.shape[1:]), np.float32)
        low, high = self._options.value_range
        images = len(block.values)
        filled[:images] = block.values * np.float32((high - low) / 255) + np.float32(low)
        vectors = np.asarray(model(filled, training=False), np.float32)[:images]
        return block.rows["item_id"], block.rows["valid_from"], list(vectors)


def load_encoder(options: EmbedOptions) -> Any:
    """The model from images to vectors. Raises ConfigError where there is none, or the layer is not in it."""
    import keras

    path = options.model
    if path is None:
        raise ConfigError("the encoder must be a .keras file, got none; set images.embed.model, or --model FILE")
    try:
        with tempfile.TemporaryDirectory() as folder:
            # Keras reads local files alone.
            file = Path(folder) / "model.keras"
            fs, inside = fsspec.core.url_to_fs(path)
            file.write_bytes(fs.cat_file(inside))
            model = keras.saving.load_model(file, compile=False, safe_mode=True)
    except Exception as error:  # a damaged file is met by zipfile, json, h5py and Keras, each with errors of its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"images.embed.model must be a .keras file, {path} cannot be loaded: {reason}") from None
    if options.layer is None:
        return model
    names = [layer.name for layer in model.layers]
    if options.layer not in names:
        raise ConfigError(f"images.embed.layer must be a layer of the model, got {options.layer!r}; it has {names}")
    try:
        return keras.Model(model.input, model.get_layer(options.layer).output)
    except (AttributeError, ValueError) as error:
        raise ConfigError(
            f"images.embed.layer must be a layer of a functional or sequential model, {path} is none "
            f"({str(error).splitlines()[0]}); remove images.embed.layer, or save the model up to that layer"
        ) from None


def vector_length(model: Any, options: ImageOptions) -> int:
    """Numbers of a vector. Raises ConfigError where the model does not take these images, or gives no vectors."""
    wanted = (options.height, options.width, options.channels)
    shape = getattr(model, "input_shape", None)
    taken = tuple(shape[1:]) if isinstance(shape, tuple) else None
    fits = taken is not None and len(taken) == 3
    if not fits or any(size not in (None, want) for size, want in zip(taken or (), wanted, strict=True)):
        raise ConfigError(
            f"images must have the height, width and channels that the model takes, {taken}, got {wanted}; set "
            "images.height, images.width and images.channels"
        )
    given = tuple(model.compute_output_shape((1, *wanted)))
    if len(given) != 2:
        raise ConfigError(
            f"the encoder's output must be a vector an image, got shape {given}; name a layer that gives one "
            "(images.embed.layer), such as its global pooling"
        )
    return int(given[1])
