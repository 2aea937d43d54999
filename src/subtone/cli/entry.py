"""Run the command line, and turn whatever ends it into one line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from subtone.cli.app import command
from subtone.cli.outcome import DEBUG_VARIABLE, DONE, INTERRUPTED, NOTHING_DONE, Stop, reader_left, say
from subtone.errors import SubtoneError, nearest


def main() -> NoReturn:
    """Run the command line with the program's own arguments, and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Parameters
    ----------
    arguments
        Without the program's name.

    Returns
    -------
    int
        The exit code: 0 all done; 1 some inputs failed, the others are done; 2 wrong usage or nothing done; 130
        interrupted; 141 the reader of our output went away.
    """
    for stream in (sys.stdout, sys.stderr):
        # A file name that is no valid text, or a terminal that lacks a letter, must not end a run. A lone
        # surrogate comes out as \udc80, which JSON reads back.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    for variable in ("HF_HUB_VERBOSITY", "TRANSFORMERS_VERBOSITY"):
        # Their retries and advice would stand between our lines; what fails in the end is told by our error.
        os.environ.setdefault(variable, "error")
    # Threads that wait for each other asleep, not spinning: with one other busy program on two cores, prediction
    # was seen to run five times faster so. Read when torch is loaded, which is later.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        code = command().main(args=list(arguments), prog_name="subtone", standalone_mode=False)
        if code == INTERRUPTED:  # Typer catches the interrupt before we can.
            say("interrupted")
        sys.stdout.flush()
        return code if isinstance(code, int) else DONE
    except Stop as stop:
        return stop.code
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else NOTHING_DONE
    except BrokenPipeError:
        return reader_left()
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except Exception as error:
        return _explain(error)


def _explain(error: Exception) -> int:
    """Say in one line what went wrong."""
    if os.environ.get(DEBUG_VARIABLE, "") not in ("", "0"):
        traceback.print_exception(error)
    if isinstance(error, SubtoneError):
        say(f"error: {error}")
    elif hasattr(
        error, "format_message"
    ):  # Typer's own kinds lie in different places from version to version.
        return _explain_usage(error)
    elif type(error).__name__ == "Abort":
        say("interrupted")
        return INTERRUPTED
    elif isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename is not None else ""
        say(f"error: {place}{(error.strerror or str(error)).lower()}")
    elif isinstance(error, MemoryError):
        say("error: not enough memory; give fewer or shorter recordings at a time")
    else:
        reason = str(error).strip().split("\n")[0]
        say(
            f"error: unexpected {type(error).__name__}: {reason}; this is a fault of Subtone: run again with "
            "'subtone --debug …' and report what it prints"
        )
    return NOTHING_DONE


def _explain_usage(error: Any) -> int:
    """A wrong command, option or value: what, the nearest right one, and where the help is."""
    context: Any = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "subtone"
    if type(error).__name__ == "NoArgsIsHelpError":  # The help was printed while the error was made.
        return NOTHING_DONE
    option = str(getattr(error, "option_name", ""))
    message = error.format_message().strip().rstrip(".")
    if type(error).__name__ == "NoSuchOption" and context is not None:
        known = [name for parameter in context.command.params for name in parameter.opts if name[:2] == "--"]
        message = f"no such option {option!r}; {nearest(option, [*known, '--help'])}"
    elif message.startswith("No such command") and context is not None:
        name = message.split("'")[1]
        message = f"no such command {name!r}; {nearest(name, context.command.commands)}"
    else:
        message = message[:1].lower() + message[1:]
    say(f"error: {message} (see '{path} --help')")
    return NOTHING_DONE
