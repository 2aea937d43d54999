"""Bundles: a model as a folder of safetensors, JSON and a card, never a pickle.

::

    config.json         schema version, labels, upstream, detector, statistics, shapes
    model.safetensors   reduction and classifiers
    card.md             data, licence, figures, intended use and limits
    upstream/           the upstream itself, when it was saved with the model
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from subtone.classifier import LayersMode, PooledClassifier, Reduction
from subtone.errors import BundleError, nearest
from subtone.heads import HeadKind
from subtone.inference import Per, Prediction
from subtone.model import EmotionModel
from subtone.pooling import STATISTICS
from subtone.speech import load_detector
from subtone.upstreams import load_from_config

SCHEMA: Literal[1] = 1
CONFIG, WEIGHTS, CARD, UPSTREAM = "config.json", "model.safetensors", "card.md", "upstream"
#: A config is a few kB; a stranger's may not be a bomb.
MAX_CONFIG_BYTES = 1_000_000
PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib")


class _Classifier(BaseModel):
    model_config = ConfigDict(extra="forbid")
    # Bounds: a config from a stranger must not make us reserve all memory.
    count: int = Field(ge=1, le=1000)
    num_layers: int = Field(ge=1, le=1000)
    dim: int = Field(ge=1, le=1_000_000)
    head: HeadKind
    hidden: int = Field(ge=1, le=65_536)
    layers: LayersMode


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid")
    schema_version: Literal[1]
    labels: list[str] = Field(min_length=1, max_length=1000)
    sample_rate_hz: Literal[16000]
    upstream: dict[str, Any]
    detector: dict[str, Any]
    statistics: list[str] = Field(min_length=1, max_length=1000)
    classifier: _Classifier
    temperature: float = Field(gt=0, allow_inf_nan=False)
    trained_on: list[str] = []


@dataclass(frozen=True)
class ShippedModel:
    """A model inside the package: what can be said of it without loading it."""

    name: str
    folder: Path
    labels: tuple[str, ...]
    upstream: str
    size_mb: float
    card: Path


def shipped() -> list[ShippedModel]:
    """Return the models inside the package."""
    root = Path(str(files("subtone"))) / "models"
    found = []
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if (folder / CONFIG).is_file():
            config = _read_config(folder)
            size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
            upstream = str(config.upstream.get("source") or config.upstream.get("kind"))
            found.append(
                ShippedModel(
                    folder.name, folder, tuple(config.labels), upstream, round(size / 1e6, 1), folder / CARD
                )
            )
    return found


def predict(
    sources: Any, model: str | Path | EmotionModel = "default", per: Per = "file", **options: Any
) -> Prediction:
    """Say the emotions of recordings: load a model and let it predict.

    Parameters
    ----------
    sources
        Paths, bytes, arrays, or a table; see :func:`subtone.inference.run`.
    model
        A shipped model, a bundle folder, or a model that is loaded already.
    per
        ``"file"``, ``"segment"`` or ``"window"``.
    options
        ``window_s``, ``hop_s``, ``labels``, ``channel``, …; see :func:`subtone.inference.run`.

    Returns
    -------
    Prediction

    Raises
    ------
    BundleError
        If the model cannot be loaded. Recordings that cannot be read are named in the result's ``failed``.
    """
    chosen = model if isinstance(model, EmotionModel) else load(model)
    return chosen.predict(sources, per=per, **options)


def load(name_or_folder: str | Path = "default", *, device: str = "cpu") -> EmotionModel:
    """Load a model that ships with Subtone, or a bundle folder.

    Parameters
    ----------
    name_or_folder : str or Path
        A name of :func:`shipped`, or a folder written by :func:`save`.
    device : str
        Where the upstream runs, e.g. ``"cpu"`` or ``"cuda"``.

    Returns
    -------
    EmotionModel

    Raises
    ------
    BundleError
        If there is no such bundle, it is damaged, newer than this Subtone, or holds a pickle.
    """
    own = {model.name: model.folder for model in shipped()}
    folder = own.get(str(name_or_folder), Path(name_or_folder))
    if not folder.is_dir():
        raise BundleError(
            f"model {str(name_or_folder)!r} is neither a folder nor a model that ships with Subtone; "
            + nearest(str(name_or_folder), own)
        )
    config = _read_config(folder)
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PICKLES:
            raise BundleError(
                f"{path}: a bundle holds no {path.suffix} file, which may run code when opened; delete it if you "
                "trust the rest, or get the bundle from its author again"
            )
    tensors = _read_weights(folder)
    try:
        reduction, classifiers = _rebuilt(config, tensors)
    except (KeyError, RuntimeError, ValueError) as error:
        why = " ".join(str(error).split())
        raise BundleError(
            f"{folder / WEIGHTS}: does not fit {CONFIG}: {why}; get the bundle from its author again"
        ) from error
    try:
        detector = load_detector(config.detector)
    except TypeError as error:  # values of types that no detector expects
        raise BundleError(f"{folder / CONFIG}: detector: {error}") from error
    upstream = load_from_config(config.upstream, folder=_upstream_folder(folder), device=device)
    pooled = (upstream.num_layers, upstream.dim * len(config.statistics))
    if tuple(reduction.mean.shape) != pooled:
        raise BundleError(
            f"{folder}: the classifier takes (layers, features) = {tuple(reduction.mean.shape)}, the upstream gives "
            f"{pooled}; get the bundle from its author again"
        )
    card = folder / CARD
    return EmotionModel(
        upstream=upstream,
        detector=detector,
        statistics=tuple(config.statistics),
        reduction=reduction,
        classifiers=classifiers,
        labels=tuple(config.labels),
        temperature=config.temperature,
        trained_on=tuple(config.trained_on),
        card=card.read_text(encoding="utf-8") if card.is_file() else "",
    )


def save(
    model: EmotionModel, folder: str | Path, *, with_upstream: bool = True, overwrite: bool = False
) -> Path:
    """Write a model as a bundle; the folder appears whole or not at all.

    Parameters
    ----------
    model : EmotionModel
        What to save.
    folder : path
        Where; must not exist unless ``overwrite``.
    with_upstream : bool
        Keep the weights of the upstream in the bundle, so that it works anywhere. Without them the bundle names the
        upstream, and loading it checks that the weights found are the same.
    overwrite : bool
        Replace a bundle that is there.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    BundleError
        If the folder is taken or cannot be written.
    """
    folder = Path(folder)
    refuse_if_taken(folder, overwrite=overwrite)
    building, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{what}") for what in ("partial", "old"))
    try:
        building.mkdir(parents=True)
        _write(model, building, with_upstream)
        _as_others_are(building)
        if folder.exists():
            folder.rename(old)
        building.rename(folder)
    except (OSError, SafetensorError) as error:  # the latter is what safetensors says of a full disk
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise BundleError(
            f"{folder}: could not be written: {error}; make room, or name another folder"
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    return folder


def refuse_if_taken(folder: Path, *, overwrite: bool = False) -> None:
    """Check, before a long training too, that a bundle can be written here.

    Raises
    ------
    BundleError
        If the folder exists; with ``overwrite``, if it is no bundle.
    """
    if not folder.exists():
        return
    if not overwrite:
        raise BundleError(
            f"{folder}: exists already; name another folder, or pass --overwrite to replace a model"
        )
    if not (folder / CONFIG).is_file():
        raise BundleError(
            f"{folder}: holds no {CONFIG}, so it is no model and is not replaced; name another folder"
        )


def _write(model: EmotionModel, folder: Path, with_upstream: bool) -> None:
    first = model.classifiers[0]
    tensors: dict[str, Tensor] = {f"reduction.{k}": v for k, v in model.reduction.state_dict().items()}
    for i, classifier in enumerate(model.classifiers):
        tensors.update({f"classifiers.{i}.{k}": v for k, v in classifier.state_dict().items()})
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / WEIGHTS)
    has_weights = model.upstream.module is not None
    if with_upstream and has_weights:
        model.upstream.save(folder / UPSTREAM)
    described = {**model.upstream.config(), "fingerprint": model.upstream.fingerprint()}
    if with_upstream and has_weights and Path(str(described.get("source", ""))).is_dir():
        described["source"] = Path(str(described["source"])).name  # the path is its author's own business
    config = _Config(
        schema_version=SCHEMA,
        labels=list(model.labels),
        sample_rate_hz=16000,
        upstream=described,
        detector=model.detector.config(),
        statistics=list(model.statistics),
        classifier=_Classifier(
            count=len(model.classifiers),
            num_layers=model.reduction.num_layers,
            dim=model.reduction.dim,
            head=first.kind,
            hidden=first.hidden,
            layers=model.reduction.layers,
        ),
        temperature=model.temperature,
        trained_on=list(model.trained_on),
    )
    (folder / CONFIG).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / CARD).write_text(model.card, encoding="utf-8")


def _as_others_are(folder: Path) -> None:
    """Give a temporary folder and its files the rights that new ones usually get."""
    mask = os.umask(0)
    os.umask(mask)
    for path in [folder, *folder.rglob("*")]:
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)


def _rebuilt(config: _Config, tensors: dict[str, Tensor]) -> tuple[Reduction, tuple[PooledClassifier, ...]]:
    """Build what the weights belong to.

    Nothing is allocated by what the config says: a stranger's sizes could ask for all memory. The modules are
    built without memory and take over the tensors of the file.
    """
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32 or not tensor.isfinite().all():
            raise ValueError(f"{name} must hold finite float32 numbers")
    shape, left = config.classifier, dict(tensors)
    mean, scale = left.pop("reduction.mean"), left.pop("reduction.scale")
    reduction = Reduction(mean, scale, left.pop("reduction.basis", None), shape.layers)
    if mean.dim() != 2 or scale.shape != mean.shape or not (scale > 0).all():
        raise ValueError("reduction.mean and reduction.scale must be (layers, features), scale above 0")
    width = mean.shape[1] if shape.layers == "mix" else mean.numel()
    if reduction.basis is not None and (reduction.basis.dim() != 2 or len(reduction.basis) != width):
        raise ValueError(f"reduction.basis must be ({width}, components)")
    if (reduction.num_layers, reduction.dim) != (shape.num_layers, shape.dim):
        raise ValueError(
            f"the reduction gives (layers, features) = {(reduction.num_layers, reduction.dim)}, "
            f"the classifier takes {(shape.num_layers, shape.dim)}"
        )
    classifiers = []
    for i in range(shape.count):
        prefix = f"classifiers.{i}."
        state = {k.removeprefix(prefix): left.pop(k) for k in list(left) if k.startswith(prefix)}
        with torch.device("meta"):
            classifier = PooledClassifier(
                shape.num_layers, shape.dim, len(config.labels), head=shape.head, hidden=shape.hidden
            )
        classifier.load_state_dict(state, assign=True)
        classifiers.append(classifier.eval())
    if left:
        raise ValueError(f"nobody knows {', '.join(sorted(left))}")
    return reduction, tuple(classifiers)


def _upstream_folder(folder: Path) -> Path | None:
    inside = folder / UPSTREAM
    return inside if inside.is_dir() else None


def _read_config(folder: Path) -> _Config:
    path = folder / CONFIG
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise BundleError(f"{path}: is over {MAX_CONFIG_BYTES} bytes, which no bundle's config is")
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(
            f"{folder}: holds no {CONFIG}, so it is no bundle; name a folder that Subtone saved"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path}: cannot be read: {error}; get the bundle from its author again") from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if isinstance(version, int) and version > SCHEMA:
        raise BundleError(
            f"{path}: schema version {version} is newer than this Subtone knows ({SCHEMA}); upgrade with "
            "pip install -U subtone"
        )
    try:
        config = _Config.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole file"
        raise BundleError(f"{path}: {where}: {first['msg']}; get the bundle from its author again") from error
    if len(set(config.labels)) < len(config.labels):
        raise BundleError(f"{path}: labels: one stands there twice; get the bundle from its author again")
    if "fingerprint" not in config.upstream:
        raise BundleError(
            f"{path}: upstream: has no fingerprint, so any upstream of that name would pass for it; get the bundle "
            "from its author again"
        )
    for name in config.statistics:
        if name not in STATISTICS:
            raise BundleError(f"{path}: statistics: {name!r} is not known; {nearest(name, STATISTICS)}")
    return config


def _read_weights(folder: Path) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    try:
        # Copied, because tensors lie in a file wherever it suits, and unaligned ones round another way.
        return {name: tensor.clone() for name, tensor in load_file(path).items()}
    except FileNotFoundError:
        raise BundleError(f"{folder}: holds no {WEIGHTS}; get the bundle from its author again") from None
    except (OSError, SafetensorError) as error:
        raise BundleError(f"{path}: is damaged: {error}; get the bundle from its author again") from error
