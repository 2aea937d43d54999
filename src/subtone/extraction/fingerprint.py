"""How features were made: what they depend on beside the audio, and whether two ways of making them fit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Literal

from subtone.errors import UsageError
from subtone.speech import Detector
from subtone.upstreams import Upstream

#: Of the files in a store; raised when a reader of before could not read them or would misunderstand them.
SCHEMA = 2

#: How many leading numbers of a library's version have to agree. Features are compared with those of other clips, so
#: what matters is whether a release may move them by more than the last digits:
#: - torch, transformers, and what else a backend names: new kernels and changed model code come with minor releases;
#: - soxr: the same, for resampling;
#: - silero-vad: any release may bring new weights, which lie in the package;
#: - onnxruntime runs nothing but that detector, and NumPy sums: their results are fixed but for the last digits.
#: What decodes (soundfile, PyAV) is left out: lossless files have one right answer, and decoders of lossy ones agree to
#: the last bits by their standards. So is pandas, and what else only moves files.
_NUMBERS_THAT_MATTER = {"numpy": 1, "onnxruntime": 1, "silero-vad": 9}
_NUMBERS = 2
#: Mappings under these names hold versions of libraries; what stands under the other is for people, never compared.
_VERSIONS = ("libraries", "versions")
ABOUT = "about"


def fingerprint(
    upstream: Upstream,
    detector: Detector,
    statistics: Sequence[str],
    *,
    backend: Mapping[str, Any] | None = None,
    leave_out_silence_s: float | None = None,
    frames: Literal["all"] | Sequence[int] | None = None,
    chunking: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return all that features depend on beside the audio: JSON, and the same wherever and whenever it is asked for.

    Parameters
    ----------
    upstream, detector : Upstream, Detector
        What gives the frames and finds speech.
    statistics : sequence of str
        What is kept of each clip.
    backend : mapping, optional
        ``config()`` of what computes the frames.
    leave_out_silence_s : float, optional
        See :class:`~subtone.extraction.options.ExtractionOptions`.
    frames : "all" or sequence of int, optional
        Layers whose frames are kept as well; stands in the result as their numbers.
    chunking : mapping, optional
        How long clips are cut.

    Raises
    ------
    UsageError
        If the upstream has no such layer.
    """
    libraries = ["numpy", "soxr", "torch", "transformers"]
    if detector.name == "silero":
        libraries += ["onnxruntime", "silero-vad"]
    return {
        "schema": SCHEMA,
        "upstream": upstream.fingerprint(),
        "detector": detector.config(),
        "statistics": sorted(statistics),
        "sample_rate_hz": upstream.grid.sample_rate_hz,
        "backend": None if backend is None else dict(backend),
        "leave_out_silence_s": leave_out_silence_s,
        "frames": _layers(frames, upstream),
        "chunking": None if chunking is None else dict(chunking),
        "libraries": {name: version(name) for name in sorted(libraries)},
        ABOUT: {"upstream": upstream.name},
    }


def _layers(frames: Literal["all"] | Sequence[int] | None, upstream: Upstream) -> list[int] | None:
    if frames is None:
        return None
    layers = sorted(set(range(upstream.num_layers) if frames == "all" else frames))
    if layers and not 0 <= layers[0] <= layers[-1] < upstream.num_layers:
        raise UsageError(
            f"frames of layer {layers[-1] if layers[0] >= 0 else layers[0]}: {upstream.name} has layers 0 to "
            f"{upstream.num_layers - 1}"
        )
    return [int(layer) for layer in layers]


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Say in what two fingerprints differ, both values each; nothing when features of one go with the other's.

    >>> differences({"libraries": {"torch": "2.13.0"}}, {"libraries": {"torch": "2.13.1+cpu"}})
    []
    >>> differences({"libraries": {"torch": "2.13.0"}}, {"libraries": {"torch": "2.14.0"}})
    ['libraries (torch 2.13.0, now 2.14.0)']
    """
    told = []
    for name in [*wanted, *(name for name in found if name not in wanted)]:
        if name == ABOUT or _same(name, found.get(name), wanted.get(name)):
            continue
        if name == "upstream":
            told.append(_upstreams(found, wanted))
        else:
            told.append(f"{name} ({_told(name, found.get(name), wanted.get(name))})")
    return told


def _same(name: str, one: Any, other: Any) -> bool:
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return bool(one == other)
    if name in _VERSIONS:
        return all(_line(key, one.get(key)) == _line(key, other.get(key)) for key in {*one, *other})
    return all(_same(key, one.get(key), other.get(key)) for key in {*one, *other})


def _line(library: str, release: object) -> tuple[str, ...] | None:
    """Return the numbers of a release that have to agree; None: the library has no part in it."""
    if release is None:
        return None
    # What follows the numbers names a build ("+cpu"); where it ran stands with the backend.
    numbers = re.match(r"\d+(?:\.\d+)*", str(release))
    if numbers is None:
        return (str(release),)
    return tuple(numbers[0].split(".")[: _NUMBERS_THAT_MATTER.get(library, _NUMBERS)])


def _told(name: str, one: Any, other: Any) -> str:
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return f"{_value(one)}, now {_value(other)}"
    inner = sorted({*one, *other})
    if name in _VERSIONS:
        inner = [key for key in inner if _line(key, one.get(key)) != _line(key, other.get(key))]
    else:
        inner = [key for key in inner if not _same(key, one.get(key), other.get(key))]
    return ", ".join(f"{key} {_told(key, one.get(key), other.get(key))}" for key in inner)


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return " ".join(f"{key} {_value(inner)}" for key, inner in sorted(value.items()))
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _upstreams(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    one, other = (str(side.get(ABOUT, {}).get("upstream", "unnamed")) for side in (found, wanted))
    if one != other:
        return f"upstream ({one}, now {other})"
    # The same name and other weights: a checkpoint that was trained on, or a branch that moved.
    weights = (str(side.get("upstream"))[:12] for side in (found, wanted))
    return f"upstream ({one} with weights {', now '.join(weights)})"
