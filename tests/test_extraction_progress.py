"""Progress: every clip is counted once, and the estimate follows what the clips on disk weigh."""

from __future__ import annotations

from pathlib import Path

import pytest

from subtone.extraction.clips import Clip
from subtone.extraction.progress import Meter


def test_each_clip_is_counted_once_as_what_became_of_it(tmp_path: Path) -> None:
    clips = [Clip(str(tmp_path / f"{i}.wav"), 0.0, 2.0) for i in range(4)]
    meter = Meter(clips)
    meter.reused()
    meter.failed()
    third = meter.encoded(2.0)
    last = meter.encoded(2.0)
    assert (third.done, third.total, third.reused, third.failed) == (3, 4, 1, 1)
    assert last.audio_s == 4.0
    assert last.remaining_s == 0.0
    assert "4 of 4 clips" in last.sentence()
    assert "left" not in last.sentence()


def test_what_was_there_already_makes_no_estimate() -> None:
    meter = Meter([Clip("a.wav", 0.0, 1.0), Clip("b.wav", 0.0, 1.0)])
    assert meter.reused().remaining_s is None


def test_a_file_ten_times_as_large_is_expected_to_take_ten_times_as_long(tmp_path: Path) -> None:
    for name, size in (("small", 1_000), ("large", 10_000)):
        (tmp_path / f"{name}.wav").write_bytes(bytes(size))
    meter = Meter([Clip(str(tmp_path / "small.wav")), Clip(str(tmp_path / "large.wav"))])
    state = meter.encoded(1.0)
    assert state.remaining_s == pytest.approx(10 * state.elapsed_s, rel=1e-6)
