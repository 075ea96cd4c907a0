"""Image sets: train, validation and test images that share nothing, and how grey becomes black and white.

``digits`` (scikit-learn's, 8x8) and ``shapes`` (generated) need no files. Any other name is looked for in a folder,
in the forms that such sets are published in; ``docs/images.md`` lists them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from parser_vae.errors import ConfigError, InputError
from parser_vae.images.formats import (
    read_attributes,
    read_burda,
    read_idx,
    read_npz,
    read_partition,
    read_pictures,
)
from parser_vae.images.shapes import ATTRIBUTES, draw_shapes

Binarisation = Literal["round", "fixed", "dynamic", "none"]
CELEBA_ATTRIBUTES = ("Eyeglasses", "Smiling", "Male")
CELEBA_SIDE = 64

_SPLIT_SEED, _BINARY_SEED = 775, 776
_SHAPES = 6000


@dataclass(frozen=True)
class Images:
    """Some images and what is known about them.

    Attributes:
        pixels: ``[count, channels, height, width]`` (uint8).
        labels: The class of each ``[count]`` (int64); 0 for all where there are none.
        attributes: Yes-no properties ``[count, attributes]`` (0/1, uint8); no columns where there are none.
    """

    pixels: Tensor
    labels: Tensor
    attributes: Tensor

    def __len__(self) -> int:
        """Return how many images there are."""
        return len(self.pixels)

    def take(self, index: Tensor | slice) -> Images:
        """Return the images at these places, in this order."""
        return Images(self.pixels[index], self.labels[index], self.attributes[index])


@dataclass(frozen=True)
class ImageSet:
    """A set of images in three parts.

    Attributes:
        name: What it is called.
        train: What a model learns from.
        validation: What decides between epochs; held out of the train files, so no image of it is in ``train``.
        test: Looked at once, at the end.
        attributes: The names of the attributes' columns.
    """

    name: str
    train: Images
    validation: Images
    test: Images
    attributes: tuple[str, ...] = ()


def load_images(
    name: str,
    folder: Path | None = None,
    *,
    validation: int | None = None,
    train: int | None = None,
    test: int | None = None,
) -> ImageSet:
    """Return a set by its name.

    The train file is shuffled once, always alike, because some are sorted by class; its last images are the validation
    part. Test files keep their order.

    Args:
        name: ``digits``, ``shapes``, or a set in ``folder``.
        folder: Where ``NAME_train.npz`` and ``NAME_test.npz``, four IDX files, ``chardata.mat`` or CelebA's files are;
            also looked for in a folder NAME within it.
        validation: How many images are held out; by default a sixth where there are 60,000 (as in the papers), 1,345 of
            Burda's 24,345, and a tenth of any other set.
        train: Use only so many of the remaining train images; None: all.
        test: Use only the first so many test images; None: all.

    Raises:
        InputError: There is no such set, or a file of it is damaged.
    """
    names: tuple[str, ...] = ()
    if name == "digits":
        learn, examine = _digits()
    elif name == "shapes":
        learn, examine = (_shapes(_SHAPES, 1), _shapes(_SHAPES // 6, 2))
        names = ATTRIBUTES
    else:
        learn, examine, names = _from_folder(name, folder)
    if validation is None:
        validation = {60_000: 10_000, 24_345: 1_345}.get(len(learn), len(learn) // 10)
    if not 0 < validation < len(learn):
        raise InputError(f"{name}: {validation} validation images out of {len(learn)}; hold out fewer, and at least 1")
    if learn.pixels.shape[1:] != examine.pixels.shape[1:]:
        sizes = " and ".join("x".join(map(str, part.pixels.shape[1:])) for part in (learn, examine))
        raise InputError(f"{name}: train and test images are {sizes} (channels, height, width); they must be alike")
    order = torch.randperm(len(learn), generator=torch.Generator().manual_seed(_SPLIT_SEED))
    kept, held = order[:-validation], order[-validation:]
    return ImageSet(name, learn.take(kept[:train]), learn.take(held), examine.take(slice(test)), names)


def binarised(images: Images, how: Binarisation) -> Images:
    """Return the images with pixels of 0 and 255 only: ``round`` cuts at one half, ``fixed`` draws each pixel once.

    The draw is always the same. Grey values stay for ``dynamic``, where ``draw_pixels`` makes every batch anew, and for
    ``none``.
    """
    if how not in get_args(Binarisation):
        raise ConfigError(f"data.binarise is '{how}'; choose one of {', '.join(get_args(Binarisation))}")
    if how == "round":
        ink = images.pixels > 127
    elif how == "fixed":
        ink = draw_pixels(images.pixels.float() / 255, torch.Generator().manual_seed(_BINARY_SEED)) > 0
    else:
        return images
    return replace(images, pixels=ink.to(torch.uint8) * 255)


def draw_pixels(grey: Tensor, generator: torch.Generator) -> Tensor:
    """Return black and white images, each pixel 1 with the probability that its grey value is."""
    return (torch.rand(grey.shape, generator=generator) < grey).to(grey)


def _digits() -> tuple[Images, Images]:
    from sklearn.datasets import load_digits  # here, because it is slow to import

    content = load_digits()
    pixels = torch.from_numpy(np.rint(content.images * (255 / 16)).astype(np.uint8))[:, None]
    labels = torch.from_numpy(content.target.astype(np.int64))
    every = _images(pixels.numpy(), labels.numpy())
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(_SPLIT_SEED))
    return every.take(order[360:]), every.take(order[:360])


def _shapes(count: int, seed: int) -> Images:
    pixels, attributes = draw_shapes(count, seed)
    return _images(pixels, (attributes * (1, 2, 4)).sum(1).astype(np.int64), attributes)


def _from_folder(name: str, folder: Path | None) -> tuple[Images, Images, tuple[str, ...]]:
    if folder is None:
        raise InputError(f"'{name}' needs its files: name their folder with --data, or use digits or shapes")
    if not folder.is_dir():
        raise InputError(f"--data {folder}: no such folder")
    for place in (folder, folder / name):
        npz = [place / f"{name}_{part}.npz" for part in ("train", "test")]
        if all(path.is_file() for path in npz):
            learn, examine = (_images(*read_npz(path)) for path in npz)
            return learn, examine, ()
        # MNIST, Fashion-MNIST and KMNIST have files of the same names, so a folder says by its own which it is
        if place == folder / name or place.name == name:
            idx = [
                _first(place, f"{part}-{kind}")
                for part in ("train", "t10k")
                for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
            ]
            if None not in idx:
                paths = [path for path in idx if path is not None]
                return _images(*read_idx(*paths[:2])), _images(*read_idx(*paths[2:])), ()
        if name == "omniglot" and (place / "chardata.mat").is_file():
            train, train_labels, test, test_labels = read_burda(place / "chardata.mat")
            return _images(train, train_labels), _images(test, test_labels), ()
        if name == "celeba" and (place / "list_attr_celeba.txt").is_file():
            return _celeba(place)
    raise InputError(
        f"--data {folder}: no set '{name}' in it; expected {name}_train.npz and {name}_test.npz, or a folder {name} "
        "with train-images-idx3-ubyte.gz and its three companions (omniglot: chardata.mat; celeba: "
        "list_attr_celeba.txt)"
    )


def _first(place: Path, stem: str) -> Path | None:
    """Return the IDX file of that name, gzipped or not, or None."""
    return next((path for path in (place / stem, place / f"{stem}.gz") if path.is_file()), None)


def _celeba(place: Path) -> tuple[Images, Images, tuple[str, ...]]:
    """Return the faces with three attributes; the official parts by number, or a sixth for testing without them."""
    files, attributes, values = read_attributes(place / "list_attr_celeba.txt")
    missing = set(CELEBA_ATTRIBUTES) - set(attributes)
    if missing:
        raise InputError(f"{place / 'list_attr_celeba.txt'}:2: no attribute {', '.join(sorted(missing))}")
    chosen = values[:, [attributes.index(attribute) for attribute in CELEBA_ATTRIBUTES]]
    partition = place / "list_eval_partition.txt"
    part = np.zeros(len(files), np.int64)
    if partition.is_file():
        by_name = read_partition(partition)
        part = np.array([by_name.get(name, 0) for name in files])
    else:
        part[-max(1, len(files) // 6) :] = 2
    pixels = read_pictures(place / "img_align_celeba", files, CELEBA_SIDE)
    every = _images(pixels, (chosen * (1, 2, 4)).sum(1).astype(np.int64), chosen)
    test = torch.from_numpy(part == 2)
    # validation is cut from the rest by load_images, as for every set
    return every.take(~test), every.take(test), CELEBA_ATTRIBUTES


def _images(
    pixels: NDArray[np.uint8], labels: NDArray[np.int64], attributes: NDArray[np.bool_] | None = None
) -> Images:
    known = np.zeros((len(pixels), 0), np.bool_) if attributes is None else attributes
    return Images(
        torch.from_numpy(np.ascontiguousarray(pixels)),
        torch.from_numpy(np.ascontiguousarray(labels)),
        torch.from_numpy(known.astype(np.uint8)),
    )
