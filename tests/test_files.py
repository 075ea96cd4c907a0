"""Writing files: the old content or the new one, never a part."""

import os
from pathlib import Path

import pytest

from parser_vae.files import replacing, write_text_atomically


def test_a_text_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text_atomically(path, "ä\r\n")
    write_text_atomically(path, "ö\r\n")
    assert path.read_bytes() == "ö\r\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_half_way_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_links_and_modes_are_kept(tmp_path: Path) -> None:
    path, link = tmp_path / "a.txt", tmp_path / "link"
    path.write_text("old")
    path.chmod(0o600)
    link.symlink_to(path)
    write_text_atomically(link, "new")
    assert link.is_symlink()
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_new_file_gets_the_usual_mode(tmp_path: Path) -> None:
    write_text_atomically(tmp_path / "a", "")
    (tmp_path / "b").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_device_is_written_to_and_not_replaced() -> None:
    write_text_atomically(Path(os.devnull), "gone")
    assert Path(os.devnull).is_char_device()
