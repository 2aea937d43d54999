"""`SpeechSegments`: exact counting, projection onto frame grids, clipping and joining."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from subtone.errors import SpeechError
from subtone.speech import SpeechSegments
from tests.reference import speech_frames


@dataclass(frozen=True)
class CutGrid:
    """Cells of ``hop`` samples from ``offset`` on, cut to the wave."""

    hop: int
    offset: int = 0

    def cells(self, num_frames: int, num_samples: int) -> npt.NDArray[np.int64]:
        starts = self.offset + self.hop * np.arange(num_frames, dtype=np.int64)
        return np.clip(np.stack([starts, starts + self.hop], axis=1), 0, num_samples)


@st.composite
def segments(draw: st.DrawFn, longest: int = 200) -> SpeechSegments:
    num_samples = draw(st.integers(0, longest))
    edges = sorted(draw(st.sets(st.integers(0, num_samples), max_size=12)))
    pairs = list(zip(edges[::2], edges[1::2], strict=False))
    if draw(st.booleans()):  # touching neighbours are allowed
        pairs = list(itertools.pairwise(edges))
    return SpeechSegments(
        np.array([start for start, _ in pairs], dtype=np.int64),
        np.array([end for _, end in pairs], dtype=np.int64),
        num_samples,
    )


@given(speech=segments(), hop=st.integers(1, 40), offset=st.integers(-30, 30), num_frames=st.integers(0, 60))
@example(speech=SpeechSegments.none(0), hop=1, offset=0, num_frames=3)
@example(speech=SpeechSegments.whole(1), hop=320, offset=40, num_frames=1)
def test_projection_equals_counting_sample_by_sample(
    speech: SpeechSegments, hop: int, offset: int, num_frames: int
) -> None:
    grid = CutGrid(hop, offset)
    cells = grid.cells(num_frames, speech.num_samples)
    pairs = list(zip(speech.starts.tolist(), speech.ends.tolist(), strict=True))
    expected = speech_frames(pairs, cells.tolist(), speech.num_samples)
    found = speech.project(grid, num_frames)
    assert found.dtype == bool
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("inside", "expected"), [(159, False), (160, True), (161, True), (320, True), (0, False)]
)
def test_exactly_half_of_a_frame_is_a_majority(inside: int, expected: bool) -> None:
    at_the_start = SpeechSegments.none(640) if not inside else SpeechSegments([320], [320 + inside], 640)
    at_the_end = SpeechSegments.none(640) if not inside else SpeechSegments([640 - inside], [640], 640)
    for speech in (at_the_start, at_the_end):
        assert speech.project(CutGrid(320), 2).tolist() == [False, expected]


def test_parts_of_one_frame_add_up() -> None:
    scattered = SpeechSegments([0, 100, 200], [60, 150, 250], 320)
    assert scattered.project(CutGrid(320), 1).tolist() == [True]
    assert SpeechSegments([0, 100, 200], [60, 150, 249], 320).project(CutGrid(320), 1).tolist() == [False]


def test_a_last_frame_cut_by_the_end_is_judged_on_what_is_there() -> None:
    speech = SpeechSegments([320], [325], 330)
    assert speech.project(CutGrid(320), 3).tolist() == [False, True, False]
    assert SpeechSegments.whole(330).project(CutGrid(320), 3).tolist() == [True, True, False]


@given(speech=segments(), start=st.integers(-10, 220), length=st.integers(-10, 220))
def test_a_clip_holds_the_same_samples(speech: SpeechSegments, start: int, length: int) -> None:
    clip = speech.clip(start, start + length)
    assert samples(clip) == samples(speech)[max(0, start) : max(0, start + length)]


@given(parts=st.lists(segments(longest=40), max_size=5))
def test_joined_parts_hold_the_same_samples_one_after_the_other(parts: list[SpeechSegments]) -> None:
    joined = SpeechSegments.concatenate(parts)
    assert samples(joined) == [value for part in parts for value in samples(part)]
    assert joined.speech_samples == sum(part.speech_samples for part in parts)


@given(speech=segments(), cut=st.integers(0, 200))
def test_clips_join_to_the_whole(speech: SpeechSegments, cut: int) -> None:
    both = [speech.clip(0, cut), speech.clip(cut, speech.num_samples)]
    assert samples(SpeechSegments.concatenate(both)) == samples(speech)


@given(speech=segments(), offset=st.integers(0, 50), behind=st.integers(0, 50))
def test_shift_is_the_inverse_of_clip(speech: SpeechSegments, offset: int, behind: int) -> None:
    longer = speech.shift(offset, offset + speech.num_samples + behind)
    assert longer.clip(offset, offset + speech.num_samples) == speech


@given(speech=segments())
def test_share_and_seconds_count_the_samples(speech: SpeechSegments) -> None:
    marked = samples(speech)
    assert speech.share == (sum(marked) / len(marked) if marked else 0.0)
    assert speech.seconds.shape == (len(speech), 2)
    np.testing.assert_array_equal(speech.seconds[:, 1] * 16_000, speech.ends)


@pytest.mark.parametrize(
    ("starts", "ends", "num_samples"),
    [
        ([5], [5], 10),
        ([6], [5], 10),
        ([0], [11], 10),
        ([-1], [3], 10),
        ([0, 3], [4, 6], 10),
        ([5, 0], [6, 2], 10),
        ([0], [1, 2], 10),
        ([0.5], [2], 10),
        ([float("nan")], [2], 10),
        ([[0]], [[1]], 10),
        ([True], [2], 10),
        ([], [], -1),
    ],
)
def test_segments_that_are_none_are_errors(starts: list[float], ends: list[float], num_samples: int) -> None:
    with pytest.raises(SpeechError):
        SpeechSegments(np.array(starts), np.array(ends), num_samples)


def test_segments_can_neither_be_changed_nor_share_memory() -> None:
    starts = np.array([1])
    speech = SpeechSegments(starts, np.array([4]), 10)
    starts[0] = 0
    assert speech.starts.tolist() == [1]
    with pytest.raises(ValueError, match="read-only"):
        speech.starts[0] = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        speech.num_samples = 5  # type: ignore[misc]


def test_segments_compare_by_value() -> None:
    one, same, other = (
        SpeechSegments([1], [4], 10),
        SpeechSegments([1], [4], 10),
        SpeechSegments([1], [4], 11),
    )
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != "segments"


def samples(speech: SpeechSegments) -> list[bool]:
    marked = [False] * speech.num_samples
    for start, end in zip(speech.starts.tolist(), speech.ends.tolist(), strict=True):
        marked[start:end] = [True] * (end - start)
    return marked
