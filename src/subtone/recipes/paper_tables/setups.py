"""How a figure of ours was got, read off the finished run that it is from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subtone.evaluation import Evaluation
from subtone.protocols import Protocol
from subtone.recipes.paper_tables.differences import AND, Setup, Tuned
from subtone.recipes.schema import Recipe
from subtone.recipes.systems import SvmSection
from subtone.training.segments.system import SegmentSystem

_LAYERS = {"concat": "all, side by side", "mix": "a learned mix of all", "last": "the last"}
#: What is said of a figure that was trained for a shorter time than its recipe says.
QUICK = "QUICK EFFORT, trained far too short"
_BETWEEN = "\n"  # between upstreams, until each is called by its name
_FUNCTIONALS = {"egemaps": "openSMILE's eGeMAPSv02", "compare": "openSMILE's ComParE 2016"}


def setup_of(
    record: Mapping[str, Any],
    recipe: Recipe,
    system: str,
    evaluation: Evaluation,
    *,
    shortened: bool = False,
) -> Setup:
    """Return how a system of a finished run was got.

    Parameters
    ----------
    record
        The run's ``metrics.json``.
    recipe
        As it was run.
    system, evaluation
        Which, and what it scored.
    shortened
        Whether it was trained for a shorter time than its recipe says.
    """
    protocol = Protocol.from_dict(record["protocol"])
    features = _features(record, recipe, system)
    remarks = [QUICK] if shortened else []
    remarks += _taught(record, protocol, recipe, features["upstream"])
    features["upstream"] = AND.join(map(called, features["upstream"].split(_BETWEEN)))
    return Setup(
        corpus=protocol.corpus,
        classes=protocol.classes,
        clips=evaluation.n,
        speakers=protocol.speakers,
        folds=protocol.folds,
        num_folds=protocol.num_folds,
        dev=protocol.dev,
        dev_share=protocol.dev_share,
        speaker_dependent=protocol.speaker_dependent,
        remarks=tuple(remarks),
        **features,
    )


def called(upstream: str) -> str:
    """Return what an upstream is called on a page: of a folder of yours the last part alone."""
    path = Path(upstream).expanduser()
    return path.resolve().name if path.is_dir() else upstream


def _taught(record: Mapping[str, Any], protocol: Protocol, recipe: Recipe, upstream: str) -> list[str]:
    """Return what the run's protocol says of upstreams that had been taught emotions, if the system stands on them."""
    more = str(record["protocol"]["description"]).removeprefix(protocol.describe())
    told = [part.strip() for part in more.split(";") if "taught" in part]
    images = [one.images.weights for one in recipe.cnns.values() if one.images is not None]
    absent = [name for name in (*recipe.upstreams, *images) if name not in upstream]
    return [sentence for sentence in told if not any(sentence.startswith(f"{name} ") for name in absent)]


def _features(record: Mapping[str, Any], recipe: Recipe, system: str) -> dict[str, Any]:
    """Return what is told of the upstream."""
    if recipe.finetuning is not None:
        return _finetuned(record, recipe, system)
    if recipe.pretraining is not None:
        return _pretrained(record, recipe)
    if system in recipe.svms:
        return _machine(recipe, recipe.svms[system])
    if system in recipe.cnns:
        return _cnn(recipe, recipe.cnns[system])
    return _frozen(recipe, _LAYERS[recipe.training.layers])


def _frozen(recipe: Recipe, layers: str) -> dict[str, Any]:
    tuned: Tuned = "frozen"
    return {"upstream": _BETWEEN.join(recipe.upstreams), "tuned": tuned, "layers": layers}


def _machine(recipe: Recipe, section: SvmSection) -> dict[str, Any]:
    if section.functionals is not None:
        return {"upstream": _FUNCTIONALS[section.functionals]}
    return _frozen(recipe, _LAYERS["concat"])


def _cnn(recipe: Recipe, section: SegmentSystem) -> dict[str, Any]:
    if section.images is not None:
        return {"upstream": f"{section.images.weights} on {recipe.upstream}", "tuned": "fine-tuned"}
    layer = "a learned mix of all" if section.layer is None else f"layer {section.layer}"
    return _frozen(recipe, "the last" if section.layer == -1 else layer)


def _finetuned(record: Mapping[str, Any], recipe: Recipe, system: str) -> dict[str, Any]:
    assert recipe.finetuning is not None
    names = [recipe.upstreams[number] for number in recipe.upstreams_of(system)]
    # Folds name what they have fine-tuned; filter banks, for one, have nothing to tune.
    tuned_names = {name for fold in record["finetuning"].values() for name in fold["upstreams"]}
    moved = recipe.networks[system].weights != "frozen" and any(name in tuned_names for name in names)
    tuned: Tuned = "fine-tuned" if moved else "frozen"
    return {"upstream": _BETWEEN.join(names), "tuned": tuned, "layers": _LAYERS[recipe.finetuning.layers]}


def _pretrained(record: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    plan = recipe.pretraining
    assert plan is not None
    (first, *_) = plan.variants
    told = record["pretraining"]
    size = "the paper's" if plan.size == "paper" else plan.size
    return {
        "upstream": plan.architecture,
        "tuned": "frozen",
        "layers": _LAYERS[recipe.training.layers],
        "size": size,
        "pretrained_on": f"{told['hours']:.1f} h of the corpus itself" + (" and more" if plan.audio else ""),
        "pretraining_steps": plan.options(first, plan.seed).steps,
    }
