"""Clips too long for one pass of an encoder: where to cut them, and how to cut them out of a stream.

Each chunk is encoded with some of what surrounds it, the overlap, and only the frames of its core are kept; the cores
of all chunks, laid end to end, are the frames of the clip.

With the survey of the clip, all that an encoder computes from a frame's surroundings is that of one pass (to 1e-5,
whatever the family). Attention over a clip is not: it hears the chunk and no more. That moves frames by 0.1 to 5 % in
the random encoders of ``benchmarks/long_audio.py``, and by 7 % in a trained Whisper that hears 20 s of 30; more overlap
than the default helps little. Whisper, which has positions for 30 s, counts them anew in each chunk.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from subtone.audio.cutting import cut
from subtone.upstreams import Upstream

#: A clip up to this long goes through the encoder in one pass, exact to rounding; a longer one in chunks of at most
#: this length. Minutes are nearer to the whole than half minutes (2.6 % from it instead of 4.5 % in a random
#: wav2vec2-base), for twice the memory and, since they overlap less, a tenth more time.
ONE_PASS_S = 60.0
#: What a chunk is given of its neighbours at least, on either side: farther from where a chunk ends than two seconds,
#: the frames of a trained encoder hardly get any better.
OVERLAP_S = 2.5


@dataclass(frozen=True)
class Chunk:
    """A stretch of a clip that goes through the encoder in one pass.

    Parameters
    ----------
    start, end
        Samples ``[start, end)`` of the clip that are encoded.
    skip
        Frames at its beginning that belong to the chunk before.
    first_frame, num_frames
        The core: which frames of the clip this chunk gives.
    """

    start: int
    end: int
    skip: int
    first_frame: int
    num_frames: int

    @property
    def core(self) -> slice:
        """Which of the chunk's own frames are kept."""
        return slice(self.skip, self.skip + self.num_frames)

    @property
    def frames(self) -> slice:
        """Which frames of the clip they are."""
        return slice(self.first_frame, self.first_frame + self.num_frames)


def plan(
    num_samples: int, upstream: Upstream, *, one_pass_s: float = ONE_PASS_S, overlap_s: float = OVERLAP_S
) -> list[Chunk]:
    """Cut a clip into chunks: one, if it is short enough for one pass; else as few as can be, equally long.

    With F frames in all, a pass of at most L and an overlap of m frames, there are ``K = ceil((F - 2m) / (L - 2m))``
    chunks of ``ceil((F - 2m) / K) + 2m`` frames, begun at equal distances; where two overlap, each keeps its half.
    Chunks begin on the frame grid, so that frame j of a chunk that begins at frame k *is* frame k + j of the clip.

    Parameters
    ----------
    num_samples : int
        Length of the clip.
    upstream : Upstream
        Whose frames they are to be; what its convolutions see (``context_s``) is the least overlap.
    one_pass_s, overlap_s : float
        Longest pass (less where the upstream can see less at once), and overlap on either side (at most a quarter of a
        pass), in seconds.

    Returns
    -------
    list of Chunk
        In order; their cores are the frames 0 to ``upstream.grid.num_frames(num_samples)``, each once.

    Examples
    --------
    >>> from subtone.upstreams import FilterBank
    >>> [(c.start, c.end) for c in plan(70 * 16_000, FilterBank(), one_pass_s=30, overlap_s=5)]
    [(0, 480240), (319840, 800080), (639680, 1120000)]
    """
    grid = upstream.grid
    total = grid.num_frames(num_samples)
    per_second = grid.sample_rate_hz / grid.hop
    longest = max(1, int(one_pass_s * per_second))
    if upstream.one_pass_samples is not None:
        longest = min(longest, grid.num_frames(upstream.one_pass_samples))
    if total <= longest:
        return [Chunk(0, num_samples, 0, 0, total)]
    overlap = min(math.ceil(max(overlap_s, upstream.context_s) * per_second), longest // 4)
    count = -(-(total - 2 * overlap) // (longest - 2 * overlap))
    size = -(-(total - 2 * overlap) // count) + 2 * overlap  # frames that each chunk is encoded with
    first = [(total - size) * i // (count - 1) for i in range(count)]
    # Between two chunks the cut lies in the middle of what both have encoded.
    cuts = [0, *((later + earlier + size) // 2 for earlier, later in pairwise(first)), total]
    tail = max(grid.hop, grid.window if grid.shortest is None else grid.shortest)  # samples of the last frame
    ends = [grid.hop * (begin + size - 1) + tail for begin in first[:-1]] + [num_samples]
    return [
        Chunk(grid.hop * begin, end, here - begin, here, there - here)
        for begin, end, (here, there) in zip(first, ends, pairwise(cuts), strict=True)
    ]


def cut_chunks(
    blocks: Iterable[npt.NDArray[np.float32]], chunks: Iterable[Chunk]
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the samples of each chunk out of a stream of blocks of the clip; see :func:`subtone.audio.cutting.cut`."""
    return cut(iter(blocks), ((chunk.start, chunk.end) for chunk in chunks))
