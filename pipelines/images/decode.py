"""One image: JPEG or PNG bytes, or plain grey pixels, to uint8 pixels of one shape. Files are left to `read`."""

import io
import re
import warnings

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from pipelines.config import ImageOptions

_ADDRESS = re.compile(r"<[^>]* at 0x[0-9a-fA-F]+>")


class UnreadableError(Exception):
    """An image for the quarantine; the text is the reason."""


class Decoder:
    """Bytes to pixels. Alpha is laid over white, 16 bits keep their upper 8, and EXIF's rotation is applied."""

    def __init__(self, options: ImageOptions) -> None:
        self._size = options.width, options.height
        self._mode = "RGB" if options.channels == 3 else "L"
        self._resize, self._max_pixels = options.resize, options.max_pixels
        # `max_pixels` is looked at before anything is decoded; Pillow's own warning would come first.
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

    def decode(self, data: bytes) -> bytes:
        """Pixels (height, width, channels), row by row, of a JPEG or PNG. Raises UnreadableError with the reason."""
        if not data:
            raise UnreadableError("image: empty file")
        try:
            with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
                if image.width * image.height > self._max_pixels:
                    raise UnreadableError(
                        f"image: {image.width}×{image.height} pixels, more than {self._max_pixels} (images.max_pixels)"
                    )
                return self._pixels(image)
        except (UnreadableError, MemoryError):
            raise
        except UnidentifiedImageError:
            raise UnreadableError("image: neither JPEG nor PNG") from None
        except Image.DecompressionBombError:
            raise UnreadableError(f"image: more than {self._max_pixels} pixels (images.max_pixels)") from None
        except Exception as error:  # Pillow meets damaged bytes with errors of every kind
            reason = _ADDRESS.sub("", str(error)).strip() or type(error).__name__
            raise UnreadableError(f"image: damaged ({reason})") from None

    def from_grey(self, data: bytes, height: int, width: int) -> bytes:
        """The same of plain grey pixels, one byte each. Raises UnreadableError where there are too few."""
        if len(data) != height * width:
            raise UnreadableError(f"image: {height * width} bytes of pixels expected, {len(data)} there")
        if (width, height) == self._size:
            return data if self._mode == "L" else np.frombuffer(data, np.uint8).repeat(3).tobytes()
        return self._fitted(Image.frombytes("L", (width, height), data))

    def _pixels(self, image: Image.Image) -> bytes:
        if image.format == "JPEG" and self._size[0] * 4 <= image.width and self._size[1] * 4 <= image.height:
            # A large photograph is decoded at a half, a quarter or an eighth, never below twice what is asked for.
            image.draft(None, (self._size[0] * 2, self._size[1] * 2))
        # A PNG may say of its transparency and rotation after its pixels.
        image.load()
        as_wanted = image.size == self._size and image.mode == self._mode
        if as_wanted and not image.has_transparency_data and not _is_turned(image):
            return image.tobytes()
        return self._fitted(_flat(ImageOps.exif_transpose(image)))

    def _fitted(self, image: Image.Image) -> bytes:
        """Converted, then resized."""
        image = image if image.mode == self._mode else image.convert(self._mode)
        if image.size != self._size:
            method = Image.Resampling.BILINEAR
            if self._resize == "crop":
                image = ImageOps.fit(image, self._size, method)
            elif self._resize == "pad":
                image = ImageOps.pad(image, self._size, method)
            else:
                image = image.resize(self._size, method)
        return image.tobytes()


def _is_turned(image: Image.Image) -> bool:
    """Whether it has to be rotated or mirrored. Asking costs as much as decoding a tiny JPEG."""
    if image.format == "JPEG" and not image.info.keys() & {"exif", "xmp"}:
        return False
    return bool(image.getexif().get(ExifTags.Base.Orientation, 1) != 1)


def _flat(image: Image.Image) -> Image.Image:
    """Without alpha and with 8 bits a channel: Pillow's own `convert` shows hidden colours, and clips 16 bits."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64) >> 8
        return Image.fromarray(values.clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        above = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB")
    return image
