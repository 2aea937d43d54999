"""CNNs for images as encoders of feature maps: from a hub name, a local folder, or the one that ships.

Their weights are read from safetensors alone and no code of a folder is ever run. Cutting speech into pictures and
training on them are left to others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from subtone.errors import UpstreamError, nearest
from subtone.files import appears_whole, write_whole
from subtone.training.segments.shipped_cnn import FOLDER, SHIPPED
from subtone.upstreams import hub
from subtone.upstreams.checkpoint import WEIGHT_FILES, Checkpoint, load_weights, open_checkpoint
from subtone.upstreams.content import content_digest, weights_version
from subtone.upstreams.registry import FAMILIES as SPEECH_FAMILIES

FAMILIES = (
    "bit",
    "convnext",
    "convnextv2",
    "efficientnet",
    "mobilenet_v1",
    "mobilenet_v2",
    "regnet",
    "resnet",
)
"""Families of CNNs for images, by the ``model_type`` that Hugging Face gives them."""
LEAST_SIZE = 48
"""Pixels that a picture needs either way. The networks shrink it by 32 on the way to their last map, which must be more
than a pixel wide: of maps one pixel wide oneDNN's kernels for AMX processors make garbage in bfloat16."""

_SAFE = WEIGHT_FILES[0]
_TAUGHT_ON = "subtone_taught_on"
# Say where a checkpoint came from, how it was stored or what its head was called, not what the encoder computes.
_NOT_CONTENT = frozenset(
    (
        "_name_or_path",
        "architectures",
        "dtype",
        "id2label",
        "label2id",
        "problem_type",
        "torch_dtype",
        "transformers_version",
        _TAUGHT_ON,
    )
)


class ImageCNN(nn.Module):
    """A CNN pre-trained on images, as an encoder of feature maps seen as pictures.

    In evaluation mode when made. A frozen one (:meth:`freeze`) learns nothing and stays in evaluation mode whatever
    ``train`` says, so that its batch norms keep the statistics that they were pre-trained with.

    Parameters
    ----------
    backbone
        A `transformers` network of one of :data:`FAMILIES`, without a head.
    config
        Its ``config.json``.
    name
        What it was loaded by.
    taught_on
        Corpora that it was trained on with their emotions.

    Attributes
    ----------
    dim
        Width of the vector.
    name, taught_on
        As given.

    Examples
    --------
    >>> cnn = load_image_cnn("subtone-pictures")
    >>> cnn(torch.zeros(2, 1, 128, 200)).shape == (2, cnn.dim)
    True
    """

    def __init__(
        self, backbone: nn.Module, config: Mapping[str, Any], name: str, taught_on: tuple[str, ...] = ()
    ) -> None:
        super().__init__()
        self.name, self.taught_on = name, taught_on
        self._config = dict(config)
        # Channels last: two thirds of the time on a CPU, with the same numbers.
        self._backbone: nn.Module = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._frozen = False
        self._fingerprint: tuple[tuple[Any, ...], str] | None = None
        self.channels = int(getattr(backbone.config, "num_channels", 3))
        self.eval()
        with torch.no_grad():
            self.dim = self(torch.zeros(1, 1, LEAST_SIZE, LEAST_SIZE)).shape[1]

    @property
    def backbone(self) -> nn.Module:
        """The network without its head, a `transformers.PreTrainedModel`."""
        return self._backbone

    @property
    def frozen(self) -> bool:
        """Whether the weights stay as they are."""
        return self._frozen

    def freeze(self) -> None:
        """Keep weights and batch norms as they are from now on, e.g. while a new head learns."""
        self._frozen = True
        self._backbone.requires_grad_(False).eval()

    def unfreeze(self) -> None:
        """Let all weights learn again, and batch norms follow ``train`` and ``eval``."""
        self._frozen = False
        self._backbone.requires_grad_(True).train(self.training)

    def train(self, mode: bool = True) -> ImageCNN:
        """Go into training mode or out of it; a frozen backbone stays out."""
        super().train(mode)
        if self._frozen:
            self._backbone.eval()
        return self

    def forward(self, pictures: Tensor) -> Tensor:
        """Turn pictures into vectors, the mean over the network's last map.

        A picture below :data:`LEAST_SIZE` in height or width is stretched to it (bilinear). One channel is repeated
        to as many as the network wants; any other number that it does not want is averaged first.

        Parameters
        ----------
        pictures
            ``(batch, channels, height, width)``, standardised; for speech the height is frequency, the width time.

        Returns
        -------
        Tensor
            ``(batch, dim)``.

        Raises
        ------
        ValueError
            If there are not four dimensions, or no pixel.
        """
        if pictures.ndim != 4 or 0 in pictures.shape[1:]:
            raise ValueError(
                f"pictures must be (batch, channels, height, width) with pixels, got {tuple(pictures.shape)}"
            )
        if pictures.shape[1] != self.channels:
            pictures = pictures.mean(1, keepdim=True).expand(-1, self.channels, -1, -1)
        height, width = (max(LEAST_SIZE, size) for size in pictures.shape[2:])
        if (height, width) != tuple(pictures.shape[2:]):
            pictures = functional.interpolate(pictures, (height, width), mode="bilinear", align_corners=False)
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        pooled: Tensor = self._backbone(pictures).pooler_output  # (batch, dim) or (batch, dim, 1, 1)
        return pooled.flatten(2).mean(-1) if pooled.ndim == 4 else pooled

    def fingerprint(self) -> str:
        """Return the SHA-256 of weights and architecture; recomputed only after weights have changed."""
        version = weights_version(self._backbone)
        if self._fingerprint is None or self._fingerprint[0] != version:
            content = {key: value for key, value in self._config.items() if key not in _NOT_CONTENT}
            self._fingerprint = (version, content_digest(self._backbone, {"image_cnn": content}))
        return self._fingerprint[1]

    def config(self) -> dict[str, Any]:
        """Return what ``config.json`` of a saved folder says."""
        config = {key: v for key, v in self._config.items() if key not in ("torch_dtype", _TAUGHT_ON)}
        if self.taught_on:
            config[_TAUGHT_ON] = list(self.taught_on)
        return config


def load_image_cnn(name_or_folder: str | Path) -> ImageCNN:
    """Open a CNN for images: the one that ships, a local folder, or one of the Hugging Face hub.

    A folder that exists is read as it lies and never opens a socket; a hub name is looked up in the local cache first.

    Parameters
    ----------
    name_or_folder
        ``"subtone-pictures"``; a folder with ``config.json`` and ``model.safetensors``, with or without a
        classifier's head; or a hub name such as ``"microsoft/resnet-18"``.

    Returns
    -------
    ImageCNN
        In evaluation mode, float32, on the CPU.

    Raises
    ------
    UpstreamError
        If it cannot be found, is no CNN for images, keeps its weights as a pickle alone, or is incomplete or unsafe;
        the message says what to do.
    """
    name = str(name_or_folder)
    with _named(name):
        checkpoint = _open(name_or_folder)
        _refuse_other_families(name, checkpoint.model_type)
        _refuse_pickles(checkpoint)
        cnn = _build(checkpoint.config, name)
        load_weights(cnn.backbone, checkpoint)
        return cnn


def image_cnn_of(config: Mapping[str, Any], name: str) -> ImageCNN:
    """Return the CNN that a configuration describes, its weights of any value, to be filled with saved ones.

    Parameters
    ----------
    config
        Of :meth:`ImageCNN.config`.
    name
        What it was loaded by.

    Raises
    ------
    UpstreamError
        If it describes no CNN for images.
    """
    with _named(name):
        _refuse_other_families(name, str(config.get("model_type")))
        return _build(config, name)


def save_image_cnn(cnn: ImageCNN, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Write a folder that :func:`load_image_cnn` reads: ``model.safetensors``, then ``config.json``.

    A folder without ``config.json`` is no CNN, so that an interrupted save cannot be mistaken for a finished one.

    Parameters
    ----------
    cnn
        To be written, with the corpora of ``cnn.taught_on``.
    folder
        Made if it is not there; a CNN in it is replaced.
    dtype
        Precision of the written parameters; None keeps theirs. Batch norms' statistics are written as they are: they
        are few, and small variances would vanish in half precision.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    (target / "config.json").unlink(missing_ok=True)
    kept = dtype or next(cnn.backbone.parameters()).dtype
    weights = {key: value.detach().cpu().contiguous() for key, value in cnn.backbone.state_dict().items()}
    weights |= {key: weights[key].to(kept) for key, _ in cnn.backbone.named_parameters()}
    with appears_whole(target / _SAFE) as partial:
        save_file(weights, partial, {"format": "pt"})
    config = {**cnn.config(), "dtype": str(kept).removeprefix("torch.")}
    write_whole(target / "config.json", json.dumps(config, indent=2).encode())


def _open(name_or_folder: str | Path) -> Checkpoint:
    name = str(name_or_folder)
    if name == SHIPPED:
        return open_checkpoint(FOLDER, name)
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        return open_checkpoint(folder, name)
    if folder.exists():
        raise UpstreamError(
            f"upstream {name!r} is a file; pass the folder that holds config.json and the weights"
        )
    ours = f"; or take {SHIPPED!r}, which ships with Subtone and needs no network"
    if isinstance(name_or_folder, Path) or name.startswith((".", "~", "/")) or name.count("/") > 1:
        raise UpstreamError(f"upstream {name!r}: no such folder{ours}")
    if "/" not in name:
        raise UpstreamError(
            f"upstream {name!r}: no folder, and no name of the hub, which has a slash, as in microsoft/resnet-18; "
            f"{nearest(name, [SHIPPED])}"
        )
    try:
        found = hub.fetch(name, None, None)
    except UpstreamError as error:
        raise UpstreamError(f"{error}{ours}") from None
    return open_checkpoint(found, name, found.name)


def _refuse_other_families(name: str, family: str) -> None:
    if family in FAMILIES:
        return
    if family in SPEECH_FAMILIES:
        reason = "is a network of speech, not of images: name it as the upstream instead"
    else:
        reason = "is not one of the CNNs for images that Subtone reads"
    raise UpstreamError(
        f"upstream {name!r}: its model_type {family!r} {reason}; CNNs for images are those of "
        f"model_type {', '.join(FAMILIES)}, e.g. microsoft/resnet-18, or {SHIPPED!r}, which ships"
    )


def _refuse_pickles(checkpoint: Checkpoint) -> None:
    safe = (_SAFE, f"{_SAFE}.index.json")
    if not any((checkpoint.folder / file).is_file() for file in safe):
        pickled = (checkpoint.folder / WEIGHT_FILES[1]).is_file()
        what = f"refused, it holds its weights as a pickle alone, no {_SAFE}" if pickled else f"no {_SAFE}"
        raise UpstreamError(
            f"upstream {checkpoint.name!r}: {what} in {checkpoint.folder}; take a revision that has {_SAFE}, "
            f"or {SHIPPED!r}, which ships with Subtone"
        )


def _build(config: Mapping[str, Any], name: str) -> ImageCNN:
    """Return the network that a configuration describes, with weights of any value, in float32."""
    given = {key: v for key, v in config.items() if key not in ("dtype", "torch_dtype")}
    family = given.pop("model_type")
    try:
        # Random weights are drawn and thrown away; that must not move the draws of who opens the network.
        with torch.random.fork_rng(devices=[]):
            described = transformers.AutoConfig.for_model(family, **given)
            backbone = transformers.AutoModel.from_config(described)
    except Exception as error:  # whatever a configuration's values provoke inside the published classes
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UpstreamError(
            f"upstream {name!r}: config.json does not describe a {family} network: {first}"
        ) from None
    return ImageCNN(backbone, config, name, tuple(str(one) for one in config.get(_TAUGHT_ON) or ()))


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Let errors of what is shared with upstreams speak of an image CNN."""
    try:
        yield
    except UpstreamError as error:
        raise UpstreamError(str(error).replace(f"upstream {name!r}", f"image CNN {name!r}", 1)) from None
