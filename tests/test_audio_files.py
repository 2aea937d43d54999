"""`expand`: files, folders and patterns."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from subtone.audio import AUDIO_SUFFIXES, expand
from subtone.errors import AudioError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.WAV", "a.mp3", "notes.txt", ".hidden.wav", "sub/c.flac", "sub/deep/d.opus", ".git/e.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(paths: list[Path], folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def test_a_folder_gives_its_recordings_sorted_and_no_hidden_ones(folder: Path) -> None:
    assert names(expand([folder]), folder) == ["a.mp3", "b.WAV", "sub/c.flac", "sub/deep/d.opus"]
    assert names(expand(folder, recursive=False), folder) == ["a.mp3", "b.WAV"]


def test_a_file_named_outright_is_taken_whatever_its_suffix(folder: Path) -> None:
    assert names(expand([folder / "notes.txt", str(folder / ".hidden.wav")]), folder) == [
        "notes.txt",
        ".hidden.wav",
    ]


def test_patterns_match_and_each_file_comes_once(folder: Path) -> None:
    assert names(expand([str(folder / "**/*.flac"), folder / "sub"]), folder) == [
        "sub/c.flac",
        "sub/deep/d.opus",
    ]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(folder: Path) -> None:
    (folder / "take[1].wav").touch()
    assert names(expand([folder / "take[1].wav"]), folder) == ["take[1].wav"]


def test_what_does_not_exist_is_an_error_or_kept_for_later(folder: Path) -> None:
    with pytest.raises(AudioError, match=r"nope\.wav: no such file"):
        expand([folder / "a.mp3", folder / "nope.wav"])
    assert names(expand([folder / "nope.wav", folder / "a.mp3"], missing="keep"), folder) == [
        "nope.wav",
        "a.mp3",
    ]


def test_nothing_found_is_an_error(folder: Path) -> None:
    (folder / "void").mkdir()
    for nothing in ([], [folder / "void"], [str(folder / "*.aiff")]):
        with pytest.raises(AudioError):
            expand(nothing)


def test_suffixes_are_lower_case_with_a_dot() -> None:
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in AUDIO_SUFFIXES)
    assert {".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".mp4", ".webm", ".amr"} <= AUDIO_SUFFIXES


def test_a_subfolder_that_cannot_be_listed_does_not_hide_its_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clip.wav").write_bytes(b"")
    (tmp_path / "locked").mkdir()
    scan = os.scandir

    def refuse(path: str) -> object:  # root may list everything, so the system's refusal is made here
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = expand(tmp_path, missing="keep")
    assert sorted(path.name for path in found) == ["clip.wav", "locked"]
    with pytest.raises(AudioError, match="cannot be listed"):
        expand(tmp_path)
