"""Read word vectors out of a fastText ``.bin`` model by memory map, without the fastText package.

Only the rows that are asked for are touched, so a model of several gigabytes costs the memory of its word list, and a
damaged file ends in an error message where the C++ loader would bring the process down. Unseen words get the mean of
the vectors of their character n-grams (Bojanowski et al., 2017, "Enriching word vectors with subword information").
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy
import numpy.typing

from parser_vae.errors import InputError

MAGIC, NEWEST_VERSION, SUPERVISED = 793712314, 12, 3
END_OF_SENTENCE = "</s>"
_ARGUMENTS = struct.Struct("<12id")  # dim ws epoch minCount neg wordNgrams loss model bucket minn maxn lrUpdateRate t
_COUNTS = struct.Struct("<iiiqq")  # entries words labels tokens pruned
_SHAPE = struct.Struct("<?qq")  # quantised rows columns

Floats = numpy.typing.NDArray[numpy.float32]


class FastTextModel:
    """The words and vectors of a fastText model on disk.

    Attributes:
        dimension: Length of a vector.
        rows: Word to its row of the input matrix, for words seen in training.

    Raises:
        InputError: The file is not a fastText model, is cut short, or is quantised (``.ftz``).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            contents = numpy.memmap(path, dtype=numpy.uint8, mode="r")
            self._read(contents.data)
        except (struct.error, IndexError, UnicodeDecodeError, ValueError, OverflowError) as error:
            raise self._damaged() from error

    def vector(self, word: str) -> Floats | None:
        """The vector [dimension] of a word, from its n-grams where it was not seen; None if it has neither."""
        row = self.rows.get(word)
        indices = [] if row is None else [row]
        if word != END_OF_SENTENCE:
            indices += [len(self.rows) + bucket for bucket in self._buckets(word)]
        if not indices:
            return None
        mean: Floats = self._matrix[indices].mean(axis=0, dtype=numpy.float32)
        return mean if numpy.isfinite(mean).all() else None

    def _read(self, contents: memoryview) -> None:
        magic, version = struct.unpack_from("<ii", contents, 0)
        if magic != MAGIC:
            raise InputError(
                f"{self.path}: this is not a fastText model (it starts with the wrong bytes); "
                "name text vectors .vec or .vec.gz, or train a model with `parser-vae vectors`"
            )
        if version > NEWEST_VERSION:
            raise InputError(
                f"{self.path}: this fastText model has format {version}, newer than {NEWEST_VERSION}; "
                "export it as .vec text"
            )
        offset = 8
        arguments = _ARGUMENTS.unpack_from(contents, offset)
        self.dimension = arguments[0]
        kind, self._bucket_count, self._shortest, self._longest = arguments[7:11]
        if version == 11 and kind == SUPERVISED:
            self._longest = 0  # supervised models of that format were trained without n-grams whatever they say
        offset += _ARGUMENTS.size
        entries, word_count, _, _, pruned = _COUNTS.unpack_from(contents, offset)
        offset = self._read_words(contents, offset + _COUNTS.size, entries, word_count)
        quantised, row_count, columns = _SHAPE.unpack_from(contents, offset + 8 * max(pruned, 0))
        if quantised or pruned >= 0:
            raise InputError(f"{self.path}: this fastText model is compressed (.ftz); use the full .bin or .vec text")
        offset += _SHAPE.size
        if (
            columns != self.dimension
            or columns < 1
            or row_count < len(self.rows) + self._bucket_count * (self._longest > 0)
        ):
            raise self._damaged()
        if row_count * columns * 4 > len(contents) - offset:
            raise self._damaged()
        self._matrix: Floats = numpy.memmap(self.path, dtype="<f4", mode="r", offset=offset, shape=(row_count, columns))

    def _read_words(self, contents: memoryview, offset: int, entries: int, word_count: int) -> int:
        """The offset behind the word list, which ends up in ``rows``; labels follow the words and are passed over."""
        if not 0 <= word_count <= entries or entries * 10 > len(contents):
            raise self._damaged()
        self.rows: dict[str, int] = {}
        window_start, window = offset, bytes(contents[offset : offset + (1 << 20)])
        for index in range(entries):
            end = window.find(b"\0", offset - window_start)
            if end < 0:
                window_start, window = offset, bytes(contents[offset : offset + (1 << 20)])
                end = window.index(b"\0")
            if index < word_count:
                # A word that is not UTF-8 keeps its row and can simply not be asked for.
                word = window[offset - window_start : end].decode("utf-8", errors="surrogateescape")
                self.rows.setdefault(word, index)
            offset = window_start + end + 10  # the zero byte, a count of eight bytes and a type of one
        if len(self.rows) != word_count:
            raise self._damaged()
        return offset

    def _buckets(self, word: str) -> list[int]:
        """The hash buckets of the character n-grams of ``<word>``, repetitions included, as fastText finds them."""
        buckets = []
        characters = [character.encode("utf-8", errors="surrogateescape") for character in f"<{word}>"]
        for start in range(len(characters)):
            state = 2166136261  # FNV-1a, with bytes sign-extended as fastText does
            for size, character in enumerate(characters[start : start + self._longest], start=1):
                for byte in character:
                    state = ((state ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * 16777619) & 0xFFFFFFFF
                border_alone = size == 1 and (start == 0 or start == len(characters) - 1)
                if size >= self._shortest and not border_alone:
                    buckets.append(state % self._bucket_count)
        return buckets

    def _damaged(self) -> InputError:
        return InputError(f"{self.path}: this fastText model is damaged or cut short; fetch or train it again")
