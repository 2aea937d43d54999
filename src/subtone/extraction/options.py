"""How features are extracted: with which engine, how precisely, and what of them is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from subtone.errors import UsageError, nearest

BackendName = Literal["auto", "torch", "openvino"]
Precision = Literal["fp32", "bf16", "fp16", "int8"]


@dataclass(frozen=True, kw_only=True)
class ExtractionOptions:
    """Options of an extraction; all of them are part of a store's fingerprint.

    Parameters
    ----------
    backend
        What computes the frames. ``"auto"``: what the store was made with, else the fastest that is installed.
    precision
        Of the encoder's arithmetic. ``"fp32"`` is exact (1e-4); the others are checked against it before the first
        clip, and refused where the pooled features' cosine falls below 0.999.
    leave_out_silence_s
        Cut stretches without speech longer than this down to it before encoding; None keeps all audio. A choice with
        consequences: GAP then averages over other frames.
    frames
        Layers whose frames are kept beside the pooled features, in half precision: ``"all"``, or their numbers.

    Raises
    ------
    UsageError
        If a value is none of these.

    Examples
    --------
    >>> ExtractionOptions(precision="bf16").backend
    'auto'
    """

    backend: BackendName = "auto"
    precision: Precision = "fp32"
    leave_out_silence_s: float | None = None
    frames: Literal["all"] | tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name, choices in (("backend", get_args(BackendName)), ("precision", get_args(Precision))):
            value = getattr(self, name)
            if value not in choices:
                raise UsageError(f"{name} {value!r} is not known; {nearest(str(value), choices)}")
        silence = self.leave_out_silence_s
        if silence is not None and not 0.1 <= silence <= 3600:
            raise UsageError(f"leave_out_silence_s must lie between 0.1 and 3600 seconds, got {silence!r}")
        if self.frames not in (None, "all") and (
            isinstance(self.frames, str)
            or not self.frames
            or any(not isinstance(layer, int) or layer < 0 for layer in self.frames)
        ):
            raise UsageError(f"frames must be 'all' or numbers of layers from 0, got {self.frames!r}")
