"""The processes that read, seen from the system: what they load, what they say, and that they never outlive the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from subtone.errors import SubtoneError
from subtone.extraction.clips import Clip, clips_of
from subtone.extraction.readers import Failure, Readers, Reading
from tests import synthetic

linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into /proc")

# A run that was told its clips; what it does with the first outcome is the test's own.
RUN = """
import os, sys, time
from subtone.extraction.clips import Clip
from subtone.extraction.readers import Readers
clips = [Clip(file) for file in sys.argv[1:]] * 200
with Readers({"name": "energy"}, 2, held_s=1.0) as readers:
    for outcome in readers.read(clips):
        if outcome.wave is None:
            stream = outcome.blocks()
            next(stream)
            print(*readers.pids, flush=True)
            DO
"""


def write_long(path: Path, minutes: int) -> Path:
    """Write a recording at 8 kHz that is mostly a hole in the file."""
    with soundfile.SoundFile(path, "w", 8_000, 1, "PCM_16") as sound:
        sound.write(synthetic.utterance(20.0))
        sound.seek(minutes * 60 * 8_000)
        sound.write(synthetic.utterance(20.0))
    return path


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_long(tmp_path_factory.mktemp("long") / "long.wav", minutes=10)


@linux
def test_a_run_that_is_killed_leaves_no_process(long: Path) -> None:
    run = start("time.sleep(60)", long)
    assert run.stdout is not None
    pids = [int(pid) for pid in run.stdout.readline().split()]
    assert len(pids) >= 2
    assert not any(map(gone, pids))
    run.kill()
    assert run.wait() == -signal.SIGKILL
    within(20.0, lambda: all(map(gone, pids)))


@linux
def test_an_interrupt_from_the_terminal_is_told_by_the_run_alone(long: Path) -> None:
    run = start("time.sleep(60)", long, start_new_session=True)
    assert run.stdout is not None
    pids = [int(pid) for pid in run.stdout.readline().split()]
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to all of its processes
    _, said = run.communicate(timeout=90)
    assert said.count("KeyboardInterrupt") == 1
    assert said.count("Traceback") == 1
    within(20.0, lambda: all(map(gone, pids)))


def test_a_run_that_ends_in_the_middle_says_nothing_and_does_not_hang(long: Path) -> None:
    for run in [start(end, long) for end in ("sys.exit(0)", "os._exit(0)")]:
        _, said = run.communicate(timeout=90)
        assert (run.returncode, said) == (0, "")


def test_readers_that_nobody_closed_do_not_hold_the_program_up(long: Path) -> None:
    code = RUN.replace("with Readers", "readers = Readers").replace(
        "held_s=1.0) as readers:", "held_s=1.0)\nif True:"
    )
    run = start("sys.exit(0)", long, code=code)
    _, said = run.communicate(timeout=90)
    assert (run.returncode, said) == (0, "")


def test_what_decoders_print_stays_out_of_the_terminal(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "good.mp3", synthetic.utterance(3.0), 16_000)
    coded = bytearray((tmp_path / "good.mp3").read_bytes())
    rng = np.random.default_rng(1)
    coded[2_000:] = rng.integers(0, 256, len(coded) - 2_000, dtype=np.uint8).tobytes()
    (tmp_path / "noise.mp3").write_bytes(coded)
    reads = "import sys; from subtone import load_audio\ntry: load_audio(sys.argv[1])\nexcept Exception: pass"
    alone = subprocess.run(
        [sys.executable, "-c", reads, tmp_path / "noise.mp3"], capture_output=True, text=True, check=True
    )
    assert alone.stderr, (
        "libsndfile's MP3 decoder used to complain about noise; find another file for this test"
    )
    code = RUN.split("        if ")[0] + "        pass"
    run = start("", tmp_path / "noise.mp3", code=code)
    assert run.communicate(timeout=90) == ("", "")


def test_packages_are_found_where_this_process_finds_them_not_in_the_folder_of_the_recordings(
    tmp_path: Path,
) -> None:
    file = synthetic.write(tmp_path / "a.wav", synthetic.utterance(0.5))
    for name in ("numpy", "soundfile", "json", "subtone"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not this one')")
    script = tmp_path / "scripts" / "run.py"
    script.parent.mkdir()
    script.write_text(
        "from subtone.extraction.readers import Readers\nfrom subtone.extraction.clips import Clip\n"
        f"with Readers({{'name': 'energy'}}, 1) as readers:\n    print(*readers.read([Clip({str(file.name)!r})]))\n"
    )
    source = str(Path(__file__).parents[1] / "src")
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": source},
    )
    assert "Reading(clip=Clip(file='a.wav'" in done.stdout, done


def test_an_installation_that_does_not_start_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "soundfile.py").write_text("raise ImportError('libsndfile.so: no such thing')")
    monkeypatch.syspath_prepend(tmp_path)
    with (
        Readers({"name": "energy"}, 2) as readers,
        pytest.raises(SubtoneError, match=r"does not start: ImportError: libsndfile\.so: no such thing"),
    ):
        list(readers.read([Clip("a.wav")] * 5))


@linux
def test_a_reading_process_is_light_and_has_no_torch(tmp_path: Path) -> None:
    files = [synthetic.write(tmp_path / f"{i}.wav", synthetic.utterance(2.0, seed=i)) for i in range(8)]
    seen: dict[int, str] = {}
    libraries = ""
    with Readers({"name": "silero"}, 1) as readers:

        def known(_key: str) -> bool:
            nonlocal libraries
            for pid in readers.pids:
                seen[pid] = Path(f"/proc/{pid}/status").read_text()
                libraries = Path(f"/proc/{pid}/maps").read_text()
            return False

        assert all(isinstance(outcome, Reading) for outcome in readers.read(clips_of(files), known))
    assert len(seen) == 1
    assert "onnxruntime" in libraries
    assert "libtorch" not in libraries
    (status,) = seen.values()
    assert kib(status, "VmHWM") < 120 * 1024


@linux
def test_hours_are_streamed_in_the_memory_of_a_block_on_both_sides(tmp_path: Path) -> None:
    with Readers({"name": "energy"}, 1) as readers:
        [outcome] = readers.read([Clip(str(write_long(tmp_path / "long.wav", minutes=60)))])
        assert not isinstance(outcome, Failure)
        within(20.0, lambda: not readers.pids)
        blocks = outcome.blocks()
        count = len(next(blocks))
        (pid,) = readers.pids
        before = kib(Path("/proc/self/status").read_text(), "VmRSS")
        time.sleep(0.3)  # An eager process would run far ahead meanwhile.
        assert kib(Path(f"/proc/{pid}/status").read_text(), "VmHWM") < 120 * 1024
        for block in blocks:
            count += len(block)
        assert kib(Path("/proc/self/status").read_text(), "VmRSS") - before < 32 * 1024
        assert count == outcome.num_samples == (3600 + 40) * 16_000


def start(do: str, file: Path, *, code: str = RUN, start_new_session: bool = False) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code.replace("DO", do), file],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=start_new_session,
        cwd=Path(__file__).parents[1],
    )


def gone(pid: int) -> bool:
    """Tell whether a process has ended; one that its parent did not wait for is a zombie until somebody does."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def within(seconds: float, true: object) -> None:
    end = time.monotonic() + seconds
    assert callable(true)
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


def kib(status: str, name: str) -> int:
    (line,) = (line for line in status.splitlines() if line.startswith(name + ":"))
    return int(line.split()[1])
