"""From a name on the Hugging Face hub to a local folder: the cache first, then the network, else the way out.

Nothing here is called for a local folder, so that a local folder never opens a socket.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from subtone.errors import UpstreamError
from subtone.upstreams.checkpoint import WEIGHT_FILES

_SETTINGS = ("preprocessor_config.json", "processor_config.json")


def fetch(name: str, revision: str | None, offline: bool | None) -> Path:
    """Return the folder of a hub model, downloading what is missing unless told not to.

    Parameters
    ----------
    name
        ``"owner/model"`` as on the hub.
    revision
        Branch, tag or commit; None for the main branch.
    offline
        True: only the local cache. None: as the environment says (``HF_HUB_OFFLINE``).

    Returns
    -------
    Path
        A snapshot folder named by its commit.

    Raises
    ------
    UpstreamError
        If the model is neither cached nor to be had, with the ways to provide it.
    """
    from huggingface_hub import constants

    cached = _fetch(name, revision, local_files_only=True)
    if isinstance(cached, Path):
        return cached
    if offline or (offline is None and constants.HF_HUB_OFFLINE):
        raise UpstreamError(_ways_out(name, "it is not in the local cache and the network is not to be used"))
    fetched = _fetch(name, revision, local_files_only=False)
    if isinstance(fetched, Path):
        return fetched
    raise UpstreamError(_ways_out(name, fetched))


def _ways_out(name: str, reason: str) -> str:
    return (
        f"upstream {name!r}: no local folder of that name, and {reason}; either download it where there "
        f"is a network, 'hf download {name} --local-dir FOLDER' (huggingface-cli in older versions), and "
        f"pass FOLDER, or check the name at "
        f"https://huggingface.co/{name}"
    )


def _fetch(name: str, revision: str | None, *, local_files_only: bool) -> Path | str:
    """Return the snapshot folder, or why there is none."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    def get(file: str) -> Path:
        return Path(hf_hub_download(name, file, revision=revision, local_files_only=local_files_only))

    def get_if_there(file: str) -> Path | None:
        try:
            return get(file)
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError) and not local_files_only:
                raise  # the network failed; whether the file exists is not known
            return None

    try:
        with _no_progress_bars():
            folder = get("config.json").parent
            for file in _SETTINGS:
                get_if_there(file)
            for file in WEIGHT_FILES:
                if get_if_there(file) is not None:
                    return folder
                index = get_if_there(f"{file}.index.json")
                if index is not None:
                    for shard in sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values())):
                        get(shard)
                    return folder
        return f"it holds no {' or '.join(WEIGHT_FILES)}"
    except Exception as error:  # the hub client's errors come from several libraries and versions
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return f"the hub could not be reached or refused: {first}"


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
