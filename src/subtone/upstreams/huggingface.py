"""What the speech encoders of Hugging Face share: a checkpoint in, a fingerprint and a folder out.

A family adds how it builds its network and how waves become frames; see `cnn`, `whisper` and `w2v_bert`.
"""

from __future__ import annotations

import abc
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
import transformers
from safetensors.torch import save_file
from torch import nn

from subtone.errors import UpstreamError
from subtone.files import appears_whole, write_whole
from subtone.upstreams.base import Upstream
from subtone.upstreams.checkpoint import Checkpoint, load_weights
from subtone.upstreams.content import content_digest, weights_version

# Says where a checkpoint came from or how it was stored, not what it computes.
_TAUGHT_ON = "subtone_taught_on"
_NOT_CONTENT = (
    "_name_or_path",
    "transformers_version",
    "torch_dtype",
    "dtype",
    "architectures",
    _TAUGHT_ON,
)


class HuggingFaceUpstream(Upstream):
    """A speech encoder in the published Hugging Face format.

    The network is in evaluation mode and float32 when loaded. Its layers are never dropped at random
    (``layerdrop``) and its input is never masked (``apply_spec_augment``) unless the caller sets these in
    ``module.config``.

    Parameters
    ----------
    checkpoint
        The folder, opened by `open_checkpoint`.

    Raises
    ------
    UpstreamError
        If configuration or weights do not make a complete encoder.
    """

    weights_prefix: ClassVar[str] = ""
    """What precedes the encoder's weights in a saved folder, so that the published class finds them."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.name = checkpoint.name
        self.taught_on = tuple(str(name) for name in checkpoint.config.get(_TAUGHT_ON) or ())
        self._checkpoint = checkpoint
        self._fingerprint: tuple[tuple[Any, ...], str] | None = None
        with _quiet():
            self._module = self._build_or_explain(checkpoint)
            load_weights(self._module, checkpoint)
        self._module.eval()

    def _build_or_explain(self, checkpoint: Checkpoint) -> nn.Module:
        try:
            with _no_init_weights():
                return self.build(dict(checkpoint.config))
        except UpstreamError:
            raise
        except Exception as error:  # whatever a configuration's values provoke inside the published classes
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UpstreamError(
                f"upstream {checkpoint.name!r}: config.json does not describe a {checkpoint.model_type} "
                f"encoder: {first}"
            ) from None

    @abc.abstractmethod
    def build(self, config: dict[str, Any]) -> nn.Module:
        """Return the network that ``config`` describes, with weights of any value."""

    @abc.abstractmethod
    def front_end(self) -> dict[str, Any]:
        """Return the settings before the network that change its frames; part of the fingerprint."""

    @property
    def module(self) -> nn.Module:
        """The encoder, a `transformers.PreTrainedModel`."""
        return self._module

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The encoder's layers; see `Upstream.blocks`."""
        return tuple(self._module.get_submodule("encoder.layers").children())

    @property
    def entry(self) -> nn.Module:
        """The encoder behind the projection, before its positions; see `Upstream.entry`."""
        return self._module.get_submodule("encoder")

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self._module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights."""
        return next(self._module.parameters()).dtype

    def to(self, device: str | torch.device) -> Upstream:
        """Move to a device, in place; returns itself."""
        self._module.to(device)
        return self

    def fingerprint(self) -> str:
        """Return the SHA-256 of weights and configuration; recomputed only after weights have changed."""
        version = weights_version(self._module)
        if self._fingerprint is None or self._fingerprint[0] != version:
            content = {
                key: value for key, value in self._checkpoint.config.items() if key not in _NOT_CONTENT
            }
            header = {"config": content, "front_end": self.front_end()}
            self._fingerprint = (version, content_digest(self._module, header))
        return self._fingerprint[1]

    def config(self) -> dict[str, Any]:
        """Return kind, family, source and revision; the weights themselves are kept by `save`."""
        return {
            "kind": "huggingface",
            "model_type": self._checkpoint.model_type,
            "source": self.name,
            "revision": self._checkpoint.revision,
        }

    def save(self, folder: str | Path) -> None:
        """Write ``config.json``, ``model.safetensors`` and, if there is one, ``preprocessor_config.json``."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        config = {key: value for key, value in self._checkpoint.config.items() if key != "torch_dtype"}
        config["dtype"] = str(self.dtype).removeprefix("torch.")
        if self.taught_on:
            config[_TAUGHT_ON] = list(self.taught_on)
        weights = {
            self.weights_prefix + key: value.detach().cpu().contiguous()
            for key, value in self._module.state_dict().items()
        }
        with appears_whole(target / "model.safetensors") as partial:
            save_file(weights, partial, {"format": "pt"})
        if self._checkpoint.preprocessor is not None:
            document = json.dumps(self._checkpoint.preprocessor, indent=2)
            write_whole(target / "preprocessor_config.json", document.encode())
        # Last, because a folder without it is no upstream: an interrupted save can't be mistaken for a
        # finished one.
        write_whole(target / "config.json", json.dumps(config, indent=2).encode())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's remarks about configurations from the user, who can do nothing about them."""
    logging = transformers.utils.logging
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _no_init_weights() -> Any:
    """Return the context in which networks are built without drawing random weights: all get replaced."""
    try:
        from transformers.initialization import no_init_weights
    except ImportError:  # transformers 4
        from transformers.modeling_utils import no_init_weights
    return no_init_weights()
