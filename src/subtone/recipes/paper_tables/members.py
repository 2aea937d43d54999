"""Which recipes are run for some tables on some corpora, with what settings, and what is there of them already."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from subtone import corpora as corpora_room
from subtone.errors import UsageError
from subtone.files import write_whole
from subtone.recipes.load import dump, load
from subtone.recipes.paper_tables.differences import is_model
from subtone.recipes.paper_tables.published import PublishedTable, paper
from subtone.recipes.paper_tables.schema import EVERY, MemberSection, PaperTables
from subtone.recipes.schema import Recipe

#: Below the tables' folder.
RUNS = "runs"
_HUBERT = ("*hubert*",)


@dataclass(frozen=True)
class MemberRun:
    """One member on one corpus.

    Parameters
    ----------
    member, corpus, path
        Which, as given.
    recipe, overrides
        The recipe with all settings, and those settings that made it so, to be handed to :func:`subtone.recipes.run`.
    shortened
        Those among the overrides by which effort ``quick`` shortens it.
    """

    member: str
    corpus: str
    path: Path
    recipe: Recipe
    overrides: tuple[str, ...]
    shortened: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of its folder below :data:`RUNS`."""
        return f"{self.member}-{self.corpus}"


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Parameters
    ----------
    runs
        In order.
    absent
        Member that rows ask for and that is not run → why.
    """

    runs: tuple[MemberRun, ...]
    absent: Mapping[str, str]


def tables_for(tables: PaperTables, corpus: str) -> list[tuple[str, PublishedTable]]:
    """Return the tables that are made for a corpus, each with the name of its paper."""
    known = corpora_room.get(corpus).name
    return [
        (name, table) for name in tables.papers for table in paper(name).tables if table.applies_to(known)
    ]


def plan(tables: PaperTables, corpora: Mapping[str, str | Path]) -> Plan:
    """Return what has to be run for the tables on these corpora.

    Raises
    ------
    RecipeError
        If a setting does not fit a member's recipe.
    CorpusError
        If a corpus is not known.
    """
    asked = {
        corpus: {member for _, table in tables_for(tables, corpus) for member in table.members}
        for corpus in corpora
    }
    chosen, absent = _chosen(tables)
    recipes = {
        member: _recipe(tables, member, upstream)
        for member, upstream in chosen.items()
        if any(member in members for members in asked.values())
    }
    runs = [
        MemberRun(member, corpus, Path(path), *recipes[member])
        for member in recipes
        for corpus, path in corpora.items()
        if member in asked[corpus]
    ]
    return Plan(tuple(runs), absent)


def _chosen(tables: PaperTables) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Return member → the upstreams it is given (none: its own), and member → why it is not run."""
    given = tuple(tables.upstream or ())
    wav2vec, hubert = _by_kind(given)
    chosen: dict[str, tuple[str, ...]] = {}
    absent: dict[str, str] = {}
    for name, section in tables.members.items():
        if section.upstream == "own":
            chosen[name] = ()
        elif section.upstream == "given":
            chosen[name] = given[:1]
        elif section.upstream == "both":
            if wav2vec and hubert:
                chosen[name] = (wav2vec, hubert)
            else:
                absent[name] = "needs two upstreams (--upstream A --upstream B)"
        else:
            own = wav2vec if section.upstream == "wav2vec" else hubert
            if own or (not given and section.upstream == "wav2vec"):
                chosen[name] = (own,) if own else ()
            else:
                absent[name] = "needs another upstream (--upstream A --upstream B)"
    replaced = {other for name in chosen for other in tables.members[name].instead_of}
    return {name: taken for name, taken in chosen.items() if name not in replaced}, absent


def _by_kind(given: Sequence[str]) -> tuple[str | None, str | None]:
    """Return which upstream stands in the rows of wav2vec 2.0, and which in those of HuBERT.

    >>> _by_kind(["a/hubert-base", "a/wav2vec2-base"]), _by_kind(["a", "b"]), _by_kind(["a/hubert-base"])
    (('a/wav2vec2-base', 'a/hubert-base'), ('a', 'b'), (None, 'a/hubert-base'))
    """
    first = given[0] if given else None
    second = given[1] if len(given) > 1 else None
    if first is not None and is_model(first, _HUBERT) and not (second and is_model(second, _HUBERT)):
        return second, first
    return first, second


def _recipe(
    tables: PaperTables, member: str, upstream: tuple[str, ...]
) -> tuple[Recipe, tuple[str, ...], tuple[str, ...]]:
    section: MemberSection = tables.members[member]
    shortened = tuple(section.quick) if tables.effort == "quick" else ()
    corpus = tables.corpus.model_dump(exclude_defaults=True)
    overrides = [*section.settings, *shortened]
    if upstream:
        overrides.append(_setting("upstream", upstream[0] if len(upstream) == 1 else list(upstream)))
    overrides += _flat(corpus, "corpus")
    overrides += _flat(tables.settings.get(EVERY, {}))
    overrides += _flat(tables.settings.get(member, {}))
    return load(section.recipe, overrides), tuple(overrides), shortened


def _flat(settings: Mapping[str, Any], before: str = "") -> list[str]:
    """Return settings as ``key=value``.

    >>> _flat({"training": {"steps": 3, "learning_rate": 5e-5}, "seeds": [0]})
    ['training.steps=3', 'training.learning_rate=5.0e-05', 'seeds=[0]']
    """
    flat: list[str] = []
    for key, value in settings.items():
        path = f"{before}.{key}" if before else str(key)
        if isinstance(value, Mapping) and value:
            flat += _flat(value, path)
        else:
            flat.append(_setting(path, value))
    return flat


def _setting(key: str, value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return f"{key}={text.removesuffix('...' + chr(10)).strip()}"


@dataclass(frozen=True)
class Claim:
    """Which run a folder below :data:`RUNS` is of: a file beside it, which a killed run leaves too.

    Parameters
    ----------
    path
        The file.
    """

    path: Path

    def write(self, recipe: Recipe, clips: str) -> None:
        """Make the folder that of a recipe with its settings on clips of a checksum."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, json.dumps({"clips": clips, "recipe": dump(recipe)}, indent=2).encode())
        except OSError as error:
            raise UsageError(
                f"{self.path}: cannot be written ({error.strerror or error}); make room"
            ) from None

    def differences(self, recipe: Recipe, clips: str) -> list[str] | None:
        """Return in what a run that is there differs, by name; None when there is none.

        Raises
        ------
        UsageError
            If the file cannot be read.
        """
        if not self.path.exists():
            return None
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            before = yaml.safe_load(found["recipe"])
            told = ["choice of clips"] if found["clips"] != clips else []
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
            raise UsageError(
                f"{self.path}: is damaged ({error}); delete it and the folder beside it"
            ) from None
        return told + list(_changed(before, yaml.safe_load(dump(recipe))))


def _changed(before: Any, now: Any, at: str = "") -> Iterable[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            yield from _changed(before.get(key), now.get(key), f"{at}.{key}" if at else str(key))
    elif before != now:
        yield at or "recipe"
