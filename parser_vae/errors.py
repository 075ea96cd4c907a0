"""Every error the package raises on purpose.

ParserVaeError
├── InputError                 what the user gave is at fault; the command line exits with 1
│   ├── TreebankError          a CoNLL-U file: path, line, what is wrong, what to do
│   ├── ConfigError            a setting: unknown key, wrong type, contradiction
│   ├── ModelFolderError       a model folder: missing file, wrong hash, newer format
│   └── InfeasibleError        scores that forbid every structure: which sentence
├── IncompatibleError          a method asked of a structure or problem that cannot serve it, and why
└── LostProcessError           another process of the same run ended early
"""

from __future__ import annotations


class ParserVaeError(Exception):
    """The base of all errors raised on purpose; its message is one line fit for a user."""


class InputError(ParserVaeError):
    """What the user gave (a file, a flag, a setting) is at fault."""


class TreebankError(InputError):
    """A problem in a CoNLL-U file, shown as ``path:line: what; remedy``.

    Attributes:
        path: The file as the user named it (``<stdin>`` for standard input).
        line: The 1-based number of the offending line, or None for the file as a whole.
        what: What is wrong, in a clause without a full stop.
        remedy: What the user can do about it.
    """

    def __init__(self, path: str, line: int | None, what: str, remedy: str) -> None:
        self.path, self.line, self.what, self.remedy = path, line, what, remedy
        place = path if line is None else f"{path}:{line}"
        super().__init__(f"{place}: {what}; {remedy}")


class ConfigError(InputError):
    """A setting is unknown, of the wrong type or contradicts another one."""


class ModelFolderError(InputError):
    """A model folder lacks a file, fails its hash, or was written in a format this version cannot read."""


class InfeasibleError(InputError):
    """The scores of a sentence (or item) forbid every structure; the message names its index in the batch."""


class IncompatibleError(ParserVaeError):
    """A method was asked of a structure or problem that lacks what it needs; the message says what and why."""


class LostProcessError(ParserVaeError):
    """Another process that shares the run's work has ended, so this one cannot go on."""
