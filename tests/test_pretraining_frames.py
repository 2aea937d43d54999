"""Frame corpora: what upstreams would compute, decoded once, whole after any kill, in an order of their own."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from subtone.audio import load_audio
from subtone.errors import StoreError, UsageError
from subtone.extraction.scratch import alone_if_free
from subtone.pretraining.frames import FrameCorpus, Sampler, prepare
from subtone.pretraining.frames.manifest import LONGEST_FRAMES, SHORTEST_FRAMES
from subtone.pretraining.intensity import ReadyScores, align
from subtone.upstreams import kaldi
from subtone.upstreams.filterbank import FilterBank, FilterBankOptions
from tests import synthetic
from tests.small_frames import Loudness

CLIPS = 12
SCRIPT = "import sys; from subtone.pretraining.frames import prepare; prepare(sys.argv[2:], sys.argv[1])"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    return [
        synthetic.write(
            folder / f"{i:02}.wav", synthetic.utterance(0.5 + 0.1 * (i % 5), 100 + 20 * i, seed=i)
        )
        for i in range(CLIPS)
    ]


@pytest.fixture(scope="module")
def corpus(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> FrameCorpus:
    return prepare(files, tmp_path_factory.mktemp("frames"), intensity=Loudness())


@pytest.mark.parametrize("deltas", [0, 1, 2])
def test_an_utterance_is_what_the_upstream_would_be_given(
    corpus: FrameCorpus, files: list[Path], deltas: int
) -> None:
    upstream = FilterBank(FilterBankOptions(deltas=deltas, cmvn="utterance"))
    by_file = {file: i for i, file in enumerate(corpus.files)}
    assert len(by_file) == CLIPS
    for file in files[:4]:
        features, _ = corpus.utterance(by_file[str(file)], deltas=deltas)
        expected = upstream.front(load_audio(file)).T.numpy()
        assert features.shape == expected.shape
        # Half precision keeps eleven bits of what is normalised; derivatives are differences of it.
        assert np.abs(features - expected).max() < (0.003 if deltas == 0 else 0.05)
        assert np.sqrt(np.square(features - expected).mean()) < (0.0005 if deltas == 0 else 0.002)


def test_banks_and_intensities_are_kept_as_they_were(corpus: FrameCorpus, files: list[Path]) -> None:

    number = corpus.files.index(str(files[3]))
    log_mel = kaldi.filter_bank(torch.from_numpy(load_audio(files[3]))).numpy()
    assert np.abs(corpus.stored(number).log_mel() - log_mel).max() < 0.02
    _, intensity = corpus.utterance(number)
    assert intensity is not None
    assert np.abs(intensity - Loudness().from_banks(log_mel)).max() < 1e-3


def test_long_recordings_are_cut_and_the_shortest_left_out(tmp_path: Path) -> None:
    long = synthetic.write(tmp_path / "long.wav", synthetic.utterance(65.0))
    short = synthetic.write(tmp_path / "short.wav", synthetic.utterance(0.2))
    tiny = synthetic.write(tmp_path / "tiny.wav", synthetic.utterance(0.01))
    made = prepare([long, short, tiny], tmp_path / "frames")
    whole = kaldi.filter_bank(torch.from_numpy(load_audio(long))).numpy()
    assert made.num_left_out == 2
    assert made.num_frames == len(whole)
    assert made.lengths.max() <= LONGEST_FRAMES
    assert made.lengths.max() - made.lengths.min() <= 1
    joined = np.concatenate([made.stored(i).log_mel() for i in range(len(made))])
    assert np.abs(joined - whole).max() < 0.02
    assert SHORTEST_FRAMES == 20


def test_a_broken_file_is_named_and_the_others_go_on(files: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_text("no audio")
    made = prepare([files[0], broken, tmp_path / "missing.wav", files[1]], tmp_path / "frames")
    assert [Path(one.file).name for one in made.failed] == ["broken.wav", "missing.wav"]
    assert len(made) == 2
    with pytest.raises(StoreError, match=r"none of 1 recordings could be used: .*broken\.wav"):
        prepare([broken], tmp_path / "frames")


def test_what_is_there_is_not_read_again_and_names_do_not_matter(files: list[Path], tmp_path: Path) -> None:
    first = prepare(files[:6], tmp_path / "frames")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "frames").glob("*.*")}
    renamed = tmp_path / "another-name.wav"
    shutil.copy(files[2], renamed)
    again = prepare([*files[3:6], renamed, files[0], files[1]], tmp_path / "frames")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list((tmp_path / "frames").glob("*.*"))) == len(before)
    assert again.digest == first.digest
    assert len(again.select([renamed])) == 1


def test_order_and_digest_do_not_depend_on_when_a_recording_was_added(
    files: list[Path], tmp_path: Path
) -> None:
    one = prepare(files, tmp_path / "one")
    prepare(files[7:], tmp_path / "two")
    prepare(files[:3], tmp_path / "two")
    two = prepare(list(reversed(files)), tmp_path / "two")
    assert one.digest == two.digest
    assert one.files == two.files
    for i in range(len(one)):
        assert np.array_equal(one.utterance(i)[0], two.utterance(i)[0])
    assert prepare(files[:5], tmp_path / "two").digest == prepare(files[:5], tmp_path / "three").digest


def test_files_are_left_out_with_all_copies_of_them(files: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy.wav"
    shutil.copy(files[0], copy)
    made = prepare([*files, copy], tmp_path / "frames")
    kept = made.without([copy, files[5]])
    assert str(files[0]) not in kept.files
    assert len(kept) == CLIPS - 2
    assert kept.select(kept.lengths > 60).lengths.min() > 60
    with pytest.raises(UsageError, match=r"holds no recording 'nobody\.wav'"):
        made.without(["nobody.wav"])


def test_a_file_is_there_when_one_of_its_stretches_is(files: list[Path], tmp_path: Path) -> None:
    seconds = pd.to_timedelta([0.0, 1000.0, 1000.0], "s")
    names = [str(files[0]), str(files[0]), str(files[1])]
    index = pd.MultiIndex.from_arrays(
        [names, seconds, seconds + pd.Timedelta("0.5s")], names=["file", "start", "end"]
    )
    found = prepare(index, tmp_path / "frames")
    assert [failure.file for failure in found.failed] == names[1:]
    assert files[0] in found
    assert files[1] not in found
    assert len(found.without([files[0]])) == 0


def test_frames_made_otherwise_are_refused_by_name(files: list[Path], tmp_path: Path) -> None:
    prepare(files[:2], tmp_path / "frames", intensity=Loudness())
    assert not prepare(files[:2], tmp_path / "frames").failed
    with pytest.raises(StoreError, match=r"intensity \(loudness, now other\)"):
        prepare(files[:2], tmp_path / "frames", intensity=Loudness("other"))
    with pytest.raises(StoreError, match=r"num_mel \(80, now 40\)"):
        prepare(files[:2], tmp_path / "frames", num_mel=40)
    with pytest.raises(StoreError, match="give what scored them too"):
        prepare(files[:3], tmp_path / "frames")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(StoreError, match="holds other files"):
        prepare(files[:2], tmp_path / "other")


def test_ready_scores_are_stretched_over_whole_recordings(files: list[Path], tmp_path: Path) -> None:
    long = synthetic.write(tmp_path / "long.wav", synthetic.utterance(25.0))
    table = tmp_path / "scores.csv"
    ramp = np.linspace(0, 1, 7, dtype=np.float32)
    table.write_text(f"long,{','.join(map(str, ramp))}\nother/{files[0].name},0.25,0.75,,\n")
    scores = ReadyScores.read(table)
    made = prepare([long, files[0], files[1]], tmp_path / "frames", intensity=scores)
    assert made.made_by["intensity"] == hashlib.sha256(table.read_bytes()).hexdigest()
    assert [Path(one.file) for one in made.failed] == [files[1]]
    assert "has no score in" in made.failed[0].message
    for file, curve_of in ((long, ramp), (files[0], [0.25, 0.75])):
        curves = [made.utterance(i)[1] for i, name in enumerate(made.files) if name == str(file)]
        joined = np.concatenate([curve for curve in curves if curve is not None])
        np.testing.assert_allclose(joined, align(curve_of, len(joined)), atol=1e-3)  # kept in half precision
    assert made.has_intensity
    assert prepare([long], tmp_path / "frames", intensity=scores).num_frames == 2498


def test_ready_scores_that_do_not_fit_are_refused_by_name(files: list[Path], tmp_path: Path) -> None:
    table = tmp_path / "scores.csv"
    table.write_text("00,0.5\n01,0.5\n")
    scores = ReadyScores.read(table)
    (tmp_path / "b").mkdir()
    shutil.copy(files[1], tmp_path / "b" / "00.wav")
    with pytest.raises(UsageError, match=r"00\.wav and .*00\.wav share theirs"):
        prepare([files[0], tmp_path / "b" / "00.wav"], tmp_path / "frames", intensity=scores)
    part = pd.MultiIndex.from_tuples(
        [
            (str(files[0]), pd.Timedelta(0), pd.Timedelta("0.4s")),
            (str(files[1]), pd.Timedelta(0), pd.NaT),
        ],
        names=["file", "start", "end"],
    )
    made = prepare(part, tmp_path / "frames", intensity=scores)
    assert ["scores whole recordings" in one.message for one in made.failed] == [True]
    table.write_text("00,0.5,70\n")
    with pytest.raises(UsageError, match=r"scores from 0\.5 to 70; bring all to 0 to 1"):
        ReadyScores.read(table)


def test_waiting_for_another_process_is_told_once(files: list[Path], tmp_path: Path) -> None:
    told: list[str] = []
    folder = tmp_path / "frames"
    folder.mkdir()
    holder = ExitStack()
    assert holder.enter_context(alone_if_free(folder / ".lock"))

    def heard(sentence: str) -> None:
        told.append(sentence)
        holder.close()

    prepare(files[:1], folder, on_wait=heard)
    assert told == [f"{folder}: another process prepares frames there; waiting for it"]
    prepare(files[:1], folder, on_wait=heard)
    assert len(told) == 1


def test_damage_is_told_with_the_way_out(files: list[Path], tmp_path: Path) -> None:
    prepare(files[:2], tmp_path / "frames")
    (frames,) = (tmp_path / "frames").glob("frames-*")
    frames.write_bytes(frames.read_bytes()[:-5])
    with pytest.raises(StoreError, match=r"delete table-\w+\.parquet and give the same command again"):
        FrameCorpus.open(tmp_path / "frames")


def test_killed_at_random_moments_and_run_again_the_frames_are_the_same(
    files: list[Path], tmp_path: Path
) -> None:
    whole = prepare(files, tmp_path / "whole")
    chance = random.Random(3)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "killed"), *map(str, files)]
    for _ in range(2):
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not (tmp_path / "killed" / "frames.json").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(chance.uniform(0.0, 0.5))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    (tmp_path / "killed" / "frames-0123456789abcdef.safetensors").touch()  # put in place before its table
    again = prepare(files, tmp_path / "killed")
    assert again.digest == whole.digest
    assert not list((tmp_path / "killed").glob("frames-0123456789abcdef*"))
    assert not list((tmp_path / "killed").glob(".writing-*"))
    for i in range(len(whole)):
        assert np.array_equal(again.utterance(i)[0], whole.utterance(i)[0])


@given(
    lengths=st.lists(st.integers(20, 400), min_size=1, max_size=60),
    batch_size=st.integers(1, 7),
    crop=st.none() | st.integers(10, 300),
    seed=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_every_epoch_takes_every_utterance_once_and_crops_within_it(
    lengths: list[int], batch_size: int, crop: int | None, seed: int
) -> None:
    counts = np.array(lengths)
    sampler = Sampler(counts, batch_size, crop, seed)
    for epoch in range(2):
        batches = [
            sampler.batch(epoch * sampler.batches_per_epoch + i) for i in range(sampler.batches_per_epoch)
        ]
        pieces = [piece for batch in batches for piece in batch]
        assert sorted(piece.utterance for piece in pieces) == list(range(len(lengths)))
        assert max(map(len, batches)) <= batch_size
        for piece in pieces:
            whole = lengths[piece.utterance]
            assert piece.frames == (whole if crop is None else min(whole, crop))
            assert 0 <= piece.start <= whole - piece.frames


def test_a_batch_depends_on_its_number_alone() -> None:
    lengths = np.random.default_rng(0).integers(20, 500, 300)
    forwards, jumping = (Sampler(lengths, 8, 200, seed=1) for _ in range(2))
    wanted = {number: forwards.batch(number) for number in range(120)}
    for number in (119, 3, 40, 38, 0):
        assert jumping.batch(number) == wanted[number]
    assert Sampler(lengths, 8, 200, seed=2).batch(3) != wanted[3]
    assert wanted[0] != wanted[38]  # another epoch, another order


def test_batches_of_similar_lengths_leave_little_padding() -> None:
    lengths = np.random.default_rng(0).integers(100, 600, 2000)
    sampler = Sampler(lengths, 16, None, seed=0)
    batches = [sampler.batch(i) for i in range(sampler.batches_per_epoch)]
    padded = sum(len(batch) * max(piece.frames for piece in batch) for batch in batches)
    assert lengths.sum() / padded > 0.9
