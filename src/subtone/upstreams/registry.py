"""Which class reads which family, by the ``model_type`` that a folder's ``config.json`` names.

Adding a family is one file with a class and one line here. The classes are imported when they are first
needed, because that takes seconds.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from subtone.errors import UpstreamError, nearest
from subtone.upstreams.base import Upstream
from subtone.upstreams.checkpoint import Checkpoint

_CNN = "subtone.upstreams.cnn:CnnUpstream"

FAMILIES: dict[str, str | Callable[[Checkpoint], Upstream]] = {
    "wav2vec2": _CNN,  # wav2vec 2.0, XLS-R, MMS
    "hubert": _CNN,
    "wavlm": _CNN,
    "data2vec-audio": _CNN,
    "unispeech": _CNN,
    "unispeech-sat": _CNN,
    "wav2vec2-conformer": _CNN,
    "wav2vec2-bert": "subtone.upstreams.w2v_bert:W2vBertUpstream",
    "whisper": "subtone.upstreams.whisper:WhisperUpstream",
    "subtone-mini": "subtone.upstreams.mini:MiniUpstream",
    "subtone-mockingjay": "subtone.upstreams.mockingjay:MockingjayUpstream",
    "subtone-npc": "subtone.upstreams.npc:NpcUpstream",
}


def register(model_type: str, family: str | Callable[[Checkpoint], Upstream]) -> None:
    """Teach `load` a family.

    Parameters
    ----------
    model_type
        What ``config.json`` calls it.
    family
        A callable from an opened checkpoint to an upstream, or its place as ``"package.module:Class"``.

    Raises
    ------
    UpstreamError
        If the name is taken by another family.
    """
    if FAMILIES.get(model_type, family) != family:
        raise UpstreamError(f"upstream family {model_type!r} is registered already")
    FAMILIES[model_type] = family


def build(checkpoint: Checkpoint) -> Upstream:
    """Return the upstream of an opened checkpoint.

    Raises
    ------
    UpstreamError
        If no family reads its ``model_type``.
    """
    family = FAMILIES.get(checkpoint.model_type)
    if family is None:
        raise UpstreamError(
            f"upstream {checkpoint.name!r}: model_type {checkpoint.model_type!r} is not one that Subtone "
            f"reads; supported: {', '.join(sorted(FAMILIES))}; {nearest(checkpoint.model_type, FAMILIES)}"
        )
    if isinstance(family, str):
        module, _, attribute = family.partition(":")
        family = getattr(importlib.import_module(module), attribute)
    assert callable(family)
    return family(checkpoint)
