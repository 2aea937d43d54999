"""The picture of a timeline: it appears whole, for any length, and shows what the result says."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from subtone.errors import UsageError
from subtone.inference import run, timeline_plot
from subtone.inference.curves import MOST_CELLS, curves
from subtone.inference.envelope import envelope
from subtone.inference.plot import COLOURS, colours_of
from tests.plain_scorer import RATE, PlainScorer, speak

CALL = speak((1.0, 3.0, 0.5), (12.0, 13.0, 0.1), (14.0, 19.5, 0.3), seconds=20.0)
LABELS = PlainScorer.labels


def pixels(path: Path) -> np.ndarray:
    return np.rint(255 * matplotlib.image.imread(path)[..., :3]).astype(int)  # (height, width, 3)


def shows(image: np.ndarray, colour: str) -> bool:
    wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return bool((np.abs(image - wanted).max(axis=-1) <= 1).sum() > 200)


@pytest.mark.parametrize("per", ["file", "segment", "window"])
def test_the_picture_shows_the_colours_of_the_answers(per: str, tmp_path: Path) -> None:
    prediction = run(PlainScorer(), CALL, per=per)
    image = pixels(timeline_plot(prediction, CALL, tmp_path / "deep" / "call.png"))
    assert image.shape == (1050, 1800, 3)
    for label in set(prediction.table["label"].dropna()):
        assert shows(image, COLOURS[label])
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["call.png"]


def test_the_same_result_gives_the_same_bytes(tmp_path: Path) -> None:
    prediction = run(PlainScorer(), CALL, per="window")
    one, two = (timeline_plot(prediction, CALL, tmp_path / name).read_bytes() for name in ("a.png", "b.png"))
    assert one == two


@pytest.mark.parametrize("wave", [CALL[:RATE], np.ones(1, np.float32), np.zeros(RATE, np.float32)])
@pytest.mark.parametrize("per", ["file", "segment", "window"])
def test_short_and_silent_recordings_have_a_picture(wave: np.ndarray, per: str, tmp_path: Path) -> None:
    prediction = run(PlainScorer(), wave, per=per)
    assert pixels(timeline_plot(prediction, wave, tmp_path / "a.png")).std() > 1


def test_odd_names_and_labels_are_drawn_as_they_are(tmp_path: Path) -> None:
    class Odd(PlainScorer):
        labels = ("$\\frac{", "开心", "a" * 200, "sadness")

    path = tmp_path / ("$x_1^ \\alpha 语音 " + "long" * 30 + ".wav")
    soundfile.write(path, CALL, RATE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        timeline_plot(run(Odd(), path, per="segment"), path, tmp_path / "a.png")
    for suffix in ("svg", "pdf"):
        assert timeline_plot(run(Odd(), path), path, tmp_path / f"a.{suffix}").stat().st_size > 1000


def test_a_picture_that_cannot_be_made_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    prediction = run(PlainScorer(), [CALL, CALL])
    with pytest.raises(UsageError, match=r"must end in \.png"):
        timeline_plot(prediction, CALL, tmp_path / "a.bmp", file="<array 0>")
    with pytest.raises(UsageError, match="name one of them"):
        timeline_plot(prediction, CALL, tmp_path / "a.png")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        timeline_plot(prediction, CALL, tmp_path / "file" / "a.png", file="<array 0>")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        timeline_plot(prediction, CALL, tmp_path / "folder.png", file="<array 0>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


def test_drawing_leaves_the_callers_matplotlib_alone(tmp_path: Path) -> None:
    timeline_plot(run(PlainScorer(), CALL), CALL, tmp_path / "a.png")
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_windows_share_the_time_and_gaps_fill_the_rest() -> None:
    result = run(PlainScorer(), CALL, per="window", window_s=2.0, hop_s=0.5).results[0]
    drawn = curves(result)
    assert (drawn.starts[0], drawn.ends[-1]) == (0.0, 20.0)
    assert np.allclose(drawn.starts[1:], drawn.ends[:-1])
    answered = sum(drawn.ends[drawn.answered] - drawn.starts[drawn.answered])
    hatched = sum(end - start for start, end in drawn.gaps(0.0, 20.0))
    shown = sum(end - start for start, end, _ in drawn.winners())
    assert answered + hatched == pytest.approx(20.0)
    assert shown == pytest.approx(answered)
    assert 3 < hatched < 17


def test_more_answers_than_can_be_told_apart_are_averaged() -> None:
    result = run(PlainScorer(), np.tile(CALL, 5), per="window", window_s=1.0, hop_s=0.05).results[0]
    assert len(result) > MOST_CELLS
    drawn = curves(result)
    assert len(drawn.starts) == MOST_CELLS
    assert drawn.averaged_s == pytest.approx(100 / MOST_CELLS)
    known = drawn.values[drawn.answered]
    assert np.allclose(known.sum(axis=1), 1)
    assert np.allclose(known.mean(axis=0), np.nanmean(result.probabilities, axis=0), atol=0.03)


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(0, 60), st.integers(1, 30), st.data()
)
def test_the_outline_is_that_of_the_whole_wave(
    sizes: list[int], first: int, columns: int, data: st.DataObject
) -> None:
    wave = np.random.default_rng(sum(sizes)).normal(size=sum(sizes)).astype(np.float32)
    first = min(first, len(wave) - 1)
    length = data.draw(st.integers(1, len(wave) - first))
    outline = envelope(np.split(wave, np.cumsum(sizes)[:-1]), first, length, columns)
    part = wave[first : first + length].astype(np.float64)
    assert len(outline.low) == min(columns, length)
    for column, (start, end) in enumerate(zip(outline.edges[:-1], outline.edges[1:], strict=True)):
        assert outline.low[column] == part[start:end].min()
        assert outline.high[column] == part[start:end].max()
        assert outline.rms[column] == pytest.approx(np.sqrt(np.mean(part[start:end] ** 2)))


def test_every_emotion_has_its_own_colour() -> None:
    assert len(set(COLOURS.values())) == len(COLOURS)
    assert colours_of(("sadness", "anger"))["anger"] == colours_of(("anger",))["anger"]
    strange = colours_of(("x", "y", "z", "anger"))
    assert len(set(strange.values())) == 4
