"""Readers of image files: npz, IDX, MATLAB and a folder of pictures with a table of attributes; arrays of uint8.

Every reader returns images ``[count, channels, height, width]`` with ink (or light) at 255.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from parser_vae.errors import InputError

Bytes = NDArray[np.uint8]
Whole = NDArray[np.int64]

_LARGEST_CLASS = 9999
_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read_npz(path: Path) -> tuple[Bytes, Whole]:
    """Return images and classes of an npz file with the arrays ``x`` (uint8) and ``y``.

    Raises:
        InputError: The file is no npz, an array is missing, or their shapes do not fit.
    """
    try:
        with _opened(path) as content:
            missing = {"x", "y"} - set(content.files)
            if missing:
                names = ", ".join(content.files)
                raise InputError(f"{path}: no array {' and '.join(sorted(missing))}; it has {names}, expected x and y")
            images, labels = content["x"], content["y"]
    except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: not an npz file that can be read ({_reason(error)}); fetch it again") from None
    return _images(path, images), _labels(path, labels, len(images))


def _opened(path: Path) -> NpzFile:
    content = np.load(path, allow_pickle=False)
    if not isinstance(content, NpzFile):
        raise ValueError("it holds one array without a name")
    return content


def read_idx(images: Path, labels: Path) -> tuple[Bytes, Whole]:
    """Return images and classes of a pair of IDX files, gzipped or not (LeCun et al., 1998).

    Raises:
        InputError: A file is not IDX, is cut short, or the two do not belong together.
    """
    pictures = _idx(images)
    return _images(images, pictures), _labels(labels, _idx(labels), len(pictures))


def _idx(path: Path) -> NDArray[np.generic]:
    """Return the array of one IDX file."""
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({_reason(error)}); fetch it again") from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise InputError(f"{path}: not an IDX file (it starts with {content[:4].hex(' ')}); expected 00 00 08 03 or so")
    dimensions = content[3]
    start = 4 + 4 * dimensions
    shape = struct.unpack(f">{dimensions}I", content[4:start]) if len(content) >= start else ()
    kind = np.dtype(_IDX_TYPES[content[2]])
    wanted = start + kind.itemsize * math.prod(shape)
    if len(content) < start or len(content) != wanted:
        raise InputError(f"{path}: {len(content)} bytes, but its header promises {wanted}; fetch it again")
    return np.frombuffer(content, kind, offset=start).reshape(shape).copy()


def read_burda(path: Path) -> tuple[Bytes, Whole, Bytes, Whole]:
    """Return train images and classes, then test images and classes, of Omniglot as cut by Burda et al. (2016).

    The file is ``chardata.mat``: ``data [784, 24345]`` and ``testdata [784, 8070]`` in column-major pixels with ink at
    1, and ``target``/``testtarget``, one row per alphabet.

    Raises:
        InputError: The file is no such MATLAB file.
    """
    from scipy.io import loadmat  # here, because it is slow to import

    try:
        content = loadmat(path)
    except (OSError, ValueError, NotImplementedError, TypeError, zlib.error) as error:
        raise InputError(f"{path}: not a MATLAB file that can be read ({_reason(error)}); fetch it again") from None
    result: list[NDArray[np.generic]] = []
    for name, target in (("data", "target"), ("testdata", "testtarget")):
        if name not in content or content[name].ndim != 2 or content[name].shape[0] != 784:
            raise InputError(f"{path}: no matrix {name} of 784 rows; expected the chardata.mat of Burda et al.")
        pixels = content[name].T.reshape(-1, 1, 28, 28).transpose(0, 1, 3, 2)
        images = np.rint(np.clip(pixels.astype(np.float64), 0, 1) * 255).astype(np.uint8)
        labels = content[target].argmax(0) if target in content else np.zeros(len(images))
        result += [images, _labels(path, labels, len(images))]
    return result[0], result[1], result[2], result[3]  # type: ignore[return-value]


def read_attributes(path: Path) -> tuple[list[str], list[str], NDArray[np.bool_]]:
    """Return the file names, the attributes' names and their values ``[images, attributes]`` of CelebA's table.

    The first line is the number of images, the second names the attributes, every other one is a file name and a 1 or
    -1 for each attribute.

    Raises:
        InputError: A line is not like that; the message has its number.
    """
    lines = _text_lines(path)
    if len(lines) < 2 or not lines[0].strip().isdigit():
        raise InputError(f"{path}:1: expected the number of images, as in list_attr_celeba.txt")
    attributes = lines[1].split()
    names, rows = [], []
    for number, line in enumerate(lines[2:], start=3):
        name, *values = line.split() or [""]
        if len(values) != len(attributes) or not set(values) <= {"1", "-1"}:
            raise InputError(f"{path}:{number}: expected a file name and {len(attributes)} values of 1 or -1")
        names.append(name)
        rows.append([value == "1" for value in values])
    if len(names) != int(lines[0]):
        raise InputError(f"{path}: {len(names)} images, but its first line promises {int(lines[0])}; fetch it again")
    return names, attributes, np.array(rows, dtype=np.bool_)


def read_partition(path: Path) -> dict[str, int]:
    """Return the part of each file, 0 for training, 1 for validation, 2 for test, of CelebA's list of parts.

    Raises:
        InputError: A line is not a file name and a part; the message has its number.
    """
    parts = {}
    for number, line in enumerate(_text_lines(path), start=1):
        words = line.split()
        if len(words) != 2 or words[1] not in ("0", "1", "2"):
            raise InputError(f"{path}:{number}: expected a file name and its part, 0, 1 or 2")
        parts[words[0]] = int(words[1])
    return parts


def read_pictures(folder: Path, names: list[str], side: int) -> Bytes:
    """Return colour pictures ``[count, 3, side, side]``: the largest centred square, resized.

    Raises:
        InputError: The pictures' reader is not installed, or a picture is missing or damaged.
    """
    try:
        from PIL import Image
    except ImportError:
        raise InputError("reading pictures needs Pillow; pip install 'parser-vae[plots]'") from None
    result = np.empty((len(names), 3, side, side), np.uint8)
    for index, name in enumerate(names):
        try:
            with Image.open(folder / name) as picture:
                width, height = picture.size
                square = min(width, height)
                left, top = (width - square) // 2, (height - square) // 2
                box = (left, top, left + square, top + square)
                small = picture.convert("RGB").resize((side, side), Image.Resampling.BILINEAR, box)
        except OSError as error:
            raise InputError(f"{folder / name}: not a picture that can be read ({_reason(error)})") from None
        result[index] = np.asarray(small).transpose(2, 0, 1)
    return result


def _text_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({_reason(error)})") from None


def _images(path: Path, images: NDArray[np.generic]) -> Bytes:
    fits = images.ndim == 3 or (images.ndim == 4 and images.shape[1] in (1, 3))
    if images.dtype != np.uint8 or not fits or not images.size:
        raise InputError(
            f"{path}: images are {images.dtype} {list(images.shape)}; expected uint8 [count, height, width], or "
            "[count, channels, height, width] with 1 or 3 channels"
        )
    return np.ascontiguousarray(images[:, None] if images.ndim == 3 else images)


def _labels(path: Path, labels: NDArray[np.generic], count: int) -> Whole:
    if labels.shape != (count,):
        raise InputError(f"{path}: classes {list(labels.shape)} for {count} images; expected one number for each")
    whole = labels.dtype.kind in "biuf" and bool((labels == np.floor(labels)).all())
    if not whole or labels.min() < 0 or labels.max() > _LARGEST_CLASS:
        raise InputError(f"{path}: classes must be whole numbers from 0 to {_LARGEST_CLASS}, one for each image")
    return labels.astype(np.int64)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
