"""Readers: every clip as one process alone would read it, in order, whatever happens to the processes."""

from __future__ import annotations

import os
import random
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from subtone import load_audio
from subtone.errors import AudioError, SubtoneError
from subtone.extraction import readers as readers_room
from subtone.extraction.clips import Clip, clips_of
from subtone.extraction.readers import AHEAD, Failure, Readers, Reading
from subtone.speech import get_detector
from tests import synthetic

ENERGY = get_detector("energy", min_speech_s=0.03, min_silence_s=0.03, speech_pad_s=0.0)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    folder = tmp_path_factory.mktemp("clips")
    return clips_of(
        synthetic.write(folder / f"{i}.wav", synthetic.utterance(0.3 + 0.1 * (i % 5), 100 + 20 * i, seed=i))
        for i in range(12)
    )


@pytest.fixture
def readers() -> Iterator[Readers]:
    with Readers(ENERGY.config(), workers=2) as two:
        yield two


def is_read(outcome: Reading | Failure, clip: Clip) -> None:
    """Hold an outcome to what this process reads itself."""
    assert isinstance(outcome, Reading), outcome
    wave = load_audio(clip.file, start_s=clip.start_s, end_s=clip.end_s)
    assert outcome.clip is clip
    assert outcome.key == clip.key()
    assert outcome.num_samples == len(wave)
    assert outcome.speech == ENERGY.detect(wave)
    assert np.array_equal(np.concatenate(list(outcome.blocks())), wave)


def test_each_clip_comes_in_order_as_one_process_alone_would_read_it(
    clips: list[Clip], readers: Readers
) -> None:
    found = list(readers.read(clips))
    assert len(found) == len(clips)
    for outcome, clip in zip(found, clips, strict=True):
        is_read(outcome, clip)
        assert isinstance(outcome, Reading)
        assert outcome.wave is not None
        assert outcome.wave.dtype == np.float32
        assert not outcome.reused
    assert len({outcome.key for outcome in found if isinstance(outcome, Reading)}) == len(clips)


@pytest.mark.parametrize("held_s", [600.0, 0.5])
def test_parts_at_any_rate_are_those_of_the_recording(tmp_path: Path, held_s: float) -> None:
    for rate in (16_000, 22_050):
        soundfile.write(tmp_path / f"{rate}.flac", synthetic.utterance(2.0)[: 2 * rate], rate)
    parts = [
        Clip(str(tmp_path / f"{rate}.flac"), *part)
        for rate in (16_000, 22_050)
        for part in ((0.0, None), (0.5, None), (0.25, 1.0), (0.1, 60.0))
    ]
    with Readers(ENERGY.config(), 2, held_s=held_s) as readers:
        for outcome, clip in zip(readers.read(parts), parts, strict=True):
            wave = load_audio(clip.file, start_s=clip.start_s, end_s=clip.end_s)
            assert isinstance(outcome, Reading), outcome
            assert (outcome.wave is None) == (len(wave) > held_s * 16_000)
            assert outcome.key == clip.key()
            np.testing.assert_allclose(np.concatenate(list(outcome.blocks())), wave, rtol=0, atol=1e-5)


def test_silero_hears_in_another_process_what_it_hears_in_this_one(shared: Path) -> None:
    files = sorted((shared / "data" / "ravdess").rglob("*.opus"))[::241]
    silero = get_detector("silero", threshold=0.4)
    with Readers(silero.config(), 2) as readers:
        for outcome, file in zip(readers.read(clips_of(files)), files, strict=True):
            assert isinstance(outcome, Reading)
            assert len(outcome.speech) > 0
            assert outcome.speech == silero.detect(load_audio(file))


def test_broken_recordings_are_named_as_without_processes_and_the_others_go_on(
    tmp_path: Path, clips: list[Clip], readers: Readers
) -> None:
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "empty.wav").touch()
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    cut = Path(clips[0].file).read_bytes()[:5_000]
    (tmp_path / "cut.wav").write_bytes(cut)
    bad = [
        Clip(str(tmp_path / name))
        for name in ("text.wav", "empty.wav", "folder.wav", "pipe.wav", "cut.wav", "missing.wav")
    ]
    bad += [
        Clip(clips[0].file, 100.0),
        Clip(clips[0].file, -1.0),
        Clip(clips[0].file, 0.2, 0.1),
        Clip("a\0b"),
    ]
    mixed = [clip for pair in zip(bad, clips, strict=False) for clip in pair]
    for outcome, clip in zip(readers.read(mixed, known=lambda _key: False), mixed, strict=True):
        if clip in bad:
            with pytest.raises(AudioError) as error:
                load_audio(clip.file, start_s=clip.start_s, end_s=clip.end_s)
            assert isinstance(outcome, Failure), outcome
            if clip.start_s < 100:
                assert outcome == Failure(clip.file, str(error.value))
            assert not outcome.details
        else:
            is_read(outcome, clip)


def test_a_fault_that_nobody_foresaw_costs_its_clip_and_its_traceback_reaches_the_report(
    clips: list[Clip], readers: Readers
) -> None:
    odd = Clip(clips[0].file, "soon")  # type: ignore[arg-type]
    failure, reading = readers.read([odd, clips[1]])
    assert isinstance(failure, Failure)
    assert clips[0].file in failure.message
    assert "TypeError" in failure.message
    assert "Traceback" in failure.details
    is_read(reading, clips[1])


@pytest.mark.parametrize("name", ["caf\udce9.wav", "-x\n\"'$ .wav", "ü 🎤 .wav", "x" * 200 + ".wav"])
def test_any_file_name_will_do(tmp_path: Path, name: str, clips: list[Clip], readers: Readers) -> None:
    path = tmp_path / name
    path.write_bytes(Path(clips[0].file).read_bytes())
    named, gone = Clip(str(path)), Clip(str(path) + "x")
    reading, failure = readers.read([named, gone])
    is_read(reading, named)
    assert isinstance(failure, Failure)
    assert failure.message == f"{gone.file}: no such file"


def test_known_clips_are_not_decoded(tmp_path: Path, clips: list[Clip], readers: Readers) -> None:
    (tmp_path / "text.wav").write_text("no audio, so that decoding it would fail")
    text = Clip(str(tmp_path / "text.wav"))
    asked: list[str] = []

    def known(key: str) -> bool:
        asked.append(key)
        return key == text.key()

    reused, reading = readers.read([text, clips[0]], known)
    assert sorted(asked) == sorted([text.key(), clips[0].key()])
    assert isinstance(reused, Reading)
    assert reused.reused
    assert (reused.key, reused.num_samples, reused.wave, list(reused.blocks())) == (text.key(), 0, None, [])
    is_read(reading, clips[0])


def test_what_the_one_who_knows_raises_comes_out(clips: list[Clip], readers: Readers) -> None:
    def known(_key: str) -> bool:
        raise SubtoneError("the store is gone")

    with pytest.raises(SubtoneError, match="the store is gone"):
        list(readers.read(clips, known))


def test_a_process_that_is_killed_is_replaced_and_nothing_is_lost(clips: list[Clip]) -> None:
    killed: list[int] = []
    with Readers(ENERGY.config(), workers=1) as readers:

        def known(key: str) -> bool:
            if key == clips[3].key() and not killed:
                killed.extend(readers.pids)
                os.kill(killed[0], signal.SIGKILL)
            return False

        for outcome, clip in zip(readers.read(clips, known), clips, strict=True):
            is_read(outcome, clip)
        assert killed
        assert killed[0] not in readers.pids


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_clip_whose_reading_kills_twice_is_named_and_the_others_go_on(
    clips: list[Clip], number: signal.Signals
) -> None:
    asked: list[str] = []
    with Readers(ENERGY.config(), workers=1) as readers:

        def known(key: str) -> bool:
            asked.append(key)
            if key == clips[3].key():
                os.kill(readers.pids[0], number)
            return False

        for outcome, clip in zip(readers.read(clips, known), clips, strict=True):
            if clip is clips[3]:
                assert isinstance(outcome, Failure)
                assert outcome.file == clip.file
                assert clip.file in outcome.message
                assert number.name in outcome.message
                # The decoder's stack is there for a bug report.
                assert number is not signal.SIGSEGV or "Segmentation fault" in outcome.details
            else:
                is_read(outcome, clip)
    assert asked.count(clips[3].key()) == 2


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits the memory of a running process")
def test_a_clip_that_does_not_fit_the_memory_is_named_and_its_process_goes_on(
    clips: list[Clip], long: Clip
) -> None:
    seen: set[int] = set()
    with Readers(ENERGY.config(), workers=1) as readers:

        def known(_key: str) -> bool:
            (pid,) = readers.pids
            seen.add(pid)
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
            resource.prlimit(pid, resource.RLIMIT_AS, (pages * 4096 + (16 << 20), resource.RLIM_INFINITY))
            return False

        failure, reading = readers.read([long, clips[0]], known)
    assert failure == Failure(
        long.file, f"{long.file}: not enough memory for this clip; cut it into utterances"
    )
    is_read(reading, clips[0])
    assert len(seen) == 1


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_moments_every_clip_is_read_or_named_in_order(seed: int, clips: list[Clip]) -> None:
    draw = random.Random(seed)
    many = clips * 6
    over = threading.Event()
    kills = 0

    with Readers(ENERGY.config(), workers=3) as readers:

        def kill() -> None:
            nonlocal kills
            while not over.wait(draw.uniform(0.0, 0.3)):
                for pid in draw.sample(readers.pids, 1) if readers.pids else ():
                    try:
                        os.kill(pid, signal.SIGKILL)
                        kills += 1
                    except ProcessLookupError:
                        pass

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            named = 0
            for outcome, clip in zip(readers.read(many), many, strict=True):
                if isinstance(outcome, Failure):
                    named += 1
                    assert clip.file in outcome.message
                    assert "SIGKILL" in outcome.message
                else:
                    is_read(outcome, clip)
                time.sleep(0.01)
        finally:
            over.set()
            killer.join()
        assert kills > 0
        assert named <= kills // 2


def test_no_more_clips_are_begun_than_may_wait(clips: list[Clip], readers: Readers) -> None:
    asked: list[str] = []
    found = readers.read(clips * 10, known=lambda key: bool(asked.append(key)))
    next(found)
    settled(lambda: len(asked))
    assert len(asked) <= 2 * AHEAD + 1
    assert sum(1 for _ in found) == 10 * len(clips) - 1


def test_heavy_clips_wait_for_room(
    clips: list[Clip], readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers_room, "WAITING_BYTES", 1)
    asked: list[str] = []
    found = readers.read(clips, known=lambda key: bool(asked.append(key)))
    next(found)
    settled(lambda: len(asked))
    assert len(asked) <= 1 + 2 + 1  # the one taken, the one that waits, and one a process
    for outcome, clip in zip(found, clips[1:], strict=True):
        is_read(outcome, clip)


def test_there_is_a_process_for_each_clip_at_most_and_none_when_all_are_read(clips: list[Clip]) -> None:
    with Readers(ENERGY.config(), workers=16) as readers:
        most = 0

        def known(_key: str) -> bool:
            nonlocal most
            most = max(most, len(readers.pids))
            return False

        assert len(list(readers.read(clips[:2], known))) == 2
        assert 1 <= most <= 2
        assert list(readers.read([])) == []
        until(lambda: not readers.pids)


def test_a_long_clip_is_streamed_as_often_as_asked_and_others_are_read_meanwhile(clips: list[Clip]) -> None:
    with Readers(ENERGY.config(), workers=1, held_s=0.45) as readers:
        found = readers.read(clips)
        streamed = 0
        for clip in clips:
            outcome = next(found)
            assert isinstance(outcome, Reading)
            is_read(outcome, clip)
            is_read(outcome, clip)
            streamed += outcome.wave is None
        assert 0 < streamed < len(clips)

        first, *_ = (o for o in readers.read(clips) if isinstance(o, Reading) and o.wave is None)
        halfway = first.blocks()
        next(halfway)
        assert len(list(readers.read(clips))) == len(clips)
        assert list(halfway) == []


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """Eight minutes at 8 kHz."""
    path = tmp_path_factory.mktemp("long") / "long.flac"
    wave = np.tile(synthetic.utterance(10.0, seed=4), 24) + np.linspace(0, 0.1, 24 * 160_000)
    soundfile.write(path, wave, 8_000)
    return Clip(str(path))


def test_a_stream_whose_process_is_killed_goes_on_where_it_was(long: Clip) -> None:
    with Readers(ENERGY.config(), 1, held_s=1.0) as readers:
        outcome = streamed(readers, long)
        blocks = outcome.blocks()
        got = [next(blocks), next(blocks)]
        os.kill(readers.pids[0], signal.SIGKILL)
        got += blocks
        assert np.array_equal(np.concatenate(got), load_audio(long.file))
        until(lambda: not readers.pids)


def test_a_stream_whose_process_is_killed_again_is_given_up_by_name(long: Clip) -> None:
    def go_through() -> None:
        for _ in outcome.blocks():
            os.kill(readers.pids[0], signal.SIGKILL)

    with Readers(ENERGY.config(), 1, held_s=1.0) as readers:
        outcome = streamed(readers, long)
        with pytest.raises(AudioError, match=r"long\.flac: .* died twice .*SIGKILL"):
            go_through()
        until(lambda: not readers.pids)


def test_a_file_changed_after_its_speech_was_found_is_told(tmp_path: Path, long: Clip) -> None:
    copy = tmp_path / "copy.flac"
    copy.write_bytes(Path(long.file).read_bytes())
    with Readers(ENERGY.config(), 1, held_s=1.0) as readers:
        outcome = streamed(readers, Clip(str(copy)))
        os.utime(copy, ns=(0, 0))
        with pytest.raises(AudioError, match=r"copy\.flac: was changed since its speech was found"):
            list(outcome.blocks())


def test_a_stream_that_is_let_go_of_leaves_no_process(long: Clip) -> None:
    with Readers(ENERGY.config(), 1, held_s=1.0) as readers:
        blocks = streamed(readers, long).blocks()
        next(blocks)
        assert readers.pids
        del blocks
        until(lambda: not readers.pids)


def test_the_end_of_the_readers_is_the_end_of_their_processes_whatever_they_do(
    clips: list[Clip], long: Clip
) -> None:
    before = threading.active_count()
    with Readers(ENERGY.config(), 2, held_s=1.0) as readers:
        found = readers.read([long, *clips * 50])
        outcome = next(found)
        assert isinstance(outcome, Reading)
        halfway = outcome.blocks()
        next(halfway)
        pids = readers.pids
        assert len(pids) == 3
        began = time.monotonic()
    assert time.monotonic() - began < 10
    assert not readers.pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):  # Gone and waited for: not even a zombie.
            os.kill(pid, 0)
    assert threading.active_count() == before
    with pytest.raises(SubtoneError, match="closed"):
        readers.read(clips)
    with pytest.raises(AudioError, match=r"long\.flac: given up"):
        list(halfway)


def test_several_readings_and_threads_share_the_readers(clips: list[Clip], readers: Readers) -> None:
    found: list[list[Reading | Failure]] = [[], []]

    def take(into: list[Reading | Failure]) -> None:
        into.extend(readers.read(clips))

    threads = [threading.Thread(target=take, args=(into,)) for into in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for outcomes in found:
        for outcome, clip in zip(outcomes, clips, strict=True):
            is_read(outcome, clip)


def test_a_detector_that_cannot_be_made_is_told(clips: list[Clip]) -> None:
    with (
        Readers({"name": "slero"}, 1) as readers,
        pytest.raises(SubtoneError, match=r"no detector 'slero'; did you mean 'silero'\?"),
    ):
        list(readers.read(clips))


def test_segments_of_one_recording_have_keys_of_their_own(long: Clip, readers: Readers) -> None:
    parts = [Clip(long.file, start, end) for start, end in pairwise(range(0, 40, 4))]
    keys = [outcome.key for outcome in readers.read(parts) if isinstance(outcome, Reading)]
    assert keys == [part.key() for part in parts]


def streamed(readers: Readers, clip: Clip) -> Reading:
    """Return a clip that is too long to be held, when the process that found its speech is gone."""
    [outcome] = readers.read([clip])
    assert isinstance(outcome, Reading)
    assert outcome.wave is None
    until(lambda: not readers.pids)
    return outcome


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for something that must come true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


def settled(value: Callable[[], int], seconds: float = 0.3) -> None:
    """Wait until a number does not change any more."""
    last, since = value(), time.monotonic()
    while time.monotonic() - since < seconds:
        time.sleep(0.02)
        if value() != last:
            last, since = value(), time.monotonic()
