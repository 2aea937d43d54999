"""Fit the standardisation and the projection of pooled features on training rows."""

from __future__ import annotations

import torch
from torch import Tensor

from subtone.classifier import LayersMode, Reduction


def fit_reduction(x: Tensor, layers: LayersMode, components: int | None) -> Reduction:
    """Fit a :class:`~subtone.classifier.Reduction` on the training rows of one fold.

    Parameters
    ----------
    x : Tensor
        ``(rows, layers, dim)`` float32, training rows only.
    layers : {"mix", "concat"}
        Whether the layers stay apart or are joined.
    components : int or None
        Principal components to keep, at most as many as rows and features allow; None keeps the features.

    Returns
    -------
    Reduction
        A feature that never varies stays at its centred value, zero.
    """
    mean = x.mean(0)
    scale = x.std(0, correction=0)
    scale = torch.where(scale > 1e-6 * (1 + mean.abs()), scale, torch.ones_like(scale))
    plain = Reduction(mean, scale, None, layers)
    if components is None:
        return plain
    rows = plain(x).flatten(0, 1)  # (rows * layers or rows, dim)
    return Reduction(mean, scale, principal_directions(rows, components), layers)


def principal_directions(rows: Tensor, components: int) -> Tensor:
    """Leading principal directions of centred rows, all scaled by one number.

    The common scale makes the mean variance of the kept components one. Their relative sizes stay, so that the strong
    components are learned first and early stopping and weight decay keep the weak ones small.

    Parameters
    ----------
    rows : Tensor
        ``(rows, dim)`` float32, of zero mean.
    components : int
        How many to keep, at most ``min(rows, dim)``.

    Returns
    -------
    Tensor
        ``(dim, components)``.
    """
    n, dim = rows.shape
    keep = min(components, n, dim)
    # The smaller of the two Gram matrices has the same non-zero eigenvalues.
    gram = rows.T @ rows if dim <= n else rows @ rows.T
    values, vectors = torch.linalg.eigh(gram / n)
    values, vectors = values.flip(0)[:keep], vectors.flip(1)[:, :keep]
    if dim > n:
        vectors = rows.T @ vectors / (n * values.clamp_min(1e-7 * values[0]).clamp_min(1e-12)).sqrt()
    directions: Tensor = vectors / values.mean().clamp_min(1e-12).sqrt()
    return directions.contiguous()  # as a file keeps them: another layout rounds another way
