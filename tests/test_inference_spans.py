"""What is scored: windows cover the file, and parts are equal."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from subtone.inference.spans import equal_parts, window_spans

RATE = 16_000
lengths = st.integers(1, 40 * RATE)


@given(lengths, st.floats(0.2, 20), st.floats(0.01, 25))
@settings(max_examples=300)
def test_window_grid_covers_the_file(num_samples: int, window_s: float, hop_s: float) -> None:
    spans = window_spans(num_samples, window_s, hop_s)
    window = round(window_s * RATE)
    assert spans[0][0] == 0
    assert all(0 <= start < end <= num_samples for start, end in spans)
    assert [start for start, _ in spans] == [round(k * hop_s * RATE) for k in range(len(spans))]
    assert all(end - start == window for start, end in spans[:-1])
    last = spans[-1][1] - spans[-1][0]
    assert last == window or spans[-1][1] == num_samples
    assert last >= window / 2 or len(spans) == 1
    # No further window of at least half a length would have shown anything new.
    follows = round(len(spans) * hop_s * RATE)
    assert num_samples - follows < window / 2 or spans[-1][1] == num_samples
    if hop_s <= window_s / 2 - 1 / RATE:
        assert spans[-1][1] == num_samples
        assert all(after[0] <= before[1] for before, after in itertools.pairwise(spans))


def test_a_grid_does_not_drift() -> None:
    spans = window_spans(36_000 * RATE, 1.0, 1 / 3)
    assert spans[3 * 35_000][0] == 35_000 * RATE


@given(st.integers(0, 1000), st.integers(1, 100_000), st.integers(1, 5_000))
def test_parts_are_equal_to_a_sample_and_no_longer_than_the_limit(
    start: int, length: int, longest: int
) -> None:
    parts = equal_parts(start, start + length, longest)
    sizes = [stop - begin for begin, stop in parts]
    assert parts[0][0] == start
    assert parts[-1][1] == start + length
    assert all(before[1] == after[0] for before, after in itertools.pairwise(parts))
    assert max(sizes) <= longest
    assert max(sizes) - min(sizes) <= 1
    assert len(parts) == -(-length // longest)
