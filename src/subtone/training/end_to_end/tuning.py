"""What of an upstream is trained, how fast, and how its weights come out under their published names."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from subtone.errors import UsageError, nearest
from subtone.training.end_to_end.state import whole
from subtone.training.options import STRICT, OptionError
from subtone.upstreams import Upstream
from subtone.upstreams.batch_norm import ValidBatchNorm

Train = Literal["all", "top-layers", "lora", "nothing"]

_ATTENTION = frozenset(
    (
        *("q_proj", "k_proj", "v_proj", "out_proj"),  # wav2vec 2.0 and its kin, Whisper
        *("linear_q", "linear_k", "linear_v", "linear_out"),  # conformers, w2v-BERT
        *("queries_keys_values", "attended"),  # Mockingjay
    )
)
"""Names of the linear layers inside blocks that LoRA adapts."""
_CONSTANT = ("embed_positions.weight",)
"""Weights that no training changes: Whisper's sinusoids, as published."""
_ADAPTER = "default"


@dataclass(frozen=True)
class Tuning:
    """What of an upstream is trained.

    Parameters
    ----------
    train
        ``"all"``: the whole network. ``"top-layers"``: the topmost blocks and what comes after them; what lies
        below is frozen and costs no backward pass. ``"lora"``: low-rank additions to the attention projections of
        all blocks, the weights themselves frozen. ``"nothing"``: all frozen.
    top_layers
        How many blocks ``"top-layers"`` trains.
    lora_rank, lora_alpha, lora_dropout
        Rank of the additions, which are scaled by ``lora_alpha / lora_rank``, and the share of their inputs dropped
        in training.
    layer_decay
        Each block learns by this factor slower than the one above it, in (0, 1]; see `rate_groups`.
    gradient_checkpointing
        Recompute blocks in the backward pass instead of keeping what they computed: less memory, a third more time.

    Raises
    ------
    OptionError
        If a value is out of range.
    """

    __pydantic_config__ = STRICT

    train: Train = "all"
    top_layers: int = 4
    lora_rank: int = 8
    lora_alpha: float = 16.0
    lora_dropout: float = 0.0
    layer_decay: float = 1.0
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.train not in get_args(Train):
            raise OptionError(
                f"finetuning: train = {self.train!r} is unknown; {nearest(str(self.train), get_args(Train))}"
            )
        for name in ("top_layers", "lora_rank"):
            if getattr(self, name) < 1:
                raise OptionError(f"finetuning: {name} = {getattr(self, name)} must be at least 1")
        if not 0 < self.lora_alpha < math.inf:
            raise OptionError(f"finetuning: lora_alpha = {self.lora_alpha} must be above 0 and finite")
        if not 0 <= self.lora_dropout < 1:
            raise OptionError(f"finetuning: lora_dropout = {self.lora_dropout} must lie in [0, 1)")
        if not 0 < self.layer_decay <= 1:
            raise OptionError(
                f"finetuning: layer_decay = {self.layer_decay} must lie in (0, 1]; 1 gives all layers the same rate"
            )


def prepare(upstream: Upstream, tuning: Tuning) -> None:
    """Set, in place, which parameters of an upstream are trained, inject LoRA, and switch checkpointing on.

    The mode of the network stays as it is; see `train_mode`. An upstream without a network has nothing to train,
    whatever ``tuning`` says. While LoRA is injected, `Upstream.save` would write names that nothing reads: take
    `plain_state`, or `load_plain` it first.

    Parameters
    ----------
    upstream
        As it was loaded, or after `load_plain`.
    tuning
        What is trained.

    Raises
    ------
    UsageError
        If the upstream has fewer blocks than are to be trained, no projections that LoRA adapts, or none that can
        be recomputed; if LoRA is injected already, or PEFT, which injects it, is not installed.
    """
    network = upstream.module
    if network is None:
        return
    if _adapted(network):
        raise UsageError(
            f"finetuning: LoRA is in {upstream.name!r} already; load_plain(upstream, plain_state(upstream)) first "
            "makes it a part of the weights"
        )
    if tuning.train == "top-layers" and tuning.top_layers > len(upstream.blocks):
        raise UsageError(
            f"finetuning: top_layers = {tuning.top_layers} is more than the {len(upstream.blocks)} layers of "
            f"{upstream.name!r}; choose fewer, or train: all"
        )
    if tuning.train != "nothing":
        _checkpoint_gradients(upstream, network, tuning.gradient_checkpointing)
    if tuning.train == "lora":
        _inject_lora(upstream, network, tuning)  # PEFT marks what it adds as trained and freezes the rest
    else:
        trained = _trained_parts(upstream, network, tuning)
        own = {id(parameter) for part in trained for parameter in part.parameters()}
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(id(parameter) in own and not name.endswith(_CONSTANT))
    for part in network.modules():
        # Published networks ask the samples for gradients in training, on which the backward pass would go down to
        # them through whatever is frozen. Only the other form of checkpointing needs it.
        if hasattr(part, "_requires_grad"):
            part._requires_grad = False  # type: ignore[assignment]


def train_mode(upstream: Upstream, tuning: Tuning) -> None:
    """Put what `prepare` made trainable into training mode and frozen parts into evaluation.

    With LoRA all of the network is in training mode. Batch norms stay in evaluation everywhere: their statistics
    would mix the clips of a batch.

    Parameters
    ----------
    upstream
        After `prepare`.
    tuning
        What it was prepared by.
    """
    network = upstream.module
    if network is None:
        return
    network.eval()
    for part in [network] if tuning.train == "lora" else _trained_parts(upstream, network, tuning):
        part.train()
    for part in network.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm | ValidBatchNorm):
            part.eval()


def rate_groups(upstream: Upstream, layer_decay: float) -> list[tuple[float, list[tuple[str, nn.Parameter]]]]:
    """Return the trainable parameters by how fast they learn: layer-wise decay of the learning rate.

    The factor is 1 for the top block and for what comes after the blocks, ``layer_decay`` for the block below,
    ``layer_decay²`` for the next, and ``layer_decay ** blocks`` for all that lies below them.

    Parameters
    ----------
    upstream
        After `prepare`.
    layer_decay
        In (0, 1].

    Returns
    -------
    list of tuple
        ``(factor, [(name, parameter), ...])``, largest factor first; each trainable parameter is in one of them,
        under its name in ``upstream.module`` and in the order there. Empty when nothing is trained.
    """
    network = upstream.module
    if network is None:
        return []
    count = len(upstream.blocks)
    depths = {
        id(parameter): count - 1 - number
        for number, block in enumerate(upstream.blocks)
        for parameter in block.parameters()
    }
    depths |= {id(parameter): 0 for part in upstream.closing for parameter in part.parameters()}
    groups: dict[float, list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            factor = float(layer_decay ** depths.get(id(parameter), count))
            groups.setdefault(factor, []).append((name, parameter))
    return sorted(groups.items(), key=lambda group: -group[0])


def plain_state(upstream: Upstream) -> dict[str, Tensor]:
    """Return copies of the network's weights on the CPU under their published names, LoRA's additions added in.

    Neither the network nor its training is touched.

    Parameters
    ----------
    upstream
        With LoRA injected or without.

    Returns
    -------
    dict
        What `load_plain` reads; empty without a network.
    """
    network = upstream.module
    if network is None:
        return {}
    adapted = _adapted(network)
    state: dict[str, Tensor] = {}
    for key, value in network.state_dict().items():
        owner = next((name for name in adapted if key.startswith(f"{name}.")), None)
        if owner is None:
            state[key] = whole(value)
            continue
        inner = key.removeprefix(f"{owner}.")
        if not inner.startswith("base_layer."):
            continue  # part of the addition
        value = whole(value)
        if inner == "base_layer.weight":
            value = (value.float() + _addition(adapted[owner])).to(value.dtype)
        state[f"{owner}.{inner.removeprefix('base_layer.')}"] = value
    return state


def load_plain(upstream: Upstream, state: Mapping[str, Tensor]) -> None:
    """Load what `plain_state` returned, in place: the upstream is then as one freshly loaded with these weights.

    LoRA is taken out, parameters ask for gradients again, checkpointing is off and the network in evaluation mode.

    Parameters
    ----------
    upstream
        Of the same shape, prepared or not.
    state
        Weights under their published names; cast to the upstream's precision.

    Raises
    ------
    UsageError
        If a weight is missing, unknown or of another shape.
    """
    network = upstream.module
    if network is None:
        if state:
            raise UsageError(
                f"finetuning: {upstream.name!r} has no network to load {len(state)} weights into"
            )
        return
    for name, layer in _adapted(network).items():
        parent, _, leaf = name.rpartition(".")
        setattr(network.get_submodule(parent), leaf, layer.base_layer)
    if hasattr(network, "peft_config"):
        del network.peft_config
    try:
        network.load_state_dict(dict(state))
    except RuntimeError as error:
        first = str(error).strip().splitlines()[1:2]
        raise UsageError(
            f"finetuning: these are not the weights of {upstream.name!r}: {' '.join(first).strip()}"
        ) from None
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not name.endswith(_CONSTANT))
        parameter.grad = None
    _checkpoint_gradients(upstream, network, False)
    network.eval()


def freeze_unused(network: nn.Module, loss: Callable[[], Tensor]) -> list[str]:
    """Freeze the trainable parameters that a loss does not reach, which training on several devices refuses.

    Runs one forward and backward pass. All gradients are cleared; torch's random state is left as it was.

    Parameters
    ----------
    network
        All that is trained.
    loss
        Computes a scalar as training does, in training mode.

    Returns
    -------
    list of str
        Names of the parameters that were frozen, in their order.
    """
    network.zero_grad(set_to_none=True)
    devices = {parameter.device for parameter in network.parameters() if parameter.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(devices, key=str)):
        value = loss()
        if value.requires_grad:
            value.backward()  # type: ignore[no-untyped-call]
    unused = [
        (name, parameter)
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    for _, parameter in unused:
        parameter.requires_grad_(False)
    network.zero_grad(set_to_none=True)
    return [name for name, _ in unused]


def _trained_parts(upstream: Upstream, network: nn.Module, tuning: Tuning) -> list[nn.Module]:
    """Return the modules that are trained whole."""
    if tuning.train == "all":
        return [network]
    if tuning.train == "top-layers":
        return [*upstream.blocks[-tuning.top_layers :], *upstream.closing]
    return []


def _checkpoint_gradients(upstream: Upstream, network: Any, wanted: bool) -> None:
    if not getattr(network, "supports_gradient_checkpointing", False):
        if wanted:
            config = getattr(network, "config", None)
            family = getattr(config, "model_type", type(network).__name__)
            raise UsageError(
                f"finetuning: gradient_checkpointing: the family of {upstream.name!r}, {family}, does not support it; "
                "leave it out"
            )
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # newer releases call both by other names
        if wanted:
            network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        elif network.is_gradient_checkpointing:
            network.gradient_checkpointing_disable()


def _inject_lora(upstream: Upstream, network: nn.Module, tuning: Tuning) -> None:
    inside = {id(part) for block in upstream.blocks for part in block.modules()}
    targets = [
        name
        for name, part in network.named_modules()
        if isinstance(part, nn.Linear) and id(part) in inside and name.rpartition(".")[2] in _ATTENTION
    ]
    if not targets:
        raise UsageError(
            f"finetuning: {upstream.name!r} has no attention projections for LoRA to adapt; train: top-layers or all"
        )
    try:
        import peft
    except ImportError:
        raise UsageError(
            "finetuning: LoRA needs the package peft: pip install 'subtone[lora]', or train: top-layers"
        ) from None
    config = peft.LoraConfig(
        r=tuning.lora_rank,
        lora_alpha=tuning.lora_alpha,
        lora_dropout=tuning.lora_dropout,
        target_modules=targets,
    )
    peft.inject_adapter_in_model(config, network, _ADAPTER)
    for layer in _adapted(network).values():
        layer.train(layer.base_layer.training)  # what was added would drop out in evaluation


def _adapted(network: nn.Module) -> dict[str, Any]:
    """Return PEFT's layers that stand in the place of linear ones, by name."""
    return {
        name: part
        for name, part in network.named_modules()
        if hasattr(part, "lora_A") and hasattr(part, "base_layer")
    }


def _addition(layer: Any) -> Tensor:
    """Return what LoRA adds to a weight, ``(out, in)`` float32, leaving all as it is."""
    inwards, outwards = whole(layer.lora_A[_ADAPTER].weight), whole(layer.lora_B[_ADAPTER].weight)
    added: Tensor = outwards.float() @ inwards.float() * layer.scaling[_ADAPTER]
    return added
