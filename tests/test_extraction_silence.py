"""Leaving out silence: all speech stays, pauses become no longer than asked for, and blocks change nothing."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from subtone.extraction.silence import kept_spans, samples_of, speech_of
from subtone.speech import SpeechSegments

RATE = 16_000


@st.composite
def clips(draw: st.DrawFn) -> SpeechSegments:
    edges = sorted(draw(st.sets(st.integers(0, 8 * RATE), max_size=12)))
    edges = edges[: len(edges) // 2 * 2]
    length = (edges[-1] if edges else 0) + draw(st.integers(1, 4 * RATE))
    return SpeechSegments(np.array(edges[::2], np.int64), np.array(edges[1::2], np.int64), length)


@given(clips(), st.floats(0.1, 3.0))
def test_all_speech_is_kept_and_no_pause_is_longer_than_asked_for(
    speech: SpeechSegments, longest_s: float
) -> None:
    spans = kept_spans(speech, longest_s)
    kept = speech_of(speech, spans)
    assert kept.num_samples == sum(end - start for start, end in spans)
    assert kept.speech_samples == speech.speech_samples
    if len(speech):
        pauses = kept.starts[1:] - kept.ends[:-1]
        assert (pauses <= longest_s * RATE + 1).all()
        assert kept.starts[0] <= longest_s * RATE / 2 + 1
        assert kept.num_samples - kept.ends[-1] <= longest_s * RATE / 2 + 1
    else:
        assert spans == [(0, speech.num_samples)]


@given(clips())
def test_pauses_shorter_than_asked_for_are_left_as_they_are(speech: SpeechSegments) -> None:
    assert speech_of(speech, kept_spans(speech, 3600.0)) == speech


@given(clips(), st.floats(0.1, 2.0), st.lists(st.integers(1, 3 * RATE), max_size=8))
def test_samples_are_those_of_the_spans_however_the_clip_is_cut_into_blocks(
    speech: SpeechSegments, longest_s: float, sizes: list[int]
) -> None:
    wave = np.arange(speech.num_samples, dtype=np.float32)
    spans = kept_spans(speech, longest_s)
    cuts = np.clip(np.cumsum([0, *sizes]), 0, len(wave)).tolist()
    blocks = [wave[a:b] for a, b in zip(cuts, [*cuts[1:], len(wave)], strict=True)]
    found = np.concatenate([np.zeros(0, np.float32), *samples_of(iter(blocks), spans)])
    assert np.array_equal(found, np.concatenate([wave[a:b] for a, b in spans]))
