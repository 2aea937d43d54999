"""Functionals by openSMILE: what it would say itself, once for each content, whatever happens to single clips."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from subtone.audio import load_audio
from subtone.errors import StoreError, UsageError
from subtone.extraction.clips import Clip
from subtone.extraction.functionals import functionals, shelf, smile
from subtone.extraction.progress import Progress
from tests.synthetic import utterance, write

opensmile = pytest.importorskip("opensmile", reason="needs the extra opensmile")


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    """Return six utterances of different lengths and pitches."""
    return [
        Clip(str(write(tmp_path / f"c{n}.wav", utterance(0.4 + 0.1 * n, 100.0 + 50 * n, 0.2, n))))
        for n in range(6)
    ]


def plain(wave: np.ndarray, name: str = "eGeMAPSv02") -> np.ndarray:
    """Return what openSMILE itself says of a wave."""
    theirs = opensmile.Smile(opensmile.FeatureSet[name], opensmile.FeatureLevel.Functionals)
    return theirs.process_signal(wave, 16_000).to_numpy()[0]


@pytest.mark.parametrize(
    ("which", "name", "dim"), [("egemaps", "eGeMAPSv02", 88), ("compare", "ComParE_2016", 6373)]
)
def test_the_numbers_are_those_of_opensmile(clips: list[Clip], which: str, name: str, dim: int) -> None:
    found = functionals(clips[:3], which)
    assert found.values.shape == (3, dim)
    assert len(found.names) == dim
    assert found.values.dtype == np.float32
    assert found.rows.tolist() == [0, 1, 2]
    assert not found.failed
    assert found.maker == f"opensmile {opensmile.__version__} {name}"
    np.testing.assert_array_equal(found.values, [plain(load_audio(clip.file), name) for clip in clips[:3]])


def test_many_at_once_are_what_they_are_one_after_the_other(clips: list[Clip]) -> None:
    together = functionals(clips * 4, "egemaps").values
    alone = [plain(load_audio(clip.file)) for clip in clips]
    np.testing.assert_array_equal(together, np.tile(alone, (4, 1)))


def test_a_part_of_a_file_is_taken_by_itself(clips: list[Clip]) -> None:
    file = clips[5].file
    found = functionals([Clip(file, 0.2, 0.7), Clip(file, 0.3)], "egemaps")
    wave = load_audio(file)
    np.testing.assert_array_equal(found.values, [plain(wave[3200:11_200]), plain(wave[4800:])])


def test_nothing_is_computed_again_though_the_files_have_other_names(
    clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, parts = tmp_path / "store", [*clips, Clip(clips[5].file, 0.2, 0.7)]
    first = functionals(parts, "egemaps", store=store)
    np.testing.assert_array_equal(first.values, functionals(parts, "egemaps").values)
    renamed = [
        Clip(str(shutil.copy(clip.file, tmp_path / f"renamed{n}.wav")), clip.start_s, clip.end_s)
        for n, clip in enumerate(parts)
    ]
    monkeypatch.setattr(smile.Smile, "__call__", lambda *_: pytest.fail("computed again"))
    states: list[Progress] = []
    second = functionals(renamed[::-1], "egemaps", store=store, on_progress=states.append)
    np.testing.assert_array_equal(second.values, first.values[::-1])
    assert (states[-1].done, states[-1].reused) == (7, 7)


def test_the_same_audio_under_two_names_has_one_row(clips: list[Clip], tmp_path: Path) -> None:
    found = functionals([clips[0], clips[1], clips[0]], "egemaps", store=tmp_path / "store")
    np.testing.assert_array_equal(found.values[0], found.values[2])
    [place] = (tmp_path / "store").iterdir()
    with shelf.open_shelf(place, 88) as kept:
        assert clips[0].key() in kept
        assert clips[1].key() in kept
        assert clips[2].key() not in kept


def test_a_bad_clip_is_named_and_the_others_go_on(
    clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.wav").write_text("no audio")
    write(tmp_path / "empty.wav", np.empty(0, np.float32))
    real = smile.Smile.__call__

    def sometimes_odd(self: smile.Smile, wave: np.ndarray) -> np.ndarray:
        if len(wave) == len(load_audio(clips[1].file)):
            return np.r_[np.zeros(80), np.nan, np.inf, np.zeros(6)].astype(np.float32)
        if len(wave) == len(load_audio(clips[2].file)):
            raise RuntimeError("error code 6")
        return real(self, wave)

    monkeypatch.setattr(smile.Smile, "__call__", sometimes_odd)
    bad = [Clip(str(tmp_path / name)) for name in ("missing.wav", "text.wav", "empty.wav")]
    states: list[Progress] = []
    given = [bad[0], clips[0], bad[1], clips[1], bad[2], clips[2], clips[3]]
    found = functionals(given, "egemaps", store=tmp_path / "store", on_progress=states.append)
    assert found.rows.tolist() == [1, 6]
    assert np.isfinite(found.values).all()
    assert [Path(f.file).name for f in found.failed] == [
        "missing.wav",
        "text.wav",
        "c1.wav",
        "empty.wav",
        "c2.wav",
    ]
    assert all(Path(f.file).name in f.message for f in found.failed)
    assert "2 of 88 functionals are not finite" in found.failed[2].message
    assert "error code 6" in found.failed[4].message
    assert "Traceback" in found.failed[4].details
    assert (states[-1].done, states[-1].failed) == (7, 5)
    monkeypatch.undo()
    again = functionals(given, "egemaps", store=tmp_path / "store")
    assert again.rows.tolist() == [1, 3, 5, 6]  # a failure is not kept


@pytest.mark.parametrize("samples", [1, 320, 801, 959, 960])
def test_a_clip_too_short_for_opensmile_is_filled_up_with_zeros(samples: int) -> None:
    wave = utterance(0.2)[1600 : 1600 + samples]
    for which, name in (("egemaps", "eGeMAPSv02"), ("compare", "ComParE_2016")):
        found = smile.Smile(which)(wave)
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(found, plain(np.pad(wave, (0, 960 - samples)), name))


def test_samples_above_full_scale_do_not_come_out_below_it(tmp_path: Path) -> None:
    wave = 1.2 * np.sin(2 * np.pi * 200 * np.arange(16_000) / 16_000).astype(np.float32)
    soundfile.write(tmp_path / "loud.wav", wave, 16_000, subtype="FLOAT")
    found = functionals([Clip(str(tmp_path / "loud.wav"))], "egemaps").values[0]
    np.testing.assert_array_equal(found, plain(np.clip(wave, -1, 32767 / 32768)))
    assert np.abs(found - plain(wave)).max() > 1  # what it would say of samples that were not cut


def test_a_clip_of_over_ten_minutes_is_refused(tmp_path: Path, clips: list[Clip]) -> None:
    soundfile.write(tmp_path / "long.wav", np.zeros(601 * 8000, np.int16), 8000)
    found = functionals([Clip(str(tmp_path / "long.wav")), clips[0]], "egemaps")
    assert found.rows.tolist() == [1]
    assert "ten minutes" in found.failed[0].message


def test_killed_it_leaves_nothing_half_and_goes_on_where_it_was(clips: list[Clip], tmp_path: Path) -> None:
    script = """
import os, signal, sys
from subtone.extraction.clips import Clip
from subtone.extraction.functionals import functionals, shelf

shelf.SAVE_EVERY = 2
kill = lambda state: os.kill(os.getpid(), signal.SIGKILL) if state.done == 5 else None
functionals([Clip(file) for file in sys.argv[2:]], "egemaps", store=sys.argv[1], on_progress=kill)
"""
    store = tmp_path / "store"
    died = subprocess.run(
        [sys.executable, "-c", script, str(store), *(clip.file for clip in clips)], check=False
    )
    assert died.returncode == -9
    [place] = store.iterdir()
    (place / f".{'a' * 32}.safetensors.999999").write_bytes(
        b"half"
    )  # as if it had been killed while it wrote
    states: list[Progress] = []
    found = functionals(clips, "egemaps", store=store, on_progress=states.append)
    assert states[-1].reused == 4
    np.testing.assert_array_equal(found.values, functionals(clips, "egemaps").values)
    assert {path.suffix for path in place.iterdir()} == {".safetensors", ""}  # and the lock


def test_interrupted_it_keeps_what_is_done(clips: list[Clip], tmp_path: Path) -> None:
    def interrupt(state: Progress) -> None:
        if state.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        functionals(clips, "egemaps", store=tmp_path / "store", on_progress=interrupt)
    states: list[Progress] = []
    functionals(clips, "egemaps", store=tmp_path / "store", on_progress=states.append)
    assert states[-1].reused == 3


def test_each_set_and_each_release_of_opensmile_has_a_folder_of_its_own(
    clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    functionals(clips[:1], "egemaps", store=tmp_path / "store")
    monkeypatch.setattr(opensmile, "__version__", "9.9")
    assert functionals(clips[:1], "egemaps", store=tmp_path / "store").maker == "opensmile 9.9 eGeMAPSv02"
    functionals(clips[:1], "compare", store=tmp_path / "store")
    assert len(list((tmp_path / "store").iterdir())) == 3


@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0{}      ", b"nonsense" * 9])
def test_a_damaged_file_is_told(clips: list[Clip], tmp_path: Path, content: bytes) -> None:
    functionals(clips, "egemaps", store=tmp_path / "store")
    [file] = (tmp_path / "store").glob("*/*.safetensors")
    file.write_bytes(content)
    with pytest.raises(StoreError, match=f"{file.name}: is damaged"):
        functionals(clips, "egemaps", store=tmp_path / "store")


def test_a_store_that_cannot_be_made_is_told(clips: list[Clip], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        functionals(clips, "egemaps", store=tmp_path / "file")


def test_no_clip_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there are no clips"):
        functionals([], "egemaps")
    with pytest.raises(StoreError, match=r"none of 12 clips could be used: .*; and 2 more"):
        functionals([Clip(f"missing{n}.wav") for n in range(12)], "egemaps", store=tmp_path)


def test_an_unknown_set_is_told(clips: list[Clip]) -> None:
    with pytest.raises(UsageError, match="did you mean 'egemaps'"):
        functionals(clips, "egemap")  # type: ignore[arg-type]


def test_without_the_extra_it_is_named(clips: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(UsageError, match=r'pip install "subtone\[opensmile\]"'):
        functionals(clips, "egemaps")
