"""Heads: a clip's vector becomes a score a class. Also the learned mix of layers that stands before them."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from subtone.errors import UsageError, nearest

HeadKind = Literal["linear", "mlp"]
Activation = Literal["relu", "gelu", "tanh"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}


class HeadError(UsageError, ValueError):
    """A shape, a size or a name that no head can honour."""


class LayerMix(nn.Module):
    """Weighted sum over the layers of an upstream, the weights learned: ``Σ_l softmax(logits)_l x_l``.

    It starts as the plain mean of the layers. Being linear, it commutes with every mean over frames: mixing
    stored means of layers equals pooling mixed frames.

    Parameters
    ----------
    num_layers : int
        Layers of the upstream, at least 1.

    Notes
    -----
    Yang et al. 2021, "SUPERB: Speech processing Universal PERformance Benchmark" (arXiv 2105.01051).

    Examples
    --------
    >>> LayerMix(2)(torch.tensor([[[1.0, 2.0], [3.0, 6.0]]])).detach()
    tensor([[2., 4.]])
    """

    def __init__(self, num_layers: int) -> None:
        super().__init__()
        _at_least_one(num_layers=num_layers)
        self.logits = nn.Parameter(torch.zeros(num_layers))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix the layers of ``x``.

        Parameters
        ----------
        x : Tensor
            ``(batch, layers, ...)``: pooled ``(batch, layers, dim)``, or ``(batch, layers, frames, dim)``.
        mask : Tensor, optional
            ``(batch, frames)`` bool, True = valid, for the latter. Masked frames may then hold anything and
            come out as zeros. Without it, a NaN in padding would reach the gradient of the weights.

        Returns
        -------
        Tensor
            ``(batch, ...)``; half precision is mixed in, and returned as, float32.

        Raises
        ------
        HeadError
            (a ``ValueError``) If ``x`` or ``mask`` has another shape.
        """
        layers = len(self.logits)
        if x.dim() < 2 or x.shape[1] != layers:
            raise HeadError(f"x must be (batch, layers = {layers}, ...), got {tuple(x.shape)}")
        if mask is not None:
            if x.dim() != 4 or mask.dtype != torch.bool or mask.shape != (x.shape[0], x.shape[2]):
                raise HeadError(
                    "mask must be bool (batch, frames) beside x (batch, layers, frames, dim), "
                    f"got {mask.dtype} {tuple(mask.shape)} beside {tuple(x.shape)}"
                )
            x = x.masked_fill(~mask[:, None, :, None], 0)
        weights = self.logits.softmax(0).view(layers, *[1] * (x.dim() - 2))
        return (x * weights).sum(1)  # (batch, ...)


class LinearHead(nn.Module):
    """One linear layer: ``(..., dim)`` to logits ``(..., classes)``.

    Examples
    --------
    >>> LinearHead(dim=8, classes=4)(torch.randn(2, 8)).shape
    torch.Size([2, 4])
    """

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        _at_least_one(dim=dim, classes=classes)
        self.dim = dim
        self.linear = nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Score ``(..., dim)``; the logits ``(..., classes)`` are not normalised."""
        return _scored(self.linear, x, self.dim)


class MlpHead(nn.Module):
    """One hidden layer with dropout behind it: ``(..., dim)`` to logits ``(..., classes)``.

    Parameters
    ----------
    dim, classes, hidden : int
        Sizes of the input, the output and the hidden layer, each at least 1.
    dropout : float
        Probability in [0, 1) of dropping a hidden value, in training mode only.
    activation : {"relu", "gelu", "tanh"}
        What follows the hidden layer.

    Examples
    --------
    >>> MlpHead(dim=8, classes=4, hidden=16)(torch.randn(2, 8)).shape
    torch.Size([2, 4])
    """

    def __init__(
        self, dim: int, classes: int, hidden: int = 256, dropout: float = 0.2, activation: Activation = "relu"
    ) -> None:
        super().__init__()
        _at_least_one(dim=dim, classes=classes, hidden=hidden)
        if not 0 <= dropout < 1:
            raise HeadError(f"dropout = {dropout} must lie in [0, 1)")
        if activation not in _ACTIVATIONS:
            raise HeadError(
                f"activation {activation!r} is not known; {nearest(str(activation), _ACTIVATIONS)}"
            )
        self.dim = dim
        self.layers = nn.Sequential(
            nn.Linear(dim, hidden),
            _ACTIVATIONS[activation](),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Score ``(..., dim)``; the logits ``(..., classes)`` are not normalised."""
        return _scored(self.layers, x, self.dim)


def build_head(
    kind: HeadKind,
    dim: int,
    classes: int,
    *,
    hidden: int = 256,
    dropout: float = 0.2,
    activation: Activation = "relu",
) -> LinearHead | MlpHead:
    """Build a head by name; ``hidden``, ``dropout`` and ``activation`` belong to ``"mlp"`` alone.

    Raises
    ------
    HeadError
        (a ``ValueError``) If the name is unknown or a size is out of range.

    Examples
    --------
    >>> build_head("linear", dim=8, classes=4)
    LinearHead(
      (linear): Linear(in_features=8, out_features=4, bias=True)
    )
    """
    if kind == "linear":
        return LinearHead(dim, classes)
    if kind == "mlp":
        return MlpHead(dim, classes, hidden, dropout, activation)
    raise HeadError(f"head {kind!r} is not known; {nearest(str(kind), get_args(HeadKind))}")


def _scored(layers: nn.Module, x: Tensor, dim: int) -> Tensor:
    if x.dim() < 1 or x.shape[-1] != dim:
        raise HeadError(
            f"the head takes vectors of dim = {dim}, got {tuple(x.shape)}; was it built for this pooling?"
        )
    logits: Tensor = layers(x)
    return logits


def _at_least_one(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise HeadError(f"{name} = {size} must be at least 1")
