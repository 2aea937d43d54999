"""Networks over filter banks as upstreams: what Mockingjay and NPC share, from their options to their folders.

An encoder maps features to layers; everything between a wave and its features, a folder and an encoder, is here.
"""

from __future__ import annotations

import abc
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from subtone.errors import UpstreamError, nearest
from subtone.files import appears_whole, write_whole
from subtone.upstreams import kaldi
from subtone.upstreams.base import Encoded, Upstream, Wave
from subtone.upstreams.batch_norm import ValidBatchNorm
from subtone.upstreams.checkpoint import Checkpoint, load_weights
from subtone.upstreams.content import content_digest, weights_version
from subtone.upstreams.filterbank import Cmvn, FilterBank, FilterBankOptions
from subtone.upstreams.mode import evaluation
from subtone.upstreams.precision import full_precision
from subtone.upstreams.surveys import Survey

_TAUGHT_ON = "taught_on"


@dataclass(frozen=True)
class NetworkOptions:
    """What enters a network over filter banks; see `FilterBankOptions`.

    Attributes
    ----------
    num_mel
        Mel bands.
    deltas
        Highest time derivative appended.
    cmvn
        What is taken off over a clip.
    """

    num_mel: int = 80
    deltas: int = 0
    cmvn: Cmvn = "utterance"

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        _ = self.features

    @property
    def features(self) -> FilterBankOptions:
        """The filter banks that enter the network."""
        return FilterBankOptions(self.num_mel, self.deltas, self.cmvn)

    @property
    def input_dim(self) -> int:
        """Width of a frame that enters the network."""
        return self.num_mel * (self.deltas + 1)


def check_counts(family: str, options: NetworkOptions, most: Mapping[str, int]) -> None:
    """Refuse options that must be whole numbers from 1 to a most and are not.

    A saved network from a stranger must not ask for all memory.

    Raises
    ------
    UpstreamError
        Naming the first.
    """
    for name, highest in most.items():
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= highest:
            raise UpstreamError(f"{family}: {name} must be a whole number from 1 to {highest}, got {value!r}")


def check_shares(family: str, options: NetworkOptions, names: Iterable[str]) -> None:
    """Refuse options that must be numbers from 0 to below 1 and are not.

    Raises
    ------
    UpstreamError
        Naming the first.
    """
    for name in names:
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            raise UpstreamError(f"{family}: {name} must be from 0 to below 1, got {value!r}")


_Options = TypeVar("_Options", bound=NetworkOptions)


class FilterBankEncoder(nn.Module, abc.ABC, Generic[_Options]):
    """A network from features to layers.

    Attributes
    ----------
    options
        What it was made with.
    """

    def __init__(self, options: _Options) -> None:
        super().__init__()
        self.options = options

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """Width of a frame of any layer."""

    @property
    @abc.abstractmethod
    def num_layers(self) -> int:
        """Layers handed out."""

    @property
    @abc.abstractmethod
    def stack(self) -> Sequence[nn.Module]:
        """The layers one on another, from bottom to top; see `Upstream.blocks`."""

    @property
    def closing(self) -> Sequence[nn.Module]:
        """What comes after layers of the stack and before none; see `Upstream.closing`."""
        return ()

    @property
    @abc.abstractmethod
    def entry(self) -> nn.Module:
        """The part that takes the features; see `Upstream.entry`."""

    @property
    @abc.abstractmethod
    def reach(self) -> int:
        """Frames of features to each side that a frame sees, attention over the whole clip not counted."""

    @abc.abstractmethod
    def context(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the last layer alone, ``(batch, frames, dim)``: what pre-training predicts from.

        Parameters
        ----------
        features, mask
            As for `forward`.
        """

    @abc.abstractmethod
    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return all layers, ``(layers, batch, frames, dim)``.

        Parameters
        ----------
        features
            ``(batch, frames, input_dim)``; where ``mask`` is False they may hold anything finite.
        mask
            ``(batch, frames)`` bool, True at the frames of a clip, which come first; None where all are.

        Returns
        -------
        Tensor
            Where ``mask`` is False it holds anything finite; the rest does not depend on what is there.
        """


def unless_full(mask: Tensor | None) -> Tensor | None:
    """Return None for a mask that is True throughout: networks are faster without one."""
    return None if mask is None or bool(mask.all()) else mask


class EncoderCore(nn.Module):
    """An encoder for one clip, ``(1, channels, frames)`` to ``(layers, frames, dim)``; see `Upstream.core`."""

    def __init__(self, encoder: FilterBankEncoder[Any]) -> None:
        super().__init__()
        self.encoder = encoder
        self.training = encoder.training

    def forward(self, inputs: Tensor) -> Tensor:
        """See the class; the layers are in the precision of the weights."""
        features = inputs.to(next(self.encoder.parameters()).dtype).transpose(1, 2)
        layers: Tensor = self.encoder(features)  # (layers, 1, frames, dim)
        return layers[:, 0]


class FilterBankNetworkUpstream(Upstream):
    """A network over filter banks, saved as ``config.json`` with its options and ``model.safetensors``.

    Parameters
    ----------
    checkpoint
        The folder, opened by `open_checkpoint`.

    Raises
    ------
    UpstreamError
        If options or weights do not make a complete encoder.
    """

    model_type: ClassVar[str]
    """What ``config.json`` calls the family."""
    options_class: ClassVar[type[NetworkOptions]]
    encoder_class: ClassVar[type[FilterBankEncoder[Any]]]

    def __init__(self, checkpoint: Checkpoint) -> None:
        encoder = self.encoder_class(self._options(checkpoint))
        load_weights(encoder, checkpoint)
        self._take(encoder.eval(), checkpoint.name)
        self.taught_on = tuple(str(name) for name in checkpoint.config.get(_TAUGHT_ON) or ())

    @classmethod
    def from_encoder(
        cls, encoder: FilterBankEncoder[Any], name: str | None = None
    ) -> FilterBankNetworkUpstream:
        """Make an upstream of an encoder in memory, whose weights and mode stay shared with it.

        Parameters
        ----------
        encoder
            Of this family; what is trained on is what is extracted and saved.
        name
            What the upstream is called; the family's own when None.

        Raises
        ------
        UpstreamError
            If the encoder is of another family.
        """
        if not isinstance(encoder, cls.encoder_class):
            raise UpstreamError(
                f"{cls.__name__} is made from a {cls.encoder_class.__name__}, got {type(encoder).__name__}"
            )
        upstream = cls.__new__(cls)
        upstream._take(encoder, name or cls.model_type)
        return upstream

    @classmethod
    def _options(cls, checkpoint: Checkpoint) -> NetworkOptions:
        about = ("model_type", _TAUGHT_ON)
        settings = {key: value for key, value in checkpoint.config.items() if key not in about}
        known = [field.name for field in fields(cls.options_class)]
        for key in settings:
            if key not in known:
                raise UpstreamError(
                    f"upstream {checkpoint.name!r}: config.json: unknown option {key!r}; {nearest(key, known)}"
                )
        for key in known:
            if key not in settings:
                raise UpstreamError(
                    f"upstream {checkpoint.name!r}: config.json lacks {key!r}; it is incomplete, save it again"
                )
        try:
            return cls.options_class(**settings)
        except UpstreamError as error:
            raise UpstreamError(f"upstream {checkpoint.name!r}: config.json: {error}") from None

    def _take(self, encoder: FilterBankEncoder[Any], name: str) -> None:
        self.name = name
        self._encoder = encoder
        self._core = EncoderCore(encoder)
        self._banks = FilterBank(encoder.options.features)
        self._fingerprint: tuple[tuple[Any, ...], str] | None = None
        self.grid = self._banks.grid
        self.dim = encoder.dim
        self.num_layers = encoder.num_layers
        self.min_samples = self._banks.min_samples

    @property
    def context_s(self) -> float:
        """What the filter banks see, and the frames that convolutions see; see `Upstream`."""
        return self._banks.context_s + self._encoder.reach * kaldi.HOP / self.grid.sample_rate_hz

    def survey(self, blocks: Iterable[Wave]) -> Survey | None:
        """Collect what the filter banks take off; see `Upstream.survey`."""
        return self._banks.survey(blocks)

    def encode(self, waves: Sequence[Wave], surveys: Sequence[Survey | None] | None = None) -> Encoded:
        """Encode clips of any lengths as one batch; see `Upstream.encode`."""
        banks = self._features().encode(waves, surveys)
        features = banks.frames[:, 0].to(self.dtype)  # (batch, frames, input_dim)
        with ExitStack() as stack:
            for part in self._encoder.modules():
                if isinstance(part, ValidBatchNorm):
                    stack.enter_context(evaluation(part))  # batch statistics would mix the clips
            stack.enter_context(full_precision(self.device))
            layers: Tensor = self._encoder(features, banks.mask)  # (layers, batch, frames, dim)
        frames = layers.transpose(0, 1).masked_fill(~banks.mask[:, None, :, None], 0.0)
        return Encoded(frames, banks.mask, banks.too_short)

    def front(self, wave: Wave, survey: Survey | None = None) -> Tensor:
        """Return the features ``(input_dim, frames)``; see `Upstream.front`."""
        return self._features().front(wave, survey)

    def core(self) -> EncoderCore:
        """Return the encoder after `front`; see `Upstream.core`."""
        return self._core

    def _features(self) -> FilterBank:
        """Return the filter banks on the device where the weights are, which may have been moved."""
        return self._banks.to(self.device)

    @property
    def module(self) -> FilterBankEncoder[Any]:
        """The encoder."""
        return self._encoder

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The encoder's layers; see `Upstream.blocks`."""
        return self._encoder.stack

    @property
    def closing(self) -> Sequence[nn.Module]:
        """What follows them; see `Upstream.closing`."""
        return self._encoder.closing

    @property
    def entry(self) -> nn.Module:
        """What takes the features, which pre-training hides too; see `Upstream.entry`."""
        return self._encoder.entry

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self._encoder.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights."""
        return next(self._encoder.parameters()).dtype

    def to(self, device: str | torch.device) -> FilterBankNetworkUpstream:
        """Move to a device, in place; returns itself."""
        self._encoder.to(device)
        return self

    def fingerprint(self) -> str:
        """Return the SHA-256 of weights and options; recomputed only after weights have changed."""
        version = weights_version(self._encoder)
        if self._fingerprint is None or self._fingerprint[0] != version:
            self._fingerprint = (version, content_digest(self._encoder, self._document()))
        return self._fingerprint[1]

    def _document(self) -> Mapping[str, Any]:
        return {"model_type": self.model_type, **asdict(self._encoder.options)}

    def config(self) -> dict[str, Any]:
        """Return kind, family and source; the weights themselves are kept by `save`."""
        return {"kind": "subtone", "model_type": self.model_type, "source": self.name, "revision": None}

    def save(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        weights = {
            key: value.detach().cpu().contiguous() for key, value in self._encoder.state_dict().items()
        }
        with appears_whole(target / "model.safetensors") as partial:
            save_file(weights, partial, {"format": "pt"})
        # Last, because a folder without it is no upstream.
        document = dict(self._document()) | ({_TAUGHT_ON: list(self.taught_on)} if self.taught_on else {})
        write_whole(target / "config.json", json.dumps(document, indent=2).encode())
