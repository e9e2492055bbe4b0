"""Decode images that nobody has checked: what is wrong with one is said, never guessed."""

from __future__ import annotations

import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from math import ceil
from typing import Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from mining.exceptions import UnreadableImage
from mining.types import ImageMode

MAX_PIXELS: Final = 100_000_000
MAX_IMAGE_SIDE: Final = 65_500  # of JPEG, the narrowest of the formats in use
LARGE_PIXELS: Final = 20_000_000  # decoding one may take from 20 MB to 1.5 GB
FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")

# Pillow refuses more than twice this number while it reads the header.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2

_MAGIC: Final = {
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"RIFF": "WEBP",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"GIF8": "GIF",
}
_JPEG_END: Final = b"\xff\xd9"
_STRIP_PIXELS: Final = 4_000_000
_ORIENTATION: Final = 0x0112
_TRANSPOSE: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# All that Pillow's readers have been seen to raise on damaged bytes.
_DECODE_ERRORS: Final = (
    OSError, SyntaxError, ValueError, TypeError, EOFError, LookupError, ArithmeticError,
    AttributeError, RuntimeError, MemoryError, struct.error,
)  # fmt: skip

Quick = Callable[[bytes], Image.Image | None]


class _Quiet:
    """Silences Pillow's warnings while any thread decodes.

    `warnings.catch_warnings` alone is not safe with threads in Python 3.11: it puts back the
    filters that another thread has replaced. Here the first thread in and the last one out
    do that.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._saved: warnings.catch_warnings[None] | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._depth == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\b")
            self._depth += 1
        try:
            yield
        finally:
            with self._lock:
                self._depth -= 1
                if self._depth == 0 and self._saved is not None:
                    self._saved.__exit__(None, None, None)


_quiet = _Quiet()
_large = threading.RLock()


@contextmanager
def one_large_at_a_time(size: tuple[int, int]) -> Iterator[None]:
    """Wait, for an image of over `LARGE_PIXELS`, until no other thread holds one.

    Memory is planned for one large image, not for one in every thread.
    """
    if size[0] * size[1] <= LARGE_PIXELS:
        yield
        return
    with _large:
        yield


def decode_image(
    data: bytes, *, mode: ImageMode = "RGB", max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Decode the bytes of a PNG, JPEG, WebP, BMP, TIFF or GIF file, whatever its name.

    The first frame of an animation is taken, the EXIF orientation applied, 16-bit grey
    scaled (not clipped) to 8 bits, and transparency laid on white.

    Args:
        data: The whole file.
        mode: "RGB" or "L", the mode of the image returned.
        max_pixels: Width times height that is still decoded, up to `MAX_PIXELS`.

    Raises:
        UnreadableImage: The bytes cannot be decoded; the message is the reason.

    >>> buffer = BytesIO()
    >>> Image.new("CMYK", (4, 3)).save(buffer, "TIFF")
    >>> decode_image(buffer.getvalue()).getpixel((0, 0))
    (255, 255, 255)
    """
    with decoded(data, mode=mode, max_pixels=max_pixels) as image:
        return image


@contextmanager
def decoded(
    data: bytes,
    *,
    mode: ImageMode | None,
    max_pixels: int = MAX_PIXELS,
    enough_side: int | None = None,
    quick: Quick | None = None,
) -> Iterator[Image.Image]:
    """Decode as `decode_image` does; no other thread decodes a large image meanwhile.

    Use the image up, or make it small, before the block ends.

    Args:
        data: The whole file.
        mode: As in `decode_image`; None gives "L" for an opaque grey image, else "RGB".
        max_pixels: As in `decode_image`.
        enough_side: A JPEG may come out smaller by 2, 4 or 8, which takes that much less
            memory, as long as its longest side keeps this many pixels.
        quick: A faster decoder of plain JPEGs with the same pixels; it returns None for a
            file that Pillow has to judge.

    Raises:
        UnreadableImage: The bytes cannot be decoded; the message is the reason.
    """
    if not data:
        raise UnreadableImage("the file is empty (0 bytes)")
    with ExitStack() as held:
        flat, turn = _decode(data, mode, max_pixels, enough_side, quick, held)
        yield flat if turn is None else flat.transpose(turn)


def file_type(data: bytes) -> str:
    """Return the format that the first bytes of a file name, one of `FORMATS`, or "".

    >>> file_type(b"GIF89a"), file_type(b"%PDF")
    ('GIF', '')
    """
    return next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), "")


def is_upright_jpeg(data: bytes) -> bool:
    """Tell whether the bytes are a plain JPEG in colour that no EXIF orientation turns.

    Its end is looked at, its middle is not.
    """
    return upright_jpeg_size(data) is not None


def upright_jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height of what `is_upright_jpeg`, None of anything else."""
    if not data.rstrip(b"\0").endswith(_JPEG_END):
        return None
    with _quiet():
        try:
            with Image.open(BytesIO(data), formats=("JPEG",)) as image:
                plain = _is_plain_jpeg(image) and _orientation(image) == 1
                return image.size if plain else None
        except (Image.DecompressionBombError, *_DECODE_ERRORS):
            return None


def _decode(
    data: bytes,
    mode: ImageMode | None,
    max_pixels: int,
    enough_side: int | None,
    quick: Quick | None,
    held: ExitStack,
) -> tuple[Image.Image, Image.Transpose | None]:
    """Return the image as it is stored, and how to turn it; what it needs goes on `held`."""
    with _quiet():
        try:
            with Image.open(BytesIO(data), formats=FORMATS) as image:
                _check_size(image, max_pixels)
                held.enter_context(one_large_at_a_time(image.size))
                if enough_side is not None:
                    _draft(image, enough_side)
                plain = quick(data) if quick and _is_plain_jpeg(image) else None
                if plain is None:
                    image.load()
                turn = _TRANSPOSE.get(_orientation(image))
                return _flatten(plain or image, mode or _plain_mode(image)), turn
        except Image.DecompressionBombError as error:
            raise UnreadableImage(
                f"the image has more than {MAX_PIXELS:,} pixels and was not decoded"
            ) from error
        except _DECODE_ERRORS as error:
            raise UnreadableImage(_reason(data, error)) from error


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise UnreadableImage(
            f"the image has {width:,} x {height:,} pixels, more than"
            f" {max_pixels:,}, and was not decoded"
        )
    if max(width, height) > MAX_IMAGE_SIDE:
        raise UnreadableImage(
            f"the image has {width:,} x {height:,} pixels, a side of more than"
            f" {MAX_IMAGE_SIDE:,}, and was not decoded"
        )


def _draft(image: Image.Image, enough_side: int) -> None:
    """Have a JPEG decoded smaller; other formats know no such thing."""
    share = enough_side / max(image.size)
    if share < 1:
        image.draft(None, (ceil(image.width * share), ceil(image.height * share)))


def _is_plain_jpeg(image: Image.Image) -> bool:
    """Tell whether libjpeg's defaults decode the file as Pillow does: baseline, in colour.

    Large ones are Pillow's too: it needs no second copy of the pixels.
    """
    return (
        image.format == "JPEG"
        and image.mode == "RGB"
        and "progressive" not in image.info
        and image.info.get("adobe_transform", 1) == 1
        and image.width * image.height <= LARGE_PIXELS
    )


def _plain_mode(image: Image.Image) -> ImageMode:
    grey = image.mode in {"1", "L"} or image.mode.startswith("I;16")
    return "L" if grey and not image.has_transparency_data else "RGB"


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) where the EXIF block is damaged."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except _DECODE_ERRORS:
        return 1
    return value if isinstance(value, int) else 1


def _flatten(image: Image.Image, mode: ImageMode) -> Image.Image:
    """Return the image in `mode`, opaque, with 8 bits per channel.

    What happens to a pixel depends on no other, so it is done in strips: whole copies of a
    large image on the way would take several times its memory.
    """
    if image.mode == mode and not image.has_transparency_data:
        return image
    rows = max(1, _STRIP_PIXELS // image.width)
    if rows >= image.height:
        return _flatten_strip(image, mode)
    flat = Image.new(mode, image.size)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        flat.paste(_flatten_strip(image.crop(box), mode), box)
    return flat


def _flatten_strip(image: Image.Image, mode: ImageMode) -> Image.Image:
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    elif image.mode in {"I", "F"}:
        raise UnreadableImage(
            "32-bit pixels have no agreed range; save the image with 8 or 16 bits"
        )
    elif image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        image = Image.alpha_composite(white, layer).convert("RGB")
    return image.convert(mode)


def _reason(data: bytes, error: BaseException) -> str:
    """Say in a person's words why Pillow gave up."""
    text = str(error)
    unknown = isinstance(error, UnidentifiedImageError)
    known_start = bool(file_type(data))
    if unknown and not known_start:
        return f"not an image in a format that can be read ({', '.join(FORMATS)})"
    ended = "truncated" in text.lower() or isinstance(error, EOFError | struct.error)
    if ended or (unknown and known_start):
        return f"the image is truncated or damaged; the file ends after {len(data):,} bytes"
    return f"the image is damaged ({text or type(error).__name__})"
