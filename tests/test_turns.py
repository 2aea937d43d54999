"""Turns: whatever threads work side by side, results come in order, and no more wait than was allowed."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subtone.extraction.turns import Turns


def at_work(turns: Turns[int], weights: list[int], workers: int, seen: list[int] | None = None) -> None:
    """Let threads work the turns off; each result is its own number."""

    def work() -> None:
        while (number := turns.next()) is not None:
            if seen is not None:
                seen.append(number)
            turns.done(number, number, weights[number])

    for _ in range(workers):
        threading.Thread(target=work, daemon=True).start()


@settings(max_examples=40, deadline=None)
@given(
    weights=st.lists(st.integers(0, 9), max_size=40),
    workers=st.integers(1, 4),
    ahead=st.integers(1, 6),
    most=st.integers(0, 20),
)
def test_results_come_in_order_each_once_and_never_further_ahead_than_allowed(
    weights: list[int], workers: int, ahead: int, most: int
) -> None:
    turns: Turns[int] = Turns(len(weights), ahead, most)
    begun: list[int] = []
    at_work(turns, weights, workers, begun)
    taken: list[int] = []
    for result in turns:
        # What was begun and not taken, this one included, which was taken a moment ago.
        assert len(begun) - len(taken) <= ahead + 1
        waiting = sum(weights[number] for number in begun if number > result)
        assert waiting <= most + workers * 9
        taken.append(result)
    assert taken == list(range(len(weights)))


def test_no_further_number_is_given_out_while_what_waits_weighs_too_much() -> None:
    turns: Turns[str] = Turns(10, ahead=5, most=100)
    assert [turns.next(), turns.next()] == [0, 1]
    turns.done(1, "heavy", 100)
    began = threading.Event()
    threading.Thread(target=lambda: turns.next() is not None and began.set(), daemon=True).start()
    assert not began.wait(0.1), "another was begun though one waits that is as heavy as all may be"
    turns.done(0, "light", 0)
    results = iter(turns)
    assert next(results) == "light"
    assert not began.wait(0.1)
    assert next(results) == "heavy"
    assert began.wait(5)


def test_an_error_reaches_the_one_who_takes_and_ends_the_work() -> None:
    turns: Turns[int] = Turns(3, ahead=3, most=1)
    assert turns.next() == 0
    turns.fail(ValueError("broken"))
    assert turns.next() is None
    with pytest.raises(ValueError, match="broken"):
        list(turns)


def test_stopped_turns_end_for_both_sides() -> None:
    turns: Turns[int] = Turns(3, ahead=1, most=1)
    assert turns.next() == 0
    threading.Timer(0.05, turns.stop).start()
    assert turns.next() is None
    assert list(turns) == []
