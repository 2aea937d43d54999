"""eGeMAPSv02 functionals of recordings: 88 numbers a clip, by openSMILE, kept in one Parquet file a corpus.

Clips are known by the digest of their bytes, so that a cache serves any copy of a corpus and holds no path.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import opensmile
import pandas as pd

from subtone.audio import SAMPLE_RATE_HZ, audio_digest, load_audio

SAVE_EVERY = 500  # clips; what a killed run loses at most


def functionals(files: Sequence[str], cache: Path) -> tuple[npt.NDArray[np.float64], float]:
    """Functionals of files, computing those that the cache lacks.

    Parameters
    ----------
    files
        Recordings.
    cache
        Parquet file to read and extend; replaced whole, never left half written.

    Returns
    -------
    (ndarray, float)
        ``(files, 88)`` float64, and the seconds that a clip took on average when it was computed, decoding
        included, on one core.

    Raises
    ------
    SystemExit
        If the cache was made by another openSMILE or feature set.
    """
    smile = opensmile.Smile(
        opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals, num_workers=1
    )
    maker = f"opensmile {opensmile.__version__} eGeMAPSv02"
    columns = [*smile.feature_names, "seconds"]
    known = pd.read_parquet(cache) if cache.exists() else pd.DataFrame(columns=columns).rename_axis(maker)
    if known.index.name != maker or list(known.columns) != columns:
        raise SystemExit(
            f"{cache}: made by {known.index.name!r}, this is {maker!r}; delete it or name another"
        )
    digests = [audio_digest(file) for file in files]
    new: dict[str, list[float]] = {}

    def joined() -> pd.DataFrame:
        if not new:
            return known
        added = pd.DataFrame.from_dict(new, orient="index", columns=columns).rename_axis(maker)
        return pd.concat([known, added]) if len(known) else added

    for digest, file in zip(digests, files, strict=True):
        if digest in known.index or digest in new:
            continue
        start = time.perf_counter()
        row = smile.process_signal(load_audio(file), SAMPLE_RATE_HZ).to_numpy()[0]  # (88,)
        new[digest] = [*row, time.perf_counter() - start]
        if len(new) % SAVE_EVERY == 0:
            _write_whole(joined(), cache)
            print(f"{cache.stem}: {len(known) + len(new)} clips", file=sys.stderr, flush=True)
    everything = joined()
    if new:
        _write_whole(everything, cache)
    found = everything.loc[digests].to_numpy(np.float64)  # (files, 88 and seconds)
    return found[:, :-1], float(found[:, -1].mean())


def _write_whole(table: pd.DataFrame, path: Path) -> None:
    """Appear at once, so that a killed run leaves the earlier file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with part.open("wb") as handle:
            table.to_parquet(handle)
            handle.flush()
            os.fsync(handle.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
