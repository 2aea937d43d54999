"""Pooling: the frames of a clip become one vector.

Every pooling here is a weighted mean over frames, ``Σ w_t x_t / Σ w_t``, and the standard deviation about it;
what sets two poolings apart is the weights alone. So a new one is one function; masks, precision, gradients,
the standard deviation and the feature store come with it::

    @weighting("gap_late")                       # gives the statistics "gap_late_mean" and "gap_late_std"
    def late_frames(_frames, mask, _speech):     # -> (batch, frames), 0 = leave out, any scale
        return mask * mask.cumsum(1)             # the later a frame, the more it weighs

From then on ``statistics_of("gap_late")`` and ``pool(frames, mask, speech, ["gap_late_std"])`` know it.

Three rules hold everywhere. A masked frame is as if it were not there: it may lie anywhere and hold anything,
NaN included. An utterance without speech takes its valid frames for one run of speech: SAP is GAP there,
in every form. Half precision is summed in, and returned as, float32; float64 stays float64.

Pool first, mix later: a mean commutes with a weighted sum over layers, so the mean of each layer can be
stored, the layers mixed after, and the result is the same. A standard deviation does not commute: Subtone
takes it *per layer, then mixes*. Attention, over runs or frames, needs mixed frames and cannot be stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from subtone.errors import UsageError, nearest
from subtone.runs import SegmentAttention as SegmentAttention
from subtone.runs import plain_attention, run_lengths
from subtone.runs import speech_runs as speech_runs

SapForm = Literal["frame", "segment", "attention"]

PooledFn = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From frames ``(batch, frames, dim)``, mask and speech ``(batch, frames)`` to weights or to a statistic."""

STATISTICS: dict[str, PooledFn] = {}
"""Name → ``fn(frames, mask, speech) -> (batch, dim)``: what the feature store can hold of a clip. A statistic
that is no weighted mean, say a maximum, is put here by hand."""


WEIGHTINGS: dict[str, PooledFn] = {}
"""Name → ``weigh(frames, mask, speech) -> (batch, frames)``: what :func:`weighting` has registered."""


class PoolingError(UsageError, ValueError):
    """A shape, a mask or a name that no pooling can honour."""


def _mean(frames: Tensor, weights: Tensor) -> Tensor:
    kept = frames.masked_fill((weights == 0)[..., None], 0)  # not just multiplied: zero times NaN is NaN
    if weights.dtype != torch.bool:
        weights = weights.to(frames.dtype)
        kept = kept * weights[..., None]
    return kept.sum(1) / weights.sum(1, keepdim=True)  # (batch, dim)


def _std(frames: Tensor, weights: Tensor) -> Tensor:
    frames = frames.masked_fill((weights == 0)[..., None], 0)
    variance = _mean((frames - _mean(frames, weights)[:, None]) ** 2, weights)  # (batch, dim)
    flat = variance == 0  # there the gradient of a square root is infinite, and infinity times zero is NaN
    return variance.masked_fill(flat, 1).sqrt().masked_fill(flat, 0)


def _statistic(
    take: Callable[[Tensor, Tensor], Tensor], weigh: PooledFn, frames: Tensor, mask: Tensor, speech: Tensor
) -> Tensor:
    checked = _checked(frames, mask, speech)
    return take(checked[0], weigh(*checked))


def weighting(name: str) -> Callable[[PooledFn], PooledFn]:
    """Register a function that weighs frames, as the statistics ``{name}_mean`` and ``{name}_std``.

    It gets checked arguments: frames in float32 or 64, zeros where masked; a ``mask`` with a valid frame in
    each row; ``speech`` inside it, never empty. It returns ``(batch, frames)`` ≥ 0, not all 0 in a row.

    Raises
    ------
    PoolingError
        (a ``ValueError``) If the name is taken.
    """

    def register(weigh: PooledFn) -> PooledFn:
        for moment, take in (("mean", _mean), ("std", _std)):
            if f"{name}_{moment}" in STATISTICS:
                raise PoolingError(f"statistic '{name}_{moment}' is registered already; choose another name")
            STATISTICS[f"{name}_{moment}"] = partial(_statistic, take, weigh)
        WEIGHTINGS[name] = weigh
        return weigh

    return register


@weighting("gap")
def valid_frames(_frames: Tensor, mask: Tensor, _speech: Tensor) -> Tensor:
    """Weigh all valid frames alike."""
    return mask


@weighting("sap")
def speech_frames(_frames: Tensor, _mask: Tensor, speech: Tensor) -> Tensor:
    """Weigh all speech frames alike."""
    return speech


@weighting("sap_segment")
def equal_runs(frames: Tensor, mask: Tensor, speech: Tensor) -> Tensor:
    """Weigh all speech runs alike: a frame counts as one over the length of its run."""
    ids = speech_runs(speech, mask)
    lengths = run_lengths(ids).to(frames.dtype)  # (batch, runs)
    own = lengths.gather(1, ids.clamp_min(0))  # (batch, frames)
    # Times the longest length, so that a frame of a single run weighs exactly 1, as in the frame form.
    return speech * lengths.amax(1, keepdim=True) / own.clamp_min(1)


def weights(names: Iterable[str], speech: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
    """Return what weightings give to frames that nobody has seen yet: from the masks alone.

    So the frames of a long clip can be pooled as they come, a stretch at a time.

    Parameters
    ----------
    names : iterable of str
        Names given to :func:`weighting`, e.g. ``"gap"``.
    speech, mask : Tensor
        ``(batch, frames)`` bool; as in :func:`sap`.

    Returns
    -------
    dict of str to Tensor
        Name → ``(batch, frames)``, bool or floating, in the order of ``names``.

    Raises
    ------
    PoolingError
        (a ``ValueError``) If a name is unknown, or the weights depend on what the frames hold.

    Examples
    --------
    >>> weights(["sap_segment"], torch.tensor([[True, True, False, True]]))
    {'sap_segment': tensor([[1., 1., 0., 2.]], dtype=torch.float64)}
    """
    unseen = torch.full((*speech.shape, 1), torch.nan, dtype=torch.float64, device=speech.device)
    # Whatever a weighting compares frames with, high and low by turns look different from NaN.
    other = torch.full_like(unseen, 1e30)
    other[:, ::2] = -1e30
    found = {}
    for name in names:
        if name not in WEIGHTINGS:
            raise PoolingError(f"weighting {name!r} is not known; {nearest(name, WEIGHTINGS)}")
        blind, seeing = (WEIGHTINGS[name](*_checked(f, mask, speech)) for f in (unseen, other))
        if not torch.equal(blind, seeing):  # NaN is unequal to itself
            raise PoolingError(
                f"weighting {name!r} looks at what the frames hold; it can pool only clips that are encoded in one pass"
            )
        found[name] = blind
    return found


def looks_at_speech(name: str) -> bool:
    """Whether a statistic depends on where a clip holds speech; if none does, nobody has to look for it.

    Examples
    --------
    >>> looks_at_speech("gap_std"), looks_at_speech("sap_mean")
    (False, True)
    """
    stem = name.rpartition("_")[0]
    try:
        early, late = (weights([stem], torch.tensor([one]))[stem] for one in ([True, False], [False, True]))
    except PoolingError:  # it looks at the frames, and so at whatever it likes
        return True
    return not torch.equal(early, late)


def gap(frames: Tensor, mask: Tensor | None = None, *, std: bool = False) -> Tensor:
    """Average all valid frames (global average pooling).

    Parameters
    ----------
    frames : Tensor
        ``(batch, frames, dim)``, floating; masked frames may hold anything, NaN included.
    mask : Tensor, optional
        ``(batch, frames)`` bool, True where a frame is valid. Default: all are.
    std : bool
        Append the population standard deviation (no Bessel correction) over the same frames, computed in two
        passes. Where it is zero, so is its gradient (a subgradient of the square root), never NaN.

    Returns
    -------
    Tensor
        ``(batch, dim)``, with ``std`` ``(batch, 2 * dim)`` = mean ‖ std; float32, or float64 for float64
        frames.

    Raises
    ------
    PoolingError
        (a ``ValueError``) If shapes or types disagree, or a row has no valid frame.

    Examples
    --------
    >>> gap(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]]), std=True)
    tensor([[2., 1.]])
    """
    frames, mask, _ = _checked(frames, mask, mask)
    return _moments(frames, mask, std)


def sap(
    frames: Tensor,
    speech: Tensor,
    form: SapForm = "frame",
    *,
    mask: Tensor | None = None,
    std: bool = False,
    attention: SegmentAttention | None = None,
) -> Tensor:
    """Average frames over detected speech only (segmental average pooling).

    Let S_1..S_K be the runs of speech of an utterance (stretches of speech with no valid frame of non-speech
    inside) and s_k the mean frame of run S_k. Then

    - ``"frame"``: Σ_k |S_k| s_k / Σ_k |S_k|, the mean over all speech frames;
    - ``"segment"``: (1/K) Σ_k s_k, so that a short run weighs as much as a long one;
    - ``"attention"``: (1/K) Σ_k a_k with a_1..a_K = ``attention``(s_1..s_K). With one run, a_1 = s_1.

    An utterance without speech falls back to its valid frames as one run: SAP = GAP in every form.

    Parameters
    ----------
    frames : Tensor
        ``(batch, frames, dim)``, as in :func:`gap`.
    speech : Tensor
        ``(batch, frames)`` bool, True where a frame is speech; what lies outside ``mask`` is ignored.
    form : {"frame", "segment", "attention"}
        Which average; see above.
    mask : Tensor, optional
        ``(batch, frames)`` bool, True where valid (default: all); a row without speech is averaged over it.
    std : bool
        Append the population standard deviation about that average m, under the weights of the form.
        ``"frame"``: over all speech frames. ``"segment"``: sqrt((1/K) Σ_k mean_{t in S_k} (x_t - m)²).
        ``"attention"``: the same over frames that have moved along with their run, x_t - s_k + a_k.
    attention : SegmentAttention, optional
        Learned, for ``"attention"``. Default: scaled dot products of the run means, nothing to learn.

    Returns
    -------
    Tensor
        ``(batch, dim)``, with ``std`` ``(batch, 2 * dim)`` = mean ‖ std; float32, or float64 for float64
        frames.

    Raises
    ------
    PoolingError
        (a ``ValueError``) If shapes or types disagree, a row has no valid frame, or ``form`` is unknown.

    Notes
    -----
    Hyeon et al. 2024 (arXiv 2410.12416); the paper names the idea, the forms are ours.

    Examples
    --------
    >>> frames = torch.tensor([[[1.0], [3.0], [9.0], [8.0]]])
    >>> speech = torch.tensor([[True, True, False, True]])
    >>> sap(frames, speech)
    tensor([[4.]])
    >>> sap(frames, speech, form="segment")
    tensor([[5.]])
    """
    if form not in get_args(SapForm):
        raise PoolingError(f"form {form!r} is no form of SAP; {nearest(str(form), get_args(SapForm))}")
    if attention is not None and form != "attention":
        raise PoolingError(f"attention is given, but form {form!r} has no use for it; pass form='attention'")
    frames, mask, speech = _checked(frames, mask, speech)
    if form == "attention":
        # Each run moves as a whole, so that its mean lands where attention puts it; a lone run stays put.
        means, run_mask = run_means(frames, speech, mask)
        shifts = (attention or plain_attention)(means, run_mask) - means  # (batch, runs, dim)
        ids = speech_runs(speech, mask).clamp_min(0)
        frames = frames + shifts.gather(1, ids[..., None].expand_as(frames))  # (batch, frames, dim)
    return _moments(frames, speech if form == "frame" else equal_runs(frames, mask, speech), std)


def gap_sap(
    frames: Tensor,
    speech: Tensor,
    form: SapForm = "frame",
    *,
    mask: Tensor | None = None,
    std: bool = False,
    attention: SegmentAttention | None = None,
) -> Tensor:
    """Put GAP ‖ SAP side by side, the whole utterance and its speech; arguments and errors as in :func:`sap`.

    Returns
    -------
    Tensor
        ``(batch, 2 * dim)``, with ``std`` ``(batch, 4 * dim)`` = GAP mean ‖ GAP std ‖ SAP mean ‖ SAP std.

    Examples
    --------
    >>> gap_sap(torch.tensor([[[1.0], [3.0], [8.0]]]), torch.tensor([[True, True, False]]))
    tensor([[4., 2.]])
    """
    spoken = sap(frames, speech, form, mask=mask, std=std, attention=attention)
    return torch.cat([gap(frames, mask, std=std), spoken], dim=-1)


class AttentiveStatistics(nn.Module):
    """Mean and standard deviation under learned weights: attentive statistics pooling.

    ``w = softmax_t(v · tanh(W x_t + b))`` over the valid frames (a bias beside v would cancel).

    Parameters
    ----------
    dim, hidden : int
        Size of a frame; rows of W.

    Notes
    -----
    Okabe, Koshinaka and Shinoda 2018, "Attentive Statistics Pooling for Deep Speaker Embedding", Interspeech.

    Examples
    --------
    >>> AttentiveStatistics(dim=8)(torch.randn(2, 50, 8)).shape
    torch.Size([2, 16])
    """

    def __init__(self, dim: int, hidden: int = 128) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(dim, hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=False))

    def forward(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool ``(batch, frames, dim)`` under ``(batch, frames)`` to ``(batch, 2 * dim)`` = mean ‖ std."""
        frames, mask, _ = _checked(frames, mask, mask)
        scores = self.score(frames).squeeze(-1)  # (batch, frames)
        return _moments(frames, scores.masked_fill(~mask, -torch.inf).softmax(1), std=True)


def pool(frames: Tensor, mask: Tensor, speech: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
    """Compute statistics by name; with frames ``(batch, frames, layers * dim)``, those of all layers at once.

    Returns
    -------
    dict of str to Tensor
        Name → ``(batch, dim)``, in the order of ``names``.

    Raises
    ------
    PoolingError
        (a ``ValueError``) If a name is unknown, shapes or types disagree, or a row has no valid frame.

    Examples
    --------
    >>> frames, speech = torch.tensor([[[1.0], [3.0], [8.0]]]), torch.tensor([[True, True, False]])
    >>> pool(frames, torch.ones_like(speech), speech, ["gap_mean", "sap_mean"])
    {'gap_mean': tensor([[4.]]), 'sap_mean': tensor([[2.]])}
    """
    pooled = {}
    for name in names:
        if name not in STATISTICS:
            raise PoolingError(f"statistic {name!r} is not known; {nearest(name, STATISTICS)}")
        pooled[name] = STATISTICS[name](frames, mask, speech)
    return pooled


def statistics_of(pooling: str, form: SapForm = "frame", std: bool = False) -> tuple[str, ...]:
    """Name the statistics that a pooling is made of, in the order in which :func:`gap_sap` puts them.

    Parameters
    ----------
    pooling : str
        ``"gap"``, ``"sap"``, a name given to :func:`weighting`, or several joined by ``+``: ``"gap+sap"``.
    form : {"frame", "segment"}
        The form of ``"sap"``.
    std : bool
        With the standard deviations.

    Raises
    ------
    PoolingError
        (a ``ValueError``) If a name or form is unknown, a name comes twice, or the form needs frames.

    Examples
    --------
    >>> statistics_of("gap+sap", form="segment", std=True)
    ('gap_mean', 'gap_std', 'sap_segment_mean', 'sap_segment_std')
    """
    if form not in ("frame", "segment"):
        hint = nearest(str(form), ("frame", "segment"))
        raise PoolingError(f"form {form!r} has no statistics ('attention' needs frames); {hint}")
    known = [name.removesuffix("_mean") for name in STATISTICS if name.endswith("_mean")]
    names: list[str] = []
    for part in pooling.split("+"):
        if part not in known:
            raise PoolingError(f"pooling {pooling!r}: {part!r} is not known; {nearest(part, known)}")
        stem = "sap_segment" if (part, form) == ("sap", "segment") else part
        names += [f"{stem}_mean", f"{stem}_std"][: 1 + std]
    if len(set(names)) < len(names):
        raise PoolingError(f"pooling {pooling!r} names a pooling twice; name each once, e.g. 'gap+sap'")
    return tuple(names)


def run_means(frames: Tensor, speech: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Average each run of speech by itself; an utterance without speech is one run of its valid frames.

    Returns
    -------
    means : Tensor
        ``(batch, runs, dim)`` in the order of time, zeros behind a row's last run.
    run_mask : Tensor
        ``(batch, runs)`` bool, True where there is a run.

    Examples
    --------
    >>> run_means(torch.tensor([[[1.0], [3.0], [9.0], [8.0]]]), torch.tensor([[True, True, False, True]]))[0]
    tensor([[[2.],
             [8.]]])
    """
    frames, mask, speech = _checked(frames, mask, speech)
    ids = speech_runs(speech, mask)
    lengths = run_lengths(ids)  # (batch, runs)
    batch, runs = lengths.shape
    slots = ids.clamp_min(0) + runs * torch.arange(batch, device=ids.device)[:, None]  # (batch, frames)
    spoken = frames.masked_fill(~speech[..., None], 0).flatten(0, 1)  # (batch * frames, dim)
    sums = frames.new_zeros(batch * runs, frames.shape[2]).index_add(0, slots.flatten(), spoken)
    return sums.view(batch, runs, frames.shape[2]) / lengths.clamp_min(1)[..., None], lengths > 0


def _moments(frames: Tensor, weights: Tensor, std: bool) -> Tensor:
    mean = _mean(frames, weights)
    return torch.cat([mean, _std(frames, weights)], dim=-1) if std else mean


def _checked(frames: Tensor, mask: Tensor | None, speech: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Check and complete the arguments: float32 or wider, zeros where masked, speech never empty."""
    if not isinstance(frames, Tensor) or frames.dim() != 3 or not frames.is_floating_point():
        raise PoolingError(f"frames must be a floating tensor (batch, frames, dim), got {_shown(frames)}")
    for name, flags in (("mask", mask), ("speech", speech)):
        if flags is None:
            continue
        if not isinstance(flags, Tensor) or flags.dtype != torch.bool or flags.shape != frames.shape[:2]:
            rule = f"must be a bool tensor (batch, frames) = {tuple(frames.shape[:2])}"
            raise PoolingError(f"{name} {rule}, got {_shown(flags)}; True marks the frames to keep")
        if flags.device != frames.device:
            raise PoolingError(f"{name} is on {flags.device}, frames on {frames.device}; move one of them")
    if mask is None:
        mask = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
    elif not mask.all():
        frames = frames.masked_fill(~mask[..., None], 0)
    empty = (~mask.any(1)).nonzero().flatten().tolist()
    if empty:
        raise PoolingError(f"mask: no valid frame in row {empty}; leave out the clips that give no frame")
    speech = mask if speech is None else speech & mask
    speech = torch.where(speech.any(1, keepdim=True), speech, mask)
    return frames.to(torch.promote_types(frames.dtype, torch.float32)), mask, speech


def _shown(value: object) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
