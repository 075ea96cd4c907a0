"""Image sets: every format is read back as written, parts share nothing, bad files are refused with one line."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from parser_vae.errors import ConfigError, InputError
from parser_vae.images.data import binarised, draw_pixels, load_images
from parser_vae.images.formats import read_attributes, read_burda, read_idx, read_npz, read_partition
from parser_vae.images.shapes import ATTRIBUTES, draw_shapes


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28)).astype(np.uint8)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, compress: bool) -> tuple[np.ndarray, np.ndarray]:
    folder.mkdir()
    train, test = pictures(40, 1), pictures(10, 2)
    for part, images in (("train", train), ("t10k", test)):
        for kind, array in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", np.arange(len(images)) % 10)):
            content = idx(array)
            name = f"{part}-{kind}" + (".gz" if compress else "")
            (folder / name).write_bytes(gzip.compress(content) if compress else content)
    return train, test


def test_digits_come_without_files_in_three_parts_that_share_no_image() -> None:
    images = load_images("digits")
    assert [len(part) for part in (images.train, images.validation, images.test)] == [1294, 143, 360]
    assert images.train.pixels.shape[1:] == (1, 8, 8)
    assert int(images.train.pixels.max()) == 255
    assert set(images.train.labels.tolist()) == set(range(10))


@pytest.mark.parametrize("compress", [True, False])
def test_idx_files_are_split_without_overlap(tmp_path: Path, compress: bool) -> None:
    train, test = write_idx(tmp_path / "kmnist", compress)
    images = load_images("kmnist", tmp_path, validation=7)
    assert torch.equal(images.test.pixels[:, 0], torch.from_numpy(test))
    seen = [picture.tobytes() for part in (images.train, images.validation) for picture in part.pixels[:, 0].numpy()]
    assert len(images.validation) == 7
    assert sorted(seen) == sorted(picture.tobytes() for picture in train)
    again = load_images("kmnist", tmp_path / "kmnist", validation=7, train=5, test=3)
    assert torch.equal(again.train.pixels, images.train.pixels[:5])
    assert torch.equal(again.test.labels, torch.arange(3))


def test_npz_files_by_name(tmp_path: Path) -> None:
    for part, count in (("train", 12), ("test", 4)):
        np.savez(tmp_path / f"mine_{part}.npz", x=pictures(count), y=np.arange(count))
    images = load_images("mine", tmp_path)
    assert (len(images.train), len(images.validation), len(images.test)) == (11, 1, 4)


def test_burdas_omniglot_has_column_major_pixels(tmp_path: Path) -> None:
    train, test = pictures(30).astype(float) / 255, pictures(6, 1).astype(float) / 255
    content = {
        "data": train.transpose(0, 2, 1).reshape(30, 784).T,
        "testdata": test.transpose(0, 2, 1).reshape(6, 784).T,
        "target": np.eye(5)[:, np.arange(30) % 5],
    }
    savemat(tmp_path / "chardata.mat", content)
    images, labels, held, _ = read_burda(tmp_path / "chardata.mat")
    assert np.array_equal(images[:, 0], pictures(30))
    assert np.array_equal(held[:, 0], pictures(6, 1))
    assert np.array_equal(labels, np.arange(30) % 5)
    assert len(load_images("omniglot", tmp_path).train) == 27


def test_celeba_is_a_folder_of_pictures_and_a_table(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "img_align_celeba").mkdir()
    lines = ["12", "Bald Eyeglasses Male Smiling"]
    for number in range(12):
        colour = (number * 20, 255 - number * 20, 7)
        image.new("RGB", (178, 218), colour).save(tmp_path / "img_align_celeba" / f"{number:06}.png")
        lines.append(f"{number:06}.png -1 {1 if number % 2 else -1} 1 {1 if number > 5 else -1}")
    (tmp_path / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    images = load_images("celeba", tmp_path, validation=2)
    assert images.attributes == ("Eyeglasses", "Smiling", "Male")
    assert images.train.pixels.shape == (8, 3, 64, 64)
    assert images.test.attributes.tolist() == [[0, 1, 1], [1, 1, 1]]
    assert images.test.pixels[0, :, 5, 5].tolist() == [200, 55, 7]


def test_binarisation() -> None:
    digits = load_images("digits").train
    rounded = binarised(digits, "round").pixels
    assert torch.equal(rounded > 0, digits.pixels >= 128)
    fixed = binarised(digits, "fixed").pixels
    assert torch.equal(fixed, binarised(digits, "fixed").pixels)
    assert set(fixed.unique().tolist()) == {0, 255}
    assert abs(float(fixed.float().mean() - digits.pixels.float().mean())) < 1.0
    assert torch.equal(binarised(digits, "dynamic").pixels, digits.pixels)
    grey = torch.tensor([0.0, 0.25, 1.0]).repeat(4000, 1)
    drawn = draw_pixels(grey, torch.Generator().manual_seed(0)).mean(0)
    assert drawn[0] == 0
    assert drawn[2] == 1
    assert abs(float(drawn[1]) - 0.25) < 0.03
    with pytest.raises(ConfigError, match="choose one of round, fixed, dynamic, none"):
        binarised(digits, "sometimes")  # type: ignore[arg-type]


def test_shapes_show_their_attributes() -> None:
    images, attributes = draw_shapes(400, seed=3)
    again, _ = draw_shapes(400, seed=3)
    assert np.array_equal(images, again)
    assert attributes.shape == (400, len(ATTRIBUTES))
    ink = (images > 0).sum((1, 2, 3))
    filled, barred = attributes[:, 1], attributes[:, 2]
    assert ink[filled & ~barred].mean() > 1.5 * ink[~filled & ~barred].mean()
    assert ink[barred & ~filled].mean() > ink[~barred & ~filled].mean() + 10


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK nonsense", "not an npz file that can be read"),
        (b"", "not an npz file that can be read"),
    ],
)
def test_a_bad_npz_file(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(InputError) as raised:
        read_npz(tmp_path / "x.npz")
    assert str(raised.value).startswith(f"{tmp_path / 'x.npz'}: {message}")


def test_npz_with_other_arrays(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, images=pictures(2))
    with pytest.raises(InputError) as raised:
        read_npz(path)
    assert str(raised.value) == f"{path}: no array x and y; it has images, expected x and y"
    np.savez(path, x=pictures(2).astype(float), y=np.arange(2))
    with pytest.raises(InputError) as raised:
        read_npz(path)
    assert str(raised.value) == (
        f"{path}: images are float64 [2, 28, 28]; expected uint8 [count, height, width], or "
        "[count, channels, height, width] with 1 or 3 channels"
    )
    np.savez(path, x=pictures(2), y=np.arange(3))
    with pytest.raises(InputError) as raised:
        read_npz(path)
    assert str(raised.value) == f"{path}: classes [3] for 2 images; expected one number for each"


def test_bad_idx_files(tmp_path: Path) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    labels.write_bytes(idx(np.arange(3)))
    images.write_bytes(b"\x89PNG....")
    with pytest.raises(InputError) as raised:
        read_idx(images, labels)
    assert str(raised.value) == (f"{images}: not an IDX file (it starts with 89 50 4e 47); expected 00 00 08 03 or so")
    whole = idx(pictures(3))
    images.write_bytes(whole[:-5])
    with pytest.raises(InputError) as raised:
        read_idx(images, labels)
    assert str(raised.value) == f"{images}: 2363 bytes, but its header promises 2368; fetch it again"
    images.write_bytes(gzip.compress(whole)[:-30])
    with pytest.raises(InputError, match="cannot be read"):
        read_idx(images, labels)


def test_bad_matlab_file(tmp_path: Path) -> None:
    path = tmp_path / "chardata.mat"
    path.write_bytes(b"no matlab" * 40)
    with pytest.raises(InputError, match="not a MATLAB file that can be read"):
        read_burda(path)
    savemat(path, {"data": np.zeros((10, 3))})
    with pytest.raises(InputError) as raised:
        read_burda(path)
    assert str(raised.value) == f"{path}: no matrix data of 784 rows; expected the chardata.mat of Burda et al."


def test_bad_attribute_table(tmp_path: Path) -> None:
    path = tmp_path / "list_attr_celeba.txt"
    path.write_text("2\nBald Male\na.jpg 1 -1\nb.jpg 1\n")
    with pytest.raises(InputError) as raised:
        read_attributes(path)
    assert str(raised.value) == f"{path}:4: expected a file name and 2 values of 1 or -1"
    path.write_text("3\nBald Male\na.jpg 1 -1\n")
    with pytest.raises(InputError) as raised:
        read_attributes(path)
    assert str(raised.value) == f"{path}: 1 images, but its first line promises 3; fetch it again"


@pytest.mark.parametrize("line", ["", "a.jpg", "a.jpg 0 1", "a.jpg x"])
def test_bad_lists_of_pictures(line: str, tmp_path: Path) -> None:
    path = tmp_path / "list_eval_partition.txt"
    path.write_text(f"b.jpg 2\n{line}\nc.jpg 0\n")
    with pytest.raises(InputError) as raised:
        read_partition(path)
    assert str(raised.value) == f"{path}:2: expected a file name and its part, 0, 1 or 2"
    path.write_text(f"3\nBald Male\na.jpg 1 -1\n{line}\n")
    with pytest.raises(InputError, match=":4: expected a file name and 2 values of 1 or -1"):
        read_attributes(path)


def test_a_set_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        load_images("mnist")
    assert str(raised.value) == "'mnist' needs its files: name their folder with --data, or use digits or shapes"
    with pytest.raises(InputError, match="no set 'mnist' in it; expected"):
        load_images("mnist", tmp_path)
    with pytest.raises(InputError) as raised:
        load_images("digits", validation=5000)
    assert str(raised.value) == "digits: 5000 validation images out of 1437; hold out fewer, and at least 1"


@pytest.mark.parametrize("classes", [[-1, 0], [0.5, 1], [float("nan"), 1], [10**12, 1], ["a", "b"]])
def test_classes_are_small_whole_numbers(tmp_path: Path, classes: list[object]) -> None:
    np.savez(tmp_path / "x.npz", x=pictures(2), y=np.array(classes))
    with pytest.raises(InputError) as caught:
        read_npz(tmp_path / "x.npz")
    wanted = "classes must be whole numbers from 0 to 9999, one for each image"
    assert str(caught.value) == f"{tmp_path / 'x.npz'}: {wanted}"


def test_an_array_without_names_is_no_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", pictures(2))
    with pytest.raises(InputError, match="it holds one array without a name"):
        read_npz((tmp_path / "x.npy").rename(tmp_path / "x.npz"))


def test_five_channels_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 5, 4, 4), np.uint8), y=np.zeros(2, np.int64))
    with pytest.raises(InputError, match="with 1 or 3 channels"):
        read_npz(tmp_path / "x.npz")


def test_an_idx_header_whose_product_overflows(tmp_path: Path) -> None:
    """2^31 * 2^31 * 4 is 0 in 64 bits, which is as many bytes as the file has."""
    (tmp_path / "images").write_bytes(struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**31, 4))
    with pytest.raises(InputError, match=f"16 bytes, but its header promises {16 + 2**64}"):
        read_idx(tmp_path / "images", tmp_path / "labels")


def test_train_and_test_images_are_alike(tmp_path: Path) -> None:
    np.savez(tmp_path / "a_train.npz", x=pictures(20), y=np.zeros(20, np.int64))
    np.savez(tmp_path / "a_test.npz", x=pictures(5)[:, :20], y=np.zeros(5, np.int64))
    with pytest.raises(InputError) as caught:
        load_images("a", tmp_path)
    assert str(caught.value) == (
        "a: train and test images are 1x28x28 and 1x20x28 (channels, height, width); they must be alike"
    )
