"""The options that every command has, and what happens when a command does not end well.

Exit codes: 0 done; 1 the user's input is at fault; 2 usage; 70 a defect of the package; 130 interrupted.
"""

from __future__ import annotations

import functools
import inspect
import shlex
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from parser_vae.errors import ConfigError, InputError

if TYPE_CHECKING:
    from parser_vae.training.progress import Progress


class Interrupted(Exception):
    """The user stopped a command; the message says how to go on."""


@dataclass(frozen=True)
class Common:
    """The values of the options that every command has."""

    config: Path | None
    overrides: list[str] | None
    device: str
    threads: int | None
    quiet: bool
    debug: bool

    def progress(self) -> Progress:
        """Return the display of progress that fits standard error and ``--quiet``."""
        from .console import console_progress

        return console_progress(self.quiet)

    def prepare_torch(self) -> str:
        """Return the name of the device to use, after applying ``--threads`` to torch and to compiled kernels."""
        import torch

        if self.threads is not None:
            torch.set_num_threads(self.threads)  # compiled kernels use as many as torch does
        try:
            torch.empty(1, device=self.device)
        except (RuntimeError, AssertionError):
            raise InputError(f"--device {self.device}: not available here; use --device cpu") from None
        return self.device

    def prepare_training(self) -> None:
        """Apply ``--threads``; raise ``InputError`` for a device other than the CPU, on which all training runs."""
        if self.device != "cpu":
            raise InputError(f"--device {self.device}: training runs on the CPU only; leave --device out")
        self.prepare_torch()


def _config_callback(context: typer.Context, value: Path | None) -> Path | None:
    if value is not None and not _has_settings(context):
        from parser_vae.training.config import read_toml

        _set_defaults(context, read_toml(value), str(value))
    return value


def _override_callback(context: typer.Context, value: list[str] | None) -> list[str]:
    overrides = value or []
    if not _has_settings(context):
        from parser_vae.training.config import parse_override

        for override in overrides:
            key, parsed = parse_override(override)
            section, dot, name = key.partition(".")
            _set_defaults(context, {section: {name: parsed} if dot else parsed}, f"--set {override}")
    return overrides


def _has_settings(context: typer.Context) -> bool:
    """Return whether the command reads ``--config`` and ``--set`` itself, into a settings model."""
    return bool(getattr(context.command.callback, "has_settings", False))


def _set_defaults(context: typer.Context, values: dict[str, Any], source: str) -> None:
    """Let the section named like the command give defaults to the command's options."""
    from parser_vae.training.config import nearest_key

    section = str(context.info_name)
    names = [f"{section}.{parameter.name}" for parameter in context.command.params if parameter.name not in _OWN]
    given = values.get(section, {})
    if not isinstance(given, dict):
        raise ConfigError(f"{source}: {section}: expected a section with keys, not {given!r}")
    for key in [name for name in values if name != section] + [f"{section}.{name}" for name in given]:
        if key not in names:
            raise ConfigError(f"{source}: unknown key {key}; {nearest_key(key, [section, *names])}")
    defaults = {name: value if isinstance(value, list) else str(value) for name, value in given.items()}
    context.default_map = {**(context.default_map or {}), **defaults}


_PARAMETERS = {
    "config": Annotated[
        Path | None,
        typer.Option(
            help="A TOML file with settings; flags override it.",
            metavar="TOML",
            is_eager=True,
            callback=_config_callback,
            rich_help_panel="Everywhere",
        ),
    ],
    "overrides": Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="One setting, for example training.seed=3; may be repeated.",
            metavar="SECTION.KEY=VALUE",
            is_eager=True,
            callback=_override_callback,
            rich_help_panel="Everywhere",
        ),
    ],
    "device": Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1.", rich_help_panel="Everywhere")],
    "threads": Annotated[
        int | None,
        typer.Option(min=1, help="Threads to compute with; by default torch decides.", rich_help_panel="Everywhere"),
    ],
    "quiet": Annotated[bool, typer.Option("--quiet", help="No progress.", rich_help_panel="Everywhere")],
    "debug": Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel="Everywhere")
    ],
}
_DEFAULTS: dict[str, Any] = {
    "config": None,
    "overrides": None,
    "device": "cpu",
    "threads": None,
    "quiet": False,
    "debug": False,
}
_OWN = {*_PARAMETERS, "help"}


def with_common_options(
    function: Callable[..., None], has_settings: bool = False, group: str = ""
) -> Callable[..., None]:
    """Return the command with the common options added; it gets them as ``common`` if it has such a parameter.

    Args:
        function: The command.
        has_settings: It reads ``common.config`` and ``common.overrides`` into a settings model. Otherwise they give
            defaults to the options of the command, in a section of its name.
        group: The command it is a command of, if any.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = [
        parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "common"
    ]
    takes_common = "common" in hints
    for name, annotation in _PARAMETERS.items():
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(name, kind, default=_DEFAULTS[name], annotation=annotation))

    @functools.wraps(function)
    def command(**values: Any) -> None:
        common = Common(**{name: values.pop(name) for name in _PARAMETERS})
        try:
            function(**values, **({"common": common} if takes_common else {}))
        except KeyboardInterrupt:
            raise Interrupted(_how_to_go_on(f"{group} {function.__name__}", values, common)) from None

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.has_settings = has_settings  # type: ignore[attr-defined]
    return command


def _how_to_go_on(command: str, values: dict[str, Any], common: Common) -> str:
    if "resume" not in values or not (values["out"] / "config.toml").is_file():
        return "interrupted"
    words = ["parser-vae", *command.split(), "--out", str(values["out"]), "--resume"]
    words += ["--device", common.device] if common.device != "cpu" else []
    words += ["--threads", str(common.threads)] if common.threads is not None else []
    return f"interrupted; resume with: {shlex.join(words)}"
