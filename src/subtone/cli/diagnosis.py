"""What `subtone doctor` looks at: versions, codecs, detectors, devices, models; each finding stands by itself."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata, util
from typing import Any, Literal

import subtone

State = Literal["ok", "absent", "broken"]

PACKAGES = (
    "numpy", "scipy", "pandas", "pyarrow", "audformat", "soundfile", "soxr", "av", "torch", "transformers",
    "safetensors", "silero-vad", "onnxruntime", "lightning-fabric", "scikit-learn", "pydantic", "PyYAML", "typer",
    "rich", "matplotlib", "tensorboardX",
)  # fmt: skip
EXTRAS = {
    "webrtcvad-wheels": "webrtc",
    "opensmile": "opensmile",
    "openvino": "openvino",
    "peft": "lora",
    "audiomentations": "augment",
}
SWITCHES = (
    "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HOME", "HF_HUB_CACHE", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES",
    "SUBTONE_DEBUG",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Parameters
    ----------
    area
        ``"version"``, ``"audio"``, ``"speech"``, ``"device"``, ``"model"`` or ``"setting"``.
    name
        What it is.
    state
        ``"absent"``: an optional part that is not there; ``"broken"``: a part that should work and does not.
    detail
        Version, capability, or what to do.
    """

    area: str
    name: str
    state: State
    detail: str


def diagnose() -> list[Finding]:
    """Look at everything; nothing here raises."""
    findings: list[Finding] = []
    for area, look in (
        ("version", _versions),
        ("audio", _audio),
        ("speech", _speech),
        ("device", _devices),
        ("model", _models),
        ("setting", _settings),
    ):
        try:
            findings += look()
        except Exception as error:  # A broken installation is what this is for.
            findings.append(Finding(area, area, "broken", _reason(error)))
    return findings


def _versions() -> list[Finding]:
    findings = [
        Finding("version", "subtone", "ok", subtone.__version__),
        Finding("version", "Python", "ok", f"{platform.python_version()} ({sys.executable})"),
        Finding("version", "platform", "ok", platform.platform()),
    ]
    for package in (*PACKAGES, *EXTRAS):
        try:
            findings.append(Finding("version", package, "ok", metadata.version(package)))
        except metadata.PackageNotFoundError:
            extra = EXTRAS.get(package)
            state: State = "broken" if extra is None else "absent"
            what = "subtone" if extra is None else f"'subtone[{extra}]'"
            findings.append(Finding("version", package, state, f"not installed; pip install {what}"))
    return findings


def _audio() -> list[Finding]:
    return [_try("audio", "soundfile", _soundfile), _try("audio", "PyAV", _pyav)]


def _soundfile() -> str:
    import soundfile

    formats, subtypes = soundfile.available_formats(), soundfile.available_subtypes()
    kinds = {"wav": "WAV" in formats, "flac": "FLAC" in formats, "ogg": "VORBIS" in subtypes}
    kinds |= {"opus": "OPUS" in subtypes, "mp3": "MPEG_LAYER_III" in subtypes}
    return f"libsndfile {soundfile.__libsndfile_version__}; {_yes_no(kinds)}"


def _pyav() -> str:
    import av

    codecs = av.codecs_available
    kinds = {name: name in codecs for name in ("aac", "opus", "mp3", "amrnb", "wmav2")}
    return f"PyAV {av.__version__}; {_yes_no(kinds)}"


def _speech() -> list[Finding]:
    from subtone.speech import DETECTORS

    findings = []
    for name in DETECTORS:
        if name == "webrtc" and util.find_spec("webrtcvad") is None:
            findings.append(Finding("speech", name, "absent", "not installed; pip install 'subtone[webrtc]'"))
        else:
            findings.append(_try("speech", name, lambda name=name: _detects(name)))  # type: ignore[misc]
    return findings


def _detects(name: str) -> str:
    import numpy as np

    from subtone.speech import detect

    found = detect(np.zeros(16_000, dtype=np.float32), name)
    if len(found):
        raise RuntimeError("hears speech in silence")
    return "runs"


def _devices() -> list[Finding]:
    import torch

    findings = [
        Finding("device", "cpu", "ok", f"{torch.get_num_threads()} threads of {os.cpu_count()} cores")
    ]
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for number in range(count):
        properties = torch.cuda.get_device_properties(number)
        detail = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        findings.append(Finding("device", f"cuda:{number}", "ok", detail))
    if not count:
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        findings.append(Finding("device", "cuda", "absent", f"none; PyTorch is built {built}"))
    mps = torch.backends.mps.is_available()
    findings.append(Finding("device", "mps", "ok" if mps else "absent", "Apple GPU" if mps else "none"))
    return findings


def _models() -> list[Finding]:
    from subtone import bundle
    from subtone.upstreams import shipping

    shipped = [model.name for model in bundle.shipped()]
    if "default" not in shipped:
        return [
            Finding(
                "model",
                "default",
                "broken",
                "the model that ships with Subtone is not there; install it anew",
            )
        ]
    return [
        *(_try("model", name, lambda name=name: _loads(name)) for name in shipped),  # type: ignore[misc]
        *(_try("model", one.name, lambda name=one.name: _encodes(name)) for one in shipping.shipped()),  # type: ignore[misc]
    ]


def _loads(name: str) -> str:
    from subtone import bundle

    model = bundle.load(name)  # Holds the weights of its upstream against their fingerprint.
    return "loads offline, weights are those that were saved; answers " + ", ".join(model.labels)


def _encodes(name: str) -> str:
    from subtone import upstreams

    upstream = upstreams.load(name)
    return f"loads offline; an upstream of {upstream.num_layers} layers, {upstream.dim} numbers a frame"


def _settings() -> list[Finding]:
    return [
        Finding("setting", name, "ok" if name in os.environ else "absent", os.environ.get(name, "not set"))
        for name in SWITCHES
    ]


def _try(area: str, name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(area, name, "ok", look())
    except Exception as error:
        return Finding(area, name, "broken", _reason(error))


def _reason(error: Exception) -> str:
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _yes_no(kinds: dict[str, Any]) -> str:
    lacking = [name for name, there in kinds.items() if not there]
    reads = "reads " + ", ".join(name for name, there in kinds.items() if there)
    return f"{reads}; not {', '.join(lacking)}" if lacking else reads
