"""The package as a whole: what `import subtone` gives and costs, and the recordings that come with it."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import subtone

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
HEAVY = ("torch", "transformers", "pandas", "matplotlib", "scipy", "sklearn", "onnxruntime", "numpy", "av")


def imported_by(code: str) -> set[str]:
    """Which heavy packages a fresh Python has imported after some code."""
    ask = f"{code}\nimport sys\nprint('\\n' + ' '.join(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_importing_subtone_imports_nothing_heavy() -> None:
    assert imported_by("import subtone; dir(subtone)") == set()


def test_loading_audio_does_not_import_torch() -> None:
    code = "import subtone, numpy; subtone.load_audio(numpy.zeros(16000, numpy.float32))"
    assert "torch" not in imported_by(code)


def test_every_public_name_is_there_and_listed() -> None:
    for name in subtone.__all__:
        assert getattr(subtone, name) is not None
    assert set(subtone.__all__) <= set(dir(subtone))
    assert callable(subtone.predict)
    assert issubclass(subtone.errors.AudioError, subtone.SubtoneError)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'subtone' has no attribute 'preditc'"):
        _ = subtone.preditc


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert subtone.__version__ == project["version"] == importlib.metadata.version("subtone")


def test_every_example_can_be_read_and_is_described() -> None:
    recordings = subtone.audio.expand(EXAMPLES)
    assert len(recordings) >= 4
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert "espeak-ng" in page
    for path in recordings:
        assert len(subtone.load_audio(path)) > 16_000
        assert f"`{path.name}`" in page
    assert sum(path.stat().st_size for path in recordings) < 1_000_000


def test_the_example_call_has_one_person_on_each_channel() -> None:
    call = EXAMPLES / "call.opus"
    assert subtone.audio.probe(call).channels == 2
    left, right = (subtone.speech.detect(subtone.load_audio(call, channel=side)) for side in (0, 1))
    assert 0.2 < left.share < 0.6
    assert 0.2 < right.share < 0.6
    both = np.concatenate([left.seconds, right.seconds])
    both = both[both[:, 0].argsort()]
    assert (both[1:, 0] >= both[:-1, 1] - 0.1).all(), "they talk at the same time"


def test_the_example_of_a_quiet_room_holds_no_speech() -> None:
    assert subtone.speech.detect(subtone.load_audio(EXAMPLES / "quiet-room.flac")).share == 0
