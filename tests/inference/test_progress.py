"""Progress of long work, where there is no terminal."""

import io
import logging
import sys

import pytest

from inference import progress
from inference.progress import ProgressBar


@pytest.fixture
def at_once(monkeypatch):
    """No half minute between lines."""
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)


def test_lines_are_logged_where_they_are_asked_for(at_once, caplog, capfd):
    with caplog.at_level(logging.INFO, "inference.progress"):
        for _ in ProgressBar(range(1000), desc="training", unit="step", mininterval=0, miniters=1):
            pass
    lines = [record.getMessage() for record in caplog.records]
    assert any(line.startswith("training: 500 of 1,000 steps in 00:00, about 00:00 left") for line in lines)
    with caplog.at_level(logging.INFO, "inference.progress"), ProgressBar(desc="mode", unit="step") as bar:
        bar.set_postfix_str("decrement 0.1")
    assert caplog.records[-1].getMessage() == "mode: 0 steps in 00:00 (decrement 0.1)"
    assert capfd.readouterr() == ("", "")


def test_there_are_none_before_half_a_minute_unasked_or_with_progress_off(caplog, monkeypatch, capfd):
    with caplog.at_level(logging.INFO, "inference.progress"):
        assert list(ProgressBar(range(100), mininterval=0, miniters=1)) == list(range(100))
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    assert list(ProgressBar(range(100), mininterval=0, miniters=1)) == list(range(100))
    with caplog.at_level(logging.INFO, "inference.progress"):
        list(ProgressBar(range(100), mininterval=0, miniters=1, progress=False))
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_a_terminal_has_a_bar_and_no_lines(at_once, caplog, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    with caplog.at_level(logging.INFO, "inference.progress"):
        list(ProgressBar(range(10), desc="training", mininterval=0, miniters=1))
    assert "training: 100%" in shown.getvalue()
    assert not caplog.records
