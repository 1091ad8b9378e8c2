"""The command ``bayes-rpp``: how symmetric is my data?"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TextIO

from analysis.cli.fitting.log_levels import log_levels
from analysis.cli.options import parser
from analysis.cli.outcome import Outcome

_SETTINGS = {
    *("members", "channels", "layers", "epochs", "batch_size", "lr", "draws", "warmup", "device", "seed"),
    *("noise_variance", "equivariant_variance", "dense_variance"),
}
_TALKATIVE = dict.fromkeys(("inference.progress", "analysis.cli", "analysis.comparison.progress"), logging.INFO)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 0, 1 after an interrupt (Ctrl-C or SIGTERM), or 2 for input that cannot be
    used.
    """
    logging.basicConfig(level=logging.WARNING, format="bayes-rpp: %(message)s")
    given = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(given)
    options.words = shlex.join(["bayes-rpp", *given])
    with _interrupted_once(), _plain_warnings(), log_levels(_TALKATIVE):
        try:
            import matplotlib  # seconds of imports that --help and wrong options do without

            matplotlib.use("Agg")
            outcome: Outcome = getattr(import_module(f"analysis.cli.{options.command}"), options.command)(options)
            _print(outcome.as_json() if options.json else outcome.words)
        except BrokenPipeError:  # nobody reads what a fit says of itself
            _silence(sys.stderr)
            return 2
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            print(f"bayes-rpp: error: {_by_option(str(error))}", file=sys.stderr)
            return 2
        except KeyboardInterrupt as interrupt:
            print(": ".join(["bayes-rpp: interrupted", *map(str, interrupt.args)]), file=sys.stderr)
            return 1
    return 0


def _print(words: str) -> None:
    """To standard output, whose reader may have ended before, as `head` does."""
    try:
        print(words, flush=True)
    except BrokenPipeError:
        _silence(sys.stdout)


def _silence(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _by_option(message: str) -> str:
    """The message on a setting by the name of its option: that of Python is first in it."""
    setting, rest = message.split(" ", 1) if " " in message else (message, "")
    return f"--{setting.replace('_', '-')} {rest}" if setting in _SETTINGS else message


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings are printed as a user of the command reads them: without lines of code."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"bayes-rpp: warning: {message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before


@contextmanager
def _interrupted_once() -> Iterator[None]:
    """SIGTERM, as schedulers of clusters send it, ends the command as Ctrl-C does; what comes after the first of them
    is not to end the writing of what was trained.
    """
    came: list[int] = []

    def interrupt(number: int, _: object) -> None:
        came.append(number)
        if len(came) > 1:
            os.write(2, b"bayes-rpp: interrupted already, and writing what was trained\n")
        else:
            raise KeyboardInterrupt

    heeded = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():
        heeded = []
    before = {number: signal.signal(number, interrupt) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
