"""Silero here against Silero itself: the same probabilities, the same segments."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from subtone.audio import load_audio
from subtone.speech import SileroDetector, SileroOptions, get_detector, silero
from subtone.speech.rules import Lengths, segments_from_scores
from subtone.speech.silero_matrices import as_matrices

torch = pytest.importorskip("torch")
silero_vad = pytest.importorskip("silero_vad")


@pytest.fixture(scope="module")
def waves(shared: Path) -> list[npt.NDArray[np.float32]]:
    data = shared / "data"
    files = [
        *sorted((data / "emodb-4class").rglob("*.opus"))[::57],
        *sorted((data / "ravdess").rglob("*.opus"))[::241],
        *sorted((data / "nonverbal").rglob("*.opus"))[::150],
    ]
    return [load_audio(file) for file in files]


@pytest.fixture(scope="module")
def stepwise() -> object:
    torch.set_num_threads(1)
    return silero_vad.load_silero_vad(onnx=True)


def test_probabilities_equal_the_stepwise_model(
    waves: list[npt.NDArray[np.float32]], stepwise: object
) -> None:
    detector = SileroDetector()
    for wave in waves:
        stepwise.reset_states()  # type: ignore[attr-defined]
        expected = stepwise.audio_forward(torch.from_numpy(wave)[None], 16_000).numpy()[0]  # type: ignore[attr-defined]
        found = detector.probabilities(wave)
        assert found.shape == (-(-len(wave) // 512),)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_network_as_matrices_gives_the_shipped_model_s_numbers_and_is_what_runs(
    waves: list[npt.NDArray[np.float32]],
) -> None:
    model = silero._model_path().read_bytes()
    faster = as_matrices(model)
    assert faster is not None
    shipped, ours = silero._open(model), silero._open(faster)
    state = np.zeros((1, 1, 128), np.float32)
    for wave in waves[::2]:
        inputs = np.lib.stride_tricks.sliding_window_view(wave, 576)[::512].copy()  # (frames, 576)
        for piece in (inputs[:1], inputs[1:]):
            expected = shipped.run(None, {"input": piece, "h": state, "c": state})
            found = ours.run(None, {"input": piece, "h": state, "c": state})
            for one, other in zip(found, expected, strict=True):
                assert one.shape == other.shape
                np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)
            state = expected[1]
    assert "frames" in silero._session().get_inputs()[0].shape, "the shipped model runs, not its faster form"


def test_another_network_or_a_damaged_file_is_run_as_it_is_or_refused_by_its_own_reader() -> None:
    model = silero._model_path().read_bytes()
    folder = silero._model_path().parent
    assert as_matrices((folder / "silero_vad.onnx").read_bytes()) is None
    assert as_matrices(b"") is None
    rng = np.random.default_rng(0)
    for _ in range(100):
        damaged = bytearray(model[: int(rng.integers(1, 5_000))])
        damaged[int(rng.integers(len(damaged)))] = int(rng.integers(256))
        assert as_matrices(bytes(damaged)) is None
        assert as_matrices(rng.bytes(200)) is None


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"threshold": 0.3, "min_speech_s": 0.0, "min_silence_s": 0.0, "speech_pad_s": 0.0},
        {"threshold": 0.8, "neg_threshold": 0.2, "min_silence_s": 0.5, "speech_pad_s": 0.2},
    ],
)
def test_segments_equal_silero_s_own(
    waves: list[npt.NDArray[np.float32]], stepwise: object, options: dict[str, float]
) -> None:
    full = SileroOptions(**options)
    found = get_detector("silero", **options).detect_many(waves)
    assert sum(map(len, found)) > 10
    for wave, segments in zip(waves, found, strict=True):
        expected = silero_vad.get_speech_timestamps(
            torch.from_numpy(wave),
            stepwise,
            threshold=full.threshold,
            neg_threshold=full.neg_threshold,
            min_speech_duration_ms=round(full.min_speech_s * 1000),
            min_silence_duration_ms=round(full.min_silence_s * 1000),
            speech_pad_ms=round(full.speech_pad_s * 1000),
        )
        assert segments.starts.tolist() == [segment["start"] for segment in expected]
        assert segments.ends.tolist() == [segment["end"] for segment in expected]


@pytest.mark.parametrize("seed", range(30))
def test_the_rules_equal_silero_s_own_on_any_probabilities(seed: int) -> None:
    from silero_vad.utils_vad import get_speech_timestamps_from_probs

    rng = np.random.default_rng(seed)
    # A slow walk, so that probabilities linger in and around the band between the thresholds.
    scores = np.clip(0.5 + np.cumsum(rng.normal(0, 0.15, 300)) % 1.0 - 0.5, 0, 1).astype(np.float32)
    num_samples = 300 * 512 - int(rng.integers(0, 512))
    threshold = float(rng.choice([0.2, 0.5, 0.7]))
    speech_ms, silence_ms, pad_ms = (
        int(rng.choice(choice)) for choice in ([0, 100, 250], [0, 64, 100, 400], [0, 30, 250])
    )
    expected = get_speech_timestamps_from_probs(
        scores.tolist(),
        threshold=threshold,
        min_speech_duration_ms=speech_ms,
        min_silence_duration_ms=silence_ms,
        speech_pad_ms=pad_ms,
        audio_length_samples=num_samples,
    )
    found = segments_from_scores(
        scores,
        frame=512,
        num_samples=num_samples,
        enter=threshold,
        leave=max(threshold - 0.15, 0.01),
        lengths=Lengths(
            min_speech_s=speech_ms / 1000, min_silence_s=silence_ms / 1000, speech_pad_s=pad_ms / 1000
        ),
    )
    assert found.starts.tolist() == [segment["start"] for segment in expected]
    assert found.ends.tolist() == [segment["end"] for segment in expected]


def test_threads_that_share_a_detector_do_not_disturb_each_other(
    waves: list[npt.NDArray[np.float32]],
) -> None:
    detector = SileroDetector()
    alone = [detector.detect(wave) for wave in waves]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detector.detect, waves)) == alone


def test_detection_needs_no_torch_and_says_nothing_on_stderr() -> None:
    code = (
        "import sys, numpy as np\n"
        "from subtone.speech import detect\n"
        "assert len(detect(np.zeros(16000, np.float32))) == 0\n"
        "assert 'torch' not in sys.modules and 'silero_vad' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
