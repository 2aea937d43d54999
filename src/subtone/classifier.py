"""From pooled features to logits: reduction (standardise, project), layer mix, head.

The same two modules are trained on folds, saved in a bundle and run at prediction.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from subtone.heads import HeadKind, LayerMix, build_head

LayersMode = Literal["mix", "concat"]


class Reduction(nn.Module):
    """Pooled features → what the head sees; all its numbers were fitted on training rows.

    Each feature of each layer is centred and scaled to unit variance. ``"concat"`` then joins the layers to one of
    ``layers * dim`` values. With a basis, all layers are projected onto the same directions, so that a mix of
    projected layers is the projection of the mix.

    Parameters
    ----------
    mean, scale : Tensor
        ``(layers, dim)`` float32.
    basis : Tensor or None
        ``(dim, components)``, for ``"concat"`` ``(layers * dim, components)``, float32.
    layers : {"mix", "concat"}
        Whether layers stay apart for a :class:`~subtone.heads.LayerMix` or are joined.
    """

    mean: Tensor
    scale: Tensor
    basis: Tensor | None

    def __init__(self, mean: Tensor, scale: Tensor, basis: Tensor | None, layers: LayersMode) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.register_buffer("basis", basis)
        self.layers: LayersMode = layers

    @property
    def num_layers(self) -> int:
        """Layers that come out: all of them for ``"mix"``, one for ``"concat"``."""
        return len(self.mean) if self.layers == "mix" else 1

    @property
    def dim(self) -> int:
        """Features of each layer that come out."""
        if self.basis is not None:
            return self.basis.shape[1]
        return self.mean.shape[1] if self.layers == "mix" else self.mean.numel()

    def forward(self, x: Tensor) -> Tensor:
        """Reduce ``(rows, layers, dim)`` float32 to ``(rows, num_layers, self.dim)``."""
        z = (x - self.mean) / self.scale
        if self.layers == "concat":
            z = z.flatten(1).unsqueeze(1)  # (rows, 1, layers * dim)
        return z if self.basis is None else z @ self.basis


class PooledClassifier(nn.Module):
    """Reduced features ``(batch, layers, dim)`` → logits ``(batch, classes)``: mix, dropout, head.

    Parameters
    ----------
    num_layers, dim, classes : int
        Sizes of the reduced features and of the output.
    head : {"linear", "mlp"}
        See :func:`~subtone.heads.build_head`.
    hidden, dropout
        Of the ``mlp`` head.
    input_dropout : float
        Share of the head's inputs dropped while training.
    """

    def __init__(
        self,
        num_layers: int,
        dim: int,
        classes: int,
        *,
        head: HeadKind = "mlp",
        hidden: int = 128,
        dropout: float = 0.2,
        input_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.kind: HeadKind = head
        self.hidden = hidden
        self.mix = LayerMix(num_layers)
        self.dropout = nn.Dropout(input_dropout)
        self.head = build_head(head, dim, classes, hidden=hidden, dropout=dropout)
        # All classes start even: random first scores along weak components would never be trained away.
        last = [m for m in self.head.modules() if isinstance(m, nn.Linear)][-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Score reduced features; the logits are not normalised."""
        logits: Tensor = self.head(self.dropout(self.mix(x)))
        return logits
