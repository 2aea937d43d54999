"""Objectives by name: an architecture, its sizes, and the loss that goes with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from subtone.errors import nearest
from subtone.pretraining.masking import Masking
from subtone.pretraining.objectives.base import Objective, ObjectiveError
from subtone.pretraining.objectives.mockingjay import MockingjayObjective
from subtone.pretraining.objectives.npc import NpcObjective
from subtone.upstreams import mockingjay, npc
from subtone.upstreams.filterbank_network import FilterBankNetworkUpstream, NetworkOptions

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Architecture:
    """What can be pre-trained.

    Attributes
    ----------
    sizes
        Name → options of the encoder.
    encoder
        Makes an encoder of them.
    objective
        Makes an objective of encoder, masking, ``intensity_input`` and ``intensity_target``.
    upstream
        What the encoder becomes.
    masking
        Strategy of the plain, published model.
    """

    sizes: Mapping[str, NetworkOptions]
    encoder: Callable[[Any], Any]
    objective: Callable[..., Objective]
    upstream: type[FilterBankNetworkUpstream]
    masking: str


ARCHITECTURES: dict[str, Architecture] = {
    "mockingjay": Architecture(
        mockingjay.SIZES,
        mockingjay.MockingjayEncoder,
        MockingjayObjective,
        mockingjay.MockingjayUpstream,
        "random",
    ),
    "npc": Architecture(npc.SIZES, npc.NpcEncoder, NpcObjective, npc.NpcUpstream, "none"),
}
"""Name → architecture."""


def build_objective(
    architecture: str,
    size: str = "small",
    *,
    masking: str | None = None,
    share: float = 0.15,
    span: int = 7,
    intensity_input: bool = False,
    intensity_target: bool = False,
    seed: int = 0,
) -> Objective:
    """Build an objective with fresh weights.

    Parameters
    ----------
    architecture, size
        A name in `ARCHITECTURES`, and one of its sizes.
    masking
        A masking strategy; None takes that of the plain model: ``"random"`` for Mockingjay, ``"none"`` for NPC.
    share, span
        Of the masking.
    intensity_input, intensity_target
        See the objective.
    seed
        Of the weights. The encoder's depend on nothing else, so that runs with other maskings or heads start alike;
        torch's own random state is left as it was.

    Raises
    ------
    ObjectiveError, MaskingError
        (``ValueError``) If a name is unknown, a value out of range, or the choice leaves nothing to learn.

    Examples
    --------
    >>> build_objective("npc", "tiny", masking="ems").masking.share
    0.15
    """
    known = _named("architecture", architecture, ARCHITECTURES)
    options = _named(f"size of {architecture}", size, known.sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return known.objective(
            known.encoder(options),
            Masking(known.masking if masking is None else masking, share, span),
            intensity_input=intensity_input,
            intensity_target=intensity_target,
        )


def _named(what: str, name: str, known: Mapping[str, _Value]) -> _Value:
    if name not in known:
        raise ObjectiveError(f"{what} {name!r} is not known; {nearest(str(name), known)}")
    return known[name]
