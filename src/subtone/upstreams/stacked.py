"""Several networks over the same filter banks as one upstream: recordings are read and analysed once for all."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from subtone.errors import UpstreamError
from subtone.upstreams.base import Encoded, Upstream, Wave
from subtone.upstreams.filterbank_network import FilterBankNetworkUpstream
from subtone.upstreams.surveys import Survey


class StackedUpstream(Upstream):
    """The layers of several networks, one network after the other.

    To compare pre-trained variants of a network, decoding and filter banks would be paid anew for each; so they are
    paid once. Layer ``i`` of network ``n`` is layer ``n * (num_layers / len(networks)) + i``.

    Parameters
    ----------
    networks
        At least one; all over the same filter banks, with frames of one width and as many layers.

    Raises
    ------
    UpstreamError
        If they do not fit.
    """

    def __init__(self, networks: Sequence[FilterBankNetworkUpstream]) -> None:
        if not networks:
            raise UpstreamError("a stack needs at least one network")
        first = networks[0]
        for other in networks[1:]:
            for what, a, b in (
                ("filter banks", first.module.options.features, other.module.options.features),
                ("width", first.dim, other.dim),
                ("number of layers", first.num_layers, other.num_layers),
            ):
                if a != b:
                    raise UpstreamError(
                        f"{first.name!r} and {other.name!r} cannot be stacked: their {what} differ, {a} and {b}"
                    )
        self.networks = tuple(networks)
        self.name = "+".join(network.name for network in networks)
        self.grid, self.dim, self.min_samples = first.grid, first.dim, first.min_samples
        self.num_layers = sum(network.num_layers for network in networks)
        self._module = nn.ModuleList(network.module for network in networks)
        self._module.training = any(network.module.training for network in networks)
        self._core = StackedCore([network.core() for network in networks])

    def encode(self, waves: Sequence[Wave], surveys: Sequence[Survey | None] | None = None) -> Encoded:
        """Encode clips of any lengths as one batch; see `Upstream.encode`."""
        each = [network.encode(waves, surveys) for network in self.networks]
        return Encoded(torch.cat([one.frames for one in each], dim=1), each[0].mask, each[0].too_short)

    def front(self, wave: Wave, survey: Survey | None = None) -> Tensor:
        """Return the features that all networks hear, ``(input_dim, frames)``; see `Upstream.front`."""
        return self.networks[0].front(wave, survey)

    def core(self) -> StackedCore:
        """Return the networks after `front`; see `Upstream.core`."""
        return self._core

    def survey(self, blocks: Any) -> Survey | None:
        """Collect what the filter banks take off; see `Upstream.survey`."""
        return self.networks[0].survey(blocks)

    @property
    def context_s(self) -> float:
        """The widest of the networks'; see `Upstream`."""
        return max(network.context_s for network in self.networks)

    @property
    def module(self) -> nn.Module:
        """All networks."""
        return self._module

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.networks[0].device

    def to(self, device: str | torch.device) -> StackedUpstream:
        """Move to a device, in place; returns itself."""
        for network in self.networks:
            network.to(device)
        return self

    def fingerprint(self) -> str:
        """Return the SHA-256 of all the networks' fingerprints, in order."""
        return hashlib.sha256(
            "\n".join(network.fingerprint() for network in self.networks).encode()
        ).hexdigest()

    def config(self) -> dict[str, Any]:
        """Return what it is made of; it is not read back."""
        return {"kind": "stacked", "networks": [network.config() for network in self.networks]}

    def save(self, folder: str | Path) -> NoReturn:
        """Refuse: the networks are saved each for itself."""
        raise UpstreamError(f"{folder}: a stack of networks is not saved as one; save each of its networks")


class StackedCore(nn.Module):
    """Networks side by side, ``(1, channels, frames)`` to ``(layers of all, frames, dim)``."""

    def __init__(self, cores: Sequence[nn.Module]) -> None:
        super().__init__()
        self.cores = nn.ModuleList(cores)
        self.training = any(core.training for core in cores)

    def forward(self, inputs: Tensor) -> Tensor:
        """See the class."""
        return torch.cat([core(inputs) for core in self.cores])  # (layers, frames, dim)
