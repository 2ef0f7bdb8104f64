"""Reading of image files, with reasons for those that cannot be read."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

with suppress(ImportError):  # optional: Pillow's plugin for HEIC
    from pillow_heif import register_heif_opener

    register_heif_opener()

_OPEN_ERRORS = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
_DECODE_ERRORS = (OSError, SyntaxError, EOFError, ValueError, struct.error, zlib.error)

_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_OTHER_FILES = {
    b"\xff\x0a": "JPEG XL: save it as PNG",
    b"\0\0\0\x0cJXL ": "JPEG XL: save it as PNG",
    b"<svg": "an SVG drawing: render it as PNG",
    b"<?xml": "an XML file, perhaps an SVG drawing: render it as PNG",
    b"<!doctype html": "a web page, perhaps of a failed download",
    b"<html": "a web page, perhaps of a failed download",
    b"version https://git-lfs": "a pointer of Git LFS: fetch the file with `git lfs pull`",
    b"%pdf": "a PDF: render its page as PNG",
}
"""First bytes, in lower case where they are letters, of files that are no images for Pillow."""


def read_image(source: Path | str) -> Image.Image:
    """The image in a file that Pillow can open, rotated as its EXIF orientation says.

    An animation's first frame. ValueError with the reason if the file cannot be read.
    """
    try:
        with Image.open(source) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except _OPEN_ERRORS as error:
        raise ValueError(f"the file cannot be opened: {error.strerror}") from error
    except UnidentifiedImageError as error:
        raise ValueError(_description(Path(source))) from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"the image is too large to be read safely: {error}") from error
    except _DECODE_ERRORS as error:
        raise ValueError(f"the image is truncated or corrupt: {error}") from error


def _description(path: Path) -> str:
    """What a file is that Pillow does not know, as far as its first bytes say."""
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        return "the file is empty"
    if start[4:8] == b"ftyp" and start[8:12] in _HEIC_BRANDS:
        return "the image is HEIC: install pillow-heif to read it, or save it as JPEG or PNG"
    for first_bytes, description in _OTHER_FILES.items():
        if start.startswith(first_bytes) or start.lower().lstrip().startswith(first_bytes):
            return f"the file is {description}"
    return "the file is not an image in a format that Pillow can read"
