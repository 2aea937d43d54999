"""From a name, a folder or a configuration to an upstream."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from subtone.errors import UpstreamError, nearest
from subtone.upstreams import filterbank, prosody, registry, shipping
from subtone.upstreams.base import Upstream
from subtone.upstreams.checkpoint import open_checkpoint
from subtone.upstreams.filterbank import FilterBank, FilterBankOptions
from subtone.upstreams.mini import ALONE
from subtone.upstreams.prosody import ProsodyUpstream

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def load(
    name_or_folder: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
    offline: bool | None = None,
) -> Upstream:
    """Load an upstream: by a name of Subtone's own, a local folder, or a model of the Hugging Face hub.

    A folder that exists is read as it lies and never opens a socket. Code is never run from a folder: weights
    are read from safetensors, or from a pickle by a reader that builds only tensors.

    Parameters
    ----------
    name_or_folder
        ``"fbank"``, ``"fbank:40+deltas"``, ``"prosody"``; an upstream that ships with Subtone,
        ``"subtone-mini"`` (``"subtone-mini:speech"`` without the prosody beside it); a folder with
        ``config.json`` and ``model.safetensors``; or a hub name such as ``"facebook/wav2vec2-base"``, looked up
        in the local cache first.
    device
        Where to compute, e.g. ``"cuda"``.
    dtype
        Precision of the weights, ``"float32"`` (default whatever the file holds), ``"bfloat16"`` or
        ``"float16"``.
    revision
        Branch, tag or commit of a hub model.
    offline
        True never uses the network; None does as the environment says (``HF_HUB_OFFLINE``).

    Returns
    -------
    Upstream
        In evaluation mode.

    Raises
    ------
    UpstreamError
        If it cannot be found, is of an unknown family, incomplete, damaged or unsafe; the message says what
        to do.

    Examples
    --------
    >>> load("fbank:40")
    FilterBank('fbank:40', layers=1, dim=40)
    """
    name = str(name_or_folder)
    weight_dtype, device = _dtype(dtype), _device(device)
    options = filterbank.parse_name(name)
    if options is not None:
        return FilterBank(options, device)
    if name == prosody.NAME:
        return ProsodyUpstream(device)
    folder = Path(name if not name.startswith("~") else os.path.expanduser(name))
    inside = shipping.folder_of(name.removesuffix(ALONE))
    if inside is not None:
        upstream = _open(inside, name, None)
    elif folder.is_dir():
        upstream = _open(folder, name, None)
    elif folder.exists():
        raise UpstreamError(
            f"upstream {name!r} is a file; pass the folder that holds config.json and the weights"
        )
    elif _is_path(name_or_folder) or not _HUB_NAME.fullmatch(name):
        raise UpstreamError(f"upstream {name!r}: no such folder{_neighbours(folder)}")
    else:
        from subtone.upstreams import hub

        try:
            found = hub.fetch(name, revision, offline)
        except UpstreamError as error:
            raise UpstreamError(f"{error}{_neighbours(folder)}") from None
        upstream = _open(found, name, found.name)
    if upstream.module is not None and weight_dtype != torch.float32:
        upstream.module.to(weight_dtype)
    return upstream.to(device)


def load_from_config(
    config: Mapping[str, Any],
    *,
    folder: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    offline: bool | None = None,
) -> Upstream:
    """Rebuild an upstream from what its ``config()`` returned.

    Parameters
    ----------
    config
        The description. If it holds a ``"fingerprint"``, the rebuilt upstream must have the same one.
    folder
        Where `Upstream.save` put it, if it was saved; else its source is looked up again.
    device, dtype, offline
        As for `load`.

    Returns
    -------
    Upstream
        In evaluation mode.

    Raises
    ------
    UpstreamError
        If the description is not one, or the upstream cannot be loaded or is another one by now.

    Examples
    --------
    >>> load_from_config({"kind": "fbank", "num_mel": 40}).dim
    40
    """
    settings, device = dict(config), _device(device)
    kind, expected = settings.pop("kind", None), settings.pop("fingerprint", None)
    if kind == "fbank":
        upstream: Upstream = FilterBank(_options(settings), device)
    elif kind == prosody.NAME:
        upstream = ProsodyUpstream.from_config(settings, device)
    elif folder is not None:
        upstream = load(folder, device=device, dtype=dtype, offline=True)
        upstream.name = str(settings.get("source", upstream.name))
    elif isinstance(settings.get("source"), str):
        revision = settings.get("revision")
        upstream = load(settings["source"], device=device, dtype=dtype, revision=revision, offline=offline)
    else:
        raise UpstreamError(
            f"not an upstream's configuration: {dict(config)!r}; it needs a kind and a source"
        )
    if expected is not None and upstream.fingerprint() != expected:
        raise UpstreamError(
            f"upstream {upstream.name!r} is not the one that was saved: its weights or settings have changed "
            "since; provide the original, or make the model anew"
        )
    return upstream


def _open(folder: Path, name: str, revision: str | None) -> Upstream:
    checkpoint = open_checkpoint(folder, name, revision)
    if checkpoint.model_type == filterbank.MODEL_TYPE:
        return FilterBank(_options({k: v for k, v in checkpoint.config.items() if k != "model_type"}))
    if checkpoint.model_type == prosody.MODEL_TYPE:
        return ProsodyUpstream.from_config(checkpoint.config)
    return registry.build(checkpoint)


def _options(settings: Mapping[str, Any]) -> FilterBankOptions:
    known = FilterBankOptions.__dataclass_fields__
    for key in settings:
        if key not in known:
            raise UpstreamError(f"fbank: unknown option {key!r}; {nearest(key, known)}")
    return FilterBankOptions(**settings)


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    if dtype is None:
        return torch.float32
    if isinstance(dtype, torch.dtype) and dtype in _DTYPES.values():
        return dtype
    if isinstance(dtype, str) and dtype in _DTYPES:
        return _DTYPES[dtype]
    raise UpstreamError(f"dtype must be one of {', '.join(_DTYPES)}, got {dtype!r}")


def _device(device: str | torch.device) -> torch.device:
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except Exception as error:  # torch has a type of error for each kind of absence
        reason = str(error).strip().splitlines()[0]
        raise UpstreamError(f"device {str(device)!r} is not there: {reason}; use 'cpu'") from None
    return found


def _is_path(name: str | Path) -> bool:
    """Tell a path from a hub name: a Path object, or a string that begins or branches like a path."""
    return (
        isinstance(name, Path)
        or name.startswith((".", "~", "/", "\\"))
        or name.count("/") > 1
        or "\\" in name
    )


def _neighbours(folder: Path) -> str:
    """Return a hint at folders beside a missing one with names like it, or nothing."""
    parent = folder.parent
    if not parent.is_dir():
        while not parent.is_dir() and parent != parent.parent:
            parent = parent.parent
        return f"; the nearest folder that exists is {parent}" if folder.is_absolute() else ""
    try:
        siblings = [entry.name for entry in parent.iterdir() if entry.is_dir()]
    except OSError:
        return ""
    close = difflib.get_close_matches(folder.name, siblings, n=3)
    return f"; did you mean {', '.join(str(parent / name) for name in close)}?" if close else ""
