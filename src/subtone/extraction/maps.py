"""Feature maps: stretches of the frames of many clips, read from a store as they are asked for.

A mapped file counts as memory of the process once it was looked at. Here each stretch is read into an array of its
own and let go of, so that memory stays flat however many clips are gone through, and however often.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from io import FileIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from subtone.errors import StoreError, UsageError
from subtone.extraction.frames import FramePlace, Half
from subtone.extraction.store import FeatureStore
from subtone.speech import SpeechSegments

#: Pieces that are open at a time; systems allow a process a thousand files or so.
OPEN_FILES = 128
#: Statistics that :meth:`FeatureMaps.moments` is taken of, and how many clips at a time.
_MOMENTS, _BLOCK = ("gap_mean", "gap_std"), 256

Moment = npt.NDArray[np.float64]


class FeatureMaps:
    """The frames of clips of a store, in the order asked for. May be read by several threads.

    Parameters
    ----------
    store : FeatureStore
        Made with frames.
    keys : sequence of str
        Content addresses of the clips; see :attr:`subtone.extraction.Extraction.keys`.
    layers : sequence of int, optional
        Numbers of the layers wanted, in that order; all that are kept by default.

    Attributes
    ----------
    lengths : ndarray
        ``(clips,)`` int64 frames of each clip.
    layers : tuple of int
        Numbers of the layers.
    dim : int
        Width of a frame.
    speech : tuple of SpeechSegments
        Where each clip holds speech.

    Raises
    ------
    StoreError
        If a clip is not in the store, or the store keeps no frames.
    UsageError
        If it does not keep those of a layer.

    Examples
    --------
    >>> import tempfile
    >>> from subtone import upstreams
    >>> from subtone.extraction import ExtractionOptions, extract_to_store
    >>> from subtone.speech import get_detector
    >>> folder, options = tempfile.mkdtemp(), ExtractionOptions(frames="all")
    >>> fbank, energy = upstreams.load("fbank:40"), get_detector("energy")
    >>> _ = extract_to_store(fbank, folder, ["examples/statement.wav"], detector=energy, options=options)
    >>> store = FeatureStore.open(folder)
    >>> maps = FeatureMaps(store, store.keys())
    >>> maps.read(0, 100, 150).shape
    (1, 50, 40)
    """

    def __init__(self, store: FeatureStore, keys: Sequence[str], layers: Sequence[int] | None = None) -> None:
        kept = store.frame_layers
        self._store, self._keys = store, tuple(keys)
        self._places = store.frame_places(keys)
        self.layers = kept if layers is None else tuple(layers)
        for layer in self.layers:
            if layer not in kept:
                raise UsageError(
                    f"{store.folder}: keeps no frames of layer {layer}, but those of layers {', '.join(map(str, kept))}"
                )
        self._rows = [kept.index(layer) for layer in self.layers]
        self.lengths = np.array([places[-1].first + places[-1].frames for places in self._places], np.int64)
        self.dim = self._places[0][0].dim if self._places else 0
        self.speech: tuple[SpeechSegments, ...] = tuple(store.speech(keys))
        self._files: OrderedDict[Path, FileIO] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._places)

    def read(self, clip: int, start: int = 0, stop: int | None = None) -> Half:
        """Return the frames ``[start, stop)`` of a clip: ``(layers, frames, dim)`` float16.

        Raises
        ------
        StoreError
            If the store was changed or damaged since it was opened.
        UsageError
            If the clip has no such frames.
        """
        length = int(self.lengths[clip])
        stop = length if stop is None else stop
        if not 0 <= start < stop <= length:
            raise UsageError(f"clip {clip} has {length} frames, asked for are those from {start} to {stop}")
        wanted: Half = np.empty((len(self.layers), stop - start, self.dim), np.float16)
        for place in self._places[clip]:
            first, last = max(start, place.first), min(stop, place.first + place.frames)
            if first < last:
                self._copy(place, first - place.first, wanted[:, first - start : last - start])
        return wanted

    def moments(self, clips: npt.NDArray[np.int64]) -> tuple[Moment, Moment]:
        """Return mean and deviation of each feature over all frames of some clips, ``(layers, dim)`` float64 each.

        Taken of what the store has pooled: the frames need not be read for it.

        Raises
        ------
        StoreError
            If a shard is damaged.
        UsageError
            If no clip is named.
        """
        if not len(clips):
            raise UsageError("moments are taken of one clip at least")
        layers = list(self.layers)
        count = 0.0
        mean, spread = np.zeros((len(layers), self.dim)), np.zeros((len(layers), self.dim))
        for first in range(0, len(clips), _BLOCK):
            block = [self._keys[clip] for clip in clips[first : first + _BLOCK].tolist()]
            pooled = self._store.get(block, _MOMENTS)
            means, deviations = (pooled.statistics[name][:, layers].astype(np.float64) for name in _MOMENTS)
            weights = pooled.num_frames.astype(np.float64)  # (clips,)
            here = np.einsum("c,cld->ld", weights, means) / weights.sum()
            within = np.einsum("c,cld->ld", weights, np.square(deviations) + np.square(means - here))
            # The spreads of two parts add, and that of their means comes on top (Chan et al. 1983).
            total = count + weights.sum()
            apart = here - mean
            spread += within + np.square(apart) * (count * weights.sum() / total)
            mean += apart * (weights.sum() / total)
            count = total
        return mean, np.sqrt(spread / count)

    def _copy(self, place: FramePlace, first: int, into: Half) -> None:
        """Fill ``into (layers, n, dim)`` with the frames of a run from its frame ``first`` on."""
        with self._lock:
            file = self._open(place.path)
            for row, target in zip(self._rows, into, strict=True):
                try:
                    file.seek(place.offset + 2 * place.dim * (row * place.frames + first))
                    # A layer's frames follow each other in the array too.
                    got = file.readinto(target.data.cast("B"))
                except OSError as error:
                    raise StoreError(f"{place.path}: cannot be read: {error.strerror or error}") from error
                if got < target.nbytes:
                    raise StoreError(f"{place.path}: is shorter than it was; extract into another folder")

    def _open(self, path: Path) -> FileIO:
        """Return the open file of a piece; that which was used least recently is closed where there are too many."""
        if path in self._files:
            self._files.move_to_end(path)
            return self._files[path]
        try:
            found = path.open("rb", buffering=0)
        except OSError as error:
            raise StoreError(
                f"{path}: cannot be read: {error.strerror or error}; extract into another folder"
            ) from error
        self._files[path] = found
        if len(self._files) > OPEN_FILES:
            self._files.popitem(last=False)[1].close()
        return found

    def close(self) -> None:
        """Close the files; they are opened again when asked for."""
        with self._lock:
            while self._files:
                self._files.popitem()[1].close()

    def __del__(self) -> None:
        # The store's constructor may have refused the keys.
        if hasattr(self, "_files"):
            self.close()
