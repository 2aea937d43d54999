"""Checking a copy of a corpus: every fault is found, named and counted, and nothing else is."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from subtone.corpora import get
from subtone.corpora.base import Published, Reading, Row, table
from subtone.corpora.check import NONE, check, differences
from subtone.errors import CorpusError

STEMS = [f"03-01-0{emotion}-01-01-01-0{actor}" for emotion in (1, 3, 5) for actor in (1, 2)]


def noise(path: Path, seed: int, samples: int = 8000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(-8000, 8000, samples, dtype=np.int16)
    soundfile.write(path, values, 16_000, format=path.suffix[1:].upper() or "WAV")
    return path


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Six good clips of RAVDESS: three emotions of two actors."""
    for seed, stem in enumerate(STEMS):
        noise(tmp_path / f"Actor_{stem[-2:]}" / f"{stem}.wav", seed)
    return tmp_path


def test_good_copy_has_no_fault_but_says_what_is_not_there(copy: Path) -> None:
    report = check("ravdess", copy)
    assert report.ok
    assert (report.clips, report.files, report.duration_s) == (6, 6, pytest.approx(3.0))
    assert report.per_emotion == {"anger": 2, "happiness": 2, "neutral": 2}
    assert report.per_speaker == {"01": 3, "02": 3}
    assert report.per_emotion_and_speaker["anger"] == {"01": 1, "02": 1}
    assert not any((report.missing, report.unreadable, report.duplicates, report.skipped, report.notes))
    assert report.differences[0].startswith("clips: 6 here, 1440 published (Livingstone & Russo 2018")
    assert "speakers: 2 here, 24 published" in report.differences[1]
    assert "calm: 0 here, 192 published" in report.differences
    assert "anger: 2 here, 192 published" in report.differences


@pytest.mark.parametrize("kind", ["text", "empty", "truncated", "no samples", "dangling link", "not finite"])
def test_recording_that_cannot_be_read_is_named(kind: str, copy: Path) -> None:
    path = copy / "Actor_01" / f"{STEMS[0]}.wav"
    if kind == "text":
        path.write_text("no audio at all")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.unlink()
        path = noise(path.with_suffix(".flac"), 0, 160_000)
        path.write_bytes(path.read_bytes()[:9000])
    elif kind == "no samples":
        soundfile.write(path, np.zeros(0, dtype=np.int16), 16_000)
    elif kind == "dangling link":
        path.unlink()
        path.symlink_to(copy / "gone.wav")
    else:
        soundfile.write(path, np.full(800, np.nan, dtype=np.float32), 16_000, subtype="FLOAT")
    report = check("ravdess", copy)
    assert [file for file, _ in report.unreadable] == [str(path)]
    assert all(why for _, why in report.unreadable)
    assert not report.ok
    assert report.clips == 6  # the table names it all the same


def test_headers_alone_do_not_show_truncation_and_are_asked_for_by_name(copy: Path) -> None:
    path = noise(copy / "Actor_01" / f"{STEMS[0]}.flac", 0, 160_000)
    path.with_suffix(".wav").unlink()
    path.write_bytes(path.read_bytes()[:9000])
    assert not check("ravdess", copy, full=False).unreadable
    assert check("ravdess", copy).unreadable


def test_same_content_under_two_names_is_found_in_any_container(copy: Path) -> None:
    same = noise(copy / "Actor_01" / "03-01-02-01-01-01-01.wav", 0)  # the bytes of the first clip
    samples, rate = soundfile.read(same, dtype="int16")
    soundfile.write(copy / "03-01-02-01-01-02-01.flac", samples, rate)  # its samples
    report = check("ravdess", copy)
    group = sorted(
        [str(copy / "Actor_01" / f"{STEMS[0]}.wav"), str(same), str(copy / "03-01-02-01-01-02-01.flac")]
    )
    assert [sorted(one) for one in report.duplicates] == [group]
    assert [sorted(one) for one in report.conflicts] == [group]  # neutral and calm cannot both be true
    assert not report.ok
    assert len(check("ravdess", copy, full=False).duplicates[0]) == 2  # by bytes only
    assert check("ravdess", copy, digests=False).duplicates == ()


def test_duplicates_of_one_label_are_told_but_no_fault(copy: Path) -> None:
    noise(copy / "Actor_01" / "03-01-01-01-01-02-01.wav", 0)  # the second take is the first once more
    report = check("ravdess", copy)
    assert len(report.duplicates) == 1
    assert not report.conflicts
    assert report.ok


def test_ravdess_really_holds_one_take_twice(shared: Path, tmp_path: Path) -> None:
    for take in ("01", "02"):
        name = f"03-01-03-01-02-{take}-07.opus"
        (tmp_path / name).symlink_to(shared / "data" / "ravdess" / "Actor_07" / name)
    report = check("ravdess", tmp_path)
    assert len(report.duplicates) == 1
    assert not report.conflicts


def test_baveds_speakers_46_and_53_are_found_to_be_one(shared: Path, tmp_path: Path) -> None:
    for name in ("46-m-20-0-0-156.opus", "53-m-20-0-0-209.opus"):
        (tmp_path / name).symlink_to(shared / "data" / "baved" / "0" / name)
    assert len(check("baved", tmp_path).conflicts) == 1


@pytest.mark.parametrize("name", ["ravdess", "emovo", "cafe", "subesco"])
def test_plan_of_a_corpus_is_all_its_clips(name: str, shared: Path) -> None:
    corpus = get(name)
    assert corpus.design is not None
    with gzip.open(shared / "data" / "emobox" / f"{name}.csv.gz", "rt", encoding="utf-8", newline="") as file:
        listed = {Path(line["wav"]).stem.rstrip("]") for line in csv.DictReader(file)}
    assert set(corpus.design()) == listed
    assert len(listed) == corpus.published.clips


def test_clips_that_a_nearly_complete_copy_lacks_are_named(tmp_path: Path) -> None:
    corpus = get("emovo")
    assert corpus.design is not None
    planned = list(corpus.design())
    seed = noise(tmp_path / "seed", 1, 16)
    for stem in planned:
        (tmp_path / f"{stem}.wav").hardlink_to(seed)
    assert not check("emovo", tmp_path, digests=False).missing
    (tmp_path / "dis-f1-b1.wav").unlink()
    report = check("emovo", tmp_path, digests=False)
    assert [stem for stem, _ in report.missing] == ["dis-f1-b1"]
    assert not report.ok
    for stem in planned[:100]:
        (tmp_path / f"{stem}.wav").unlink(missing_ok=True)
    assert check("emovo", tmp_path, digests=False).ok  # a part of the corpus, chosen on purpose


def test_silence_is_listed_by_itself_and_not_as_duplicates(copy: Path) -> None:
    for stem in STEMS[:2]:
        soundfile.write(copy / f"Actor_{stem[-2:]}" / f"{stem}.wav", np.zeros(800, dtype=np.int16), 16_000)
    report = check("ravdess", copy)
    assert len(report.silent) == 2
    assert not report.duplicates
    assert not report.ok


def test_unknown_excluded_and_further_copies_are_counted_apart(copy: Path) -> None:
    noise(copy / "music.wav", 50)
    noise(copy / "03-02-05-01-01-01-01.wav", 51)  # a song
    noise(copy / "again" / f"{STEMS[0]}.flac", 52)  # another file of a clip
    report = check("ravdess", copy)
    assert [Path(file).name for file, _ in report.skipped] == ["music.wav"]
    assert [Path(file).name for file, _ in report.excluded] == ["03-02-05-01-01-01-01.wav"]
    assert len(report.copies) == 1
    assert report.clips == 6
    assert check("ravdess", copy, songs=True).clips == 7
    with pytest.raises(CorpusError, match=r"music\.wav"):
        check("ravdess", copy, skip_unknown=False)


def test_recordings_that_an_annotation_names_are_missed(tmp_path: Path) -> None:
    noise(tmp_path / "AB0_anger_1.wav", 1)
    (tmp_path / "data.tsv").write_text(
        "file_id\traw_text\tgender\tage\nAB0_anger_1.wav\tTak.\tmale\t30\nAB0_fear_2.wav\tNie.\tmale\t30\n"
    )
    report = check("nemo", tmp_path)
    assert report.missing == (("AB0_fear_2", "data.tsv"),)
    assert not report.ok


def test_report_is_json_and_text(copy: Path) -> None:
    noise(copy / "music.wav", 50)
    (copy / "Actor_01" / f"{STEMS[0]}.wav").write_text("no audio")
    report = check("ravdess", copy)
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["ok"] is False
    assert plain["per_emotion"] == dict(report.per_emotion)
    assert plain["published"]["clips"] == 1440
    assert plain["unreadable"][0][0].endswith(f"{STEMS[0]}.wav")
    text = "\n".join(report.lines())
    for part in (
        "clips: 6 in 6 files",
        "neutral 2",
        "unreadable files: 1",
        "music.wav",
        "missing files: none",
    ):
        assert part in text
    assert text.count("published") > 8
    assert "… and" in "\n".join(report.lines(most=2))


def test_progress_reaches_the_end(copy: Path) -> None:
    seen: list[tuple[int, int]] = []
    check("ravdess", copy, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 6) for done in range(1, 7)]


def test_nothing_of_the_corpus_is_an_error_not_an_empty_report(tmp_path: Path) -> None:
    noise(tmp_path / "music.wav", 1)
    with pytest.raises(CorpusError, match="none of its 1 audio files"):
        check("ravdess", tmp_path)
    with pytest.raises(CorpusError, match="did you mean 'ravdess'"):
        check("ravdes", tmp_path)


def test_missing_labels_are_counted_last(tmp_path: Path) -> None:
    for seed, level in enumerate("012"):
        noise(tmp_path / f"{seed}-m-20-3-{level}-{seed}.wav", seed)
    assert dict(check("baved", tmp_path).per_emotion) == {NONE: 3}


def test_differences_name_what_other_lists_have_and_are_silent_on_equality() -> None:
    corpus = get("shemo")
    frame = table(corpus, Reading([Row(Path("a.wav"), emotion="fear", speaker="F01")]))
    assert differences(corpus, frame)[0] == (
        "clips: 1 here, 3000 published (Mohamad Nezami et al. 2019); EmoBox has 2838"
    )
    assert differences(get("manifest"), frame) == ()
    exact = type(corpus)(**{**vars(corpus), "published": Published(1, 1, {"fear": 1}, "here")})
    assert differences(exact, frame) == ()


def test_utterance_that_ends_behind_its_recording_is_found(tmp_path: Path) -> None:
    noise(tmp_path / "a.wav", 1)  # half a second
    (tmp_path / "list.csv").write_text("file,start,end,emotion\na.wav,0,0.5,anger\na.wav,0.1,0.75,anger\n")
    report = check("manifest", tmp_path / "list.csv")
    assert [(Path(file).name, round(extra, 3)) for file, extra in report.beyond_end] == [("a.wav", 0.25)]
    assert not report.ok
