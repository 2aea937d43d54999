"""Find a recipe, apply ``key=value`` overrides, and check it against the schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from pydantic import BaseModel, ValidationError

from subtone.errors import RecipeError, SubtoneError, nearest
from subtone.recipes.paper_tables.schema import KIND, PaperTables
from subtone.recipes.schema import Recipe

#: A recipe is a page of text.
MAX_BYTES = 1_000_000
#: Sections of systems by name.
_SYSTEMS = ("systems", "networks", "svms", "cnns")


def names() -> tuple[str, ...]:
    """Return the recipes that come with Subtone."""
    return tuple(sorted(p.name.removesuffix(".yaml") for p in _home().iterdir() if p.name.endswith(".yaml")))


def describe(name: str) -> str:
    """Return a recipe's title and paper in one line."""
    recipe = load_any(name)
    return f"{recipe.title} ({recipe.paper})" if recipe.paper else recipe.title


def show(name_or_path: str | Path, overrides: Sequence[str] = ()) -> str:
    """Return a recipe as YAML with every setting spelled out; :func:`load` reads it back."""
    return dump(load_any(name_or_path, overrides))


def dump(recipe: Recipe | PaperTables) -> str:
    """Return a recipe as YAML, without sections that mean nothing in it."""
    idle = set(recipe.idle_sections) if isinstance(recipe, Recipe) else None
    text: str = yaml.safe_dump(
        recipe.model_dump(mode="json", exclude=idle), sort_keys=False, allow_unicode=True
    )
    return text


def load(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Load the recipe of systems.

    Raises
    ------
    RecipeError
        See :func:`load_any`; also for a recipe that has no systems of its own but runs others.
    """
    recipe = load_any(name_or_path, overrides)
    if isinstance(recipe, PaperTables):
        raise RecipeError(
            f"recipe {recipe.name!r} runs other recipes and has no system of its own; name one of those: "
            f"{', '.join(dict.fromkeys(member.recipe for member in recipe.members.values()))}"
        )
    return recipe


def load_any(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe | PaperTables:
    """Load a recipe of any kind: systems, or the tables of papers, which ``kind`` tells.

    Parameters
    ----------
    name_or_path : str or Path
        A name of :func:`names`, or a YAML file.
    overrides : sequence of str
        ``"training.steps=400"``, ``"systems.sap.form=segment"``; values are YAML. They win over the file. A system that
        is set to null is taken away, with its comparisons.

    Returns
    -------
    Recipe or PaperTables

    Raises
    ------
    RecipeError
        For an unknown recipe or key (its nearest neighbour is named) or a value that does not fit.
    """
    where, text = _read(name_or_path)
    try:
        raw = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise RecipeError(f"{where}: is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise RecipeError(f"{where}: a recipe is a mapping of settings; see 'subtone recipe show sap'")
    for override in overrides:
        _override(raw, override)
    _check_split(raw, overrides)
    kind: type[Recipe] | type[PaperTables] = PaperTables if raw.get("kind") == KIND else Recipe
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(f"{where}: {_explained(error, kind)}") from error
    except SubtoneError as error:
        raise RecipeError(f"{where}: {error}") from error


def _home() -> Any:
    return files("subtone.recipes") / "library"


def _read(name_or_path: str | Path) -> tuple[str, str]:
    name = str(name_or_path)
    if name in names():
        return f"recipe {name!r}", (_home() / f"{name}.yaml").read_text(encoding="utf-8")
    path = Path(name)
    if not path.is_file():
        raise RecipeError(f"recipe {name!r} is neither a file nor one of Subtone's; {nearest(name, names())}")
    if path.stat().st_size > MAX_BYTES:
        raise RecipeError(f"{path}: is over {MAX_BYTES} bytes, which no recipe is")
    try:
        return str(path), path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from error


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {override!r}: write KEY=VALUE, e.g. training.steps=400")
    try:
        parsed = yaml.safe_load(value)
    except (yaml.YAMLError, RecursionError) as error:
        raise RecipeError(
            f"--set {override!r}: the value is no YAML: {' '.join(str(error).split())}"
        ) from error
    *path, last = key.strip().split(".")
    _check_named(raw, override, path)
    if parsed is None and len(path) == 1 and path[0] in _SYSTEMS:
        _drop(raw, override, path[0], last)
        return
    at: dict[str, Any] = raw
    for step in path:
        inner = at.setdefault(step, {})
        if step == "aggregator" and isinstance(inner, str):  # by its name alone, which is short for
            inner = at[step] = {"name": inner}
        if not isinstance(inner, dict):
            raise RecipeError(f"--set {override!r}: {step!r} is a value, not a section")
        at[step] = dict(inner)  # YAML's anchors let several sections be one and the same mapping
        at = at[step]
    at[last] = parsed
    asked = {last: parsed} if path == ["protocol"] else parsed if (path, last) == ([], "protocol") else None
    if isinstance(asked, dict):
        # What is asked for holds for every corpus, also one with a protocol of its own; and for every split, but for
        # what a split is called by.
        for section, kept in (("protocols", ()), ("splits", ("folds", "dev", "lists"))):
            for own in (raw.get(section) or {}).values() if isinstance(raw.get(section), dict) else ():
                if isinstance(own, dict):
                    own.update({key: value for key, value in asked.items() if key not in kept})


def _drop(raw: dict[str, Any], override: str, section: str, name: str) -> None:
    """Take a system out of a recipe, and the comparisons that it is part of."""
    there = raw.get(section)
    if not isinstance(there, dict) or name not in there:
        raise RecipeError(f"--set {override!r}: nothing to take away; {nearest(name, there or ())}")
    raw[section] = {key: value for key, value in there.items() if key != name}
    pairs = raw.get("compare")
    if isinstance(pairs, list):
        raw["compare"] = [pair for pair in pairs if not (isinstance(pair, list) and name in pair)]


def _check_split(raw: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Refuse a split by name together with what would make another of it."""
    if raw.get("split") is None:
        return
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key in ("protocol", "protocol.folds", "protocol.dev", "protocol.lists"):
            raise RecipeError(
                f"--set {override!r}: split {raw['split']!r} says how clips are divided; set "
                f"splits.{raw['split']}.folds or .dev, or leave 'split' away"
            )


def _check_named(raw: Mapping[str, Any], override: str, path: Sequence[str]) -> None:
    """Refuse a setting of a system or network that is not there: a slip of the pen would add one."""
    if len(path) < 2 or path[0] not in (*_SYSTEMS, "splits"):
        return
    there = raw.get(path[0])
    if isinstance(there, dict) and path[1] not in there:
        raise RecipeError(
            f"--set {override!r}: no {path[0].removesuffix('s')} {path[1]!r}; {nearest(path[1], there)}; to add one, "
            f"give it whole: --set '{path[0]}.{path[1]}={{…}}'"
        )


def _explained(error: ValidationError, kind: type[BaseModel]) -> str:
    """One line a mistake: where it is, what is wrong, and for an unknown key its nearest neighbour."""
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            *parents, key = problem["loc"]
            lines.append(f"unknown key '{where}'; {nearest(str(key), _keys(kind, parents))}")
        elif problem["type"] == "missing":
            lines.append(f"'{where}' is missing")
        elif problem["type"] == "tuple_type":
            lines.append(f"'{where}': must be a list, e.g. [{problem['input']}]")
        elif problem["type"] in ("dataclass_type", "model_type"):
            lines.append(
                f"'{where}': must be a section of settings, e.g. {{key: value}}, got {problem['input']!r}"
            )
        else:
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"'{where}': {message}" if where else message)
    return "; ".join(lines)


def _keys(kind: type[BaseModel], parents: Sequence[Any]) -> Sequence[str]:
    """Return the keys that a kind of recipe knows below ``parents``."""
    at: Any = kind
    for part in parents:
        inner = _fields(at).get(str(part))
        if inner is None:
            continue  # the user's own name in a mapping of sections: its section is `at` already
        at = inner
        if getattr(at, "__origin__", None) in (dict, Mapping):
            at = get_args(at)[1]
        at = next((kind for kind in get_args(at) if _fields(kind)), at)  # a section or none
    return list(_fields(at))


def _fields(section: Any) -> Mapping[str, Any]:
    """Return the keys of a section and what each holds: a model of the schema, or options as they are."""
    if isinstance(section, type) and issubclass(section, BaseModel):
        return {name: field.annotation for name, field in section.model_fields.items()}
    if isinstance(section, type) and is_dataclass(section):
        return get_type_hints(section)
    return {}
