"""The command line: thin Typer commands, one file each; installed as ``parser_vae.cli``.

A command module imports nothing heavy at its top, so that ``--help`` and ``--version`` answer at once.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

import parser_vae
from parser_vae.errors import ParserVaeError

from .adapt import adapt
from .check import check
from .demo import demo
from .evaluate import evaluate
from .graphs import app as graphs
from .images import app as images
from .info import info
from .methods import methods
from .options import Interrupted, with_common_options
from .parse import parse
from .pretrain import pretrain
from .sweep import sweep
from .vectors import vectors

app = typer.Typer(
    help="Adapt a dependency parser to a new domain without labelled trees there.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_SEVERAL = (
    "--text",
    "--target",
    "--silver",
    "--teacher",
)  # options of commands without arguments, so that what follows them is theirs


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"parser-vae {parser_vae.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


_COMMANDS: tuple[Callable[..., None], ...] = (
    *(pretrain, adapt, parse, evaluate, sweep),
    *(check, vectors, info, methods, demo),
)
for _command in _COMMANDS:
    app.command()(with_common_options(_command, has_settings=_command in (pretrain, adapt, sweep)))
app.add_typer(graphs, name="graphs")
app.add_typer(images, name="images")


def run(arguments: Sequence[str]) -> int:
    """Return the exit code of the command line, after printing one line on standard error if it did not end well."""
    debug = "--debug" in arguments
    warnings.showwarning = _show_warning
    try:
        try:
            app(args=_repeated(arguments), prog_name="parser-vae")
        finally:
            sys.stdout.flush()  # here, where it is known what to do when nobody reads
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except ParserVaeError as error:
        return _report(f"error: {error}", 1, debug)
    except BrokenPipeError:
        # The reader went away, as `head` does. Python would complain once more when it flushes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _report(f"error: {where}{error.strerror or error}", 1, debug)
    except Interrupted as stop:
        return _report(str(stop), 130, debug=False)
    except Exception as error:
        text = " ".join(str(error).split())
        remedy = "" if debug else "; rerun with --debug for the traceback"
        return _report(f"error: unexpected {type(error).__name__}: {text}{remedy}", 70, debug)
    return 0


def _repeated(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with ``--text A B`` written as ``--text A --text B``, which is all that Typer knows."""
    result: list[str] = []
    several = ""
    for argument in arguments:
        if argument.startswith("-"):
            several = argument if argument in _SEVERAL else ""
        elif several and result[-1] != several:
            result.append(several)
        result.append(argument)
    return result


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _report(line: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(line, file=sys.stderr)
    return code
