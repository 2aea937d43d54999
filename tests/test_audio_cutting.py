"""Clips cut out of a stream of blocks are the samples they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subtone.audio.cutting import cut
from subtone.errors import AudioError


@given(st.data(), st.lists(st.integers(0, 50), min_size=1, max_size=20).filter(any))
def test_clips_cut_from_blocks_are_the_samples_of_the_whole(data: st.DataObject, sizes: list[int]) -> None:
    wave = np.arange(sum(sizes), dtype=np.float32)
    starts = sorted(data.draw(st.lists(st.integers(0, len(wave) - 1), max_size=10)))
    spans = [(start, data.draw(st.integers(start + 1, len(wave)))) for start in starts]
    blocks = iter(np.split(wave, np.cumsum(sizes)[:-1]))
    for (start, end), clip in zip(spans, cut(blocks, spans), strict=True):
        assert np.array_equal(clip, wave[start:end])


def test_no_more_of_the_stream_is_read_than_a_clip_needs() -> None:
    read: list[int] = []
    blocks = (read.append(i) or np.full(10, i, np.float32) for i in range(100))  # type: ignore[func-returns-value]
    clips = cut(blocks, [(25, 35), (30, 55)])
    assert next(clips).tolist() == [2.0] * 5 + [3.0] * 5
    assert read == [0, 1, 2, 3]
    next(clips)
    assert read == [0, 1, 2, 3, 4, 5]


def test_a_stream_that_ends_before_a_clip_does_is_told() -> None:
    with pytest.raises(AudioError, match="became shorter while it was read"):
        list(cut(iter([np.zeros(10, np.float32)]), [(5, 11)]))
