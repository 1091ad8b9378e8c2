"""The validation of distributions is off inside the blocks that ask for it, and afterwards what it was."""

import threading

import pyro
import pytest
import torch

from bayes_rpp.validation import without_validation


def validates():
    return torch.distributions.Distribution._validate_args


@pytest.mark.parametrize("before", [True, False])
def test_blocks_that_overlap_in_threads_restore_what_was_before_the_first(before):
    entered, left = threading.Event(), threading.Event()

    def later():
        with without_validation():
            entered.set()
            left.wait(10)

    with pyro.validation_enabled(before):
        thread = threading.Thread(target=later)
        with without_validation():
            thread.start()
            assert entered.wait(10)
        assert validates() is False  # for the thread that is still inside
        left.set()
        thread.join()
        assert validates() is before


def test_an_error_inside_restores_it_too():
    with pytest.raises(ZeroDivisionError), without_validation(), without_validation():
        raise ZeroDivisionError
    assert validates() is True
