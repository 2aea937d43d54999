"""Studies by name: list them, and run one into a folder that answers its question."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from subtone.errors import RecipeError, UsageError, nearest
from subtone.evaluation import describe_environment
from subtone.evaluation.findings import read_findings
from subtone.evaluation.findings_page import refuse_if_no_study, write_findings
from subtone.studies import cost, cross_corpus, detectors, dilution, layers, robustness
from subtone.studies.context import Context, Study
from subtone.studies.options import StudyOptions
from subtone.studies.pool import OnProgress

STUDIES: dict[str, Study] = {
    one.name: one
    for one in (
        dilution.STUDY,
        detectors.STUDY,
        robustness.STUDY,
        layers.STUDY,
        cross_corpus.STUDY,
        cost.STUDY,
    )
}


def names() -> list[str]:
    """Names of the studies."""
    return list(STUDIES)


def get(name: str) -> Study:
    """Return a study by name.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    if name not in STUDIES:
        raise UsageError(f"no study {name!r}; {nearest(name, STUDIES)}")
    return STUDIES[name]


def show(name: str) -> str:
    """Return the settings of a study and their values, as YAML, each behind what it means.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    options = get(name).options()
    meanings = _meanings(type(options))
    parts = []
    for field, value in options.model_dump(mode="json").items():
        comment = textwrap.fill(meanings.get(field, ""), 100, initial_indent="# ", subsequent_indent="# ")
        parts.append(f"{comment}\n{yaml.safe_dump({field: value}, sort_keys=False, allow_unicode=True)}")
    return "\n".join(parts)


def _meanings(options: type[StudyOptions]) -> dict[str, str]:
    """Return setting → what its class says of it."""
    found: dict[str, str] = {}
    for kind in options.__mro__:
        names: list[str] = []
        _, _, parameters = inspect.cleandoc(kind.__dict__.get("__doc__") or "").partition(
            "Parameters\n----------\n"
        )
        for line in parameters.splitlines():
            if line and not line.startswith(" "):
                names = [name.strip() for name in line.split(",")]
            for name in names if line.startswith(" ") else ():
                found[name] = " ".join([found[name], line.strip()] if name in found else [line.strip()])
    plain = {name: re.sub(r":\w+:`[~!]?([^`]*)`|`+([^`]*)`+", r"\1\2", text) for name, text in found.items()}
    return plain


def conclusions(folder: str | Path) -> tuple[str, ...]:
    """Return the sentences that a study ended in; `UsageError` if the folder holds none."""
    return read_findings(folder).conclusions


def run(
    name: str,
    corpora: Mapping[str, str | Path],
    *,
    out: str | Path,
    upstream: str = "subtone-mini:speech",
    settings: Sequence[str] = (),
    jobs: int | None = None,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> tuple[Path, tuple[tuple[str, str], ...]]:
    """Run a study and write its folder.

    Parameters
    ----------
    name
        Of the study; see `names`.
    corpora
        Corpus → your copy of it.
    out
        Folder of what is found; must be new or empty. Cells lie in a folder beside it, named as it with ``.work``
        added, so that the same call goes on after a kill.
    upstream
        Name or folder.
    settings
        ``key=value``, of the study's options.
    jobs
        Processes side by side, one thread each; None for one a core.
    overwrite
        Replace earlier findings.
    on_progress
        Told what is being done, with the time remaining in words.

    Returns
    -------
    Path, tuple of (str, str)
        The folder, and what could not be used, with the reason.

    Raises
    ------
    SubtoneError
        If anything does not fit; nothing half written stays.
    """
    study = get(name)
    options = read_options(study, settings)
    refuse_if_no_study(out, overwrite=overwrite)
    target = Path(out)
    work = target.with_name(target.name + ".work")
    context = Context(corpora, upstream, options, work, jobs, on_progress or _silent)
    made = study.make(context)
    environment = describe_environment(seeds=options.seeds, device="cpu")
    folder = write_findings(target, made.findings, environment=environment, overwrite=overwrite)
    return folder, made.failed


def read_options(study: Study, settings: Sequence[str]) -> StudyOptions:
    """Read ``key=value`` settings; values are YAML, dots lead into sections.

    Raises
    ------
    UsageError
        If one is no pair, unknown or out of range.

    Examples
    --------
    >>> read_options(get("dilution"), ["every.nemo=4", "classes=[anger, sadness]"]).every
    {'nemo': 4}
    """
    record: dict[str, Any] = {}
    for setting in settings:
        path, sign, text = setting.partition("=")
        if not sign or not path.strip():
            raise UsageError(f"--set {setting}: must be KEY=VALUE, e.g. --set k=10")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UsageError(f"--set {setting}: the value is no YAML; quote it, e.g. --set 'k=10'") from None
        inner = record
        *sections, last = path.strip().split(".")
        for section in sections:
            inner = inner.setdefault(section, {})
            if not isinstance(inner, dict):
                raise UsageError(f"--set {setting}: {section!r} has been given a value of its own")
        inner[last] = value
    known = study.options.model_fields
    for key in record:
        if key not in known:
            raise UsageError(f"--set {key}: study {study.name!r} has no such setting; {nearest(key, known)}")
    try:
        return study.options(**record)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        reason = str(first["msg"]).removeprefix("Value error, ")
        raise UsageError(f"--set {where}: {reason}" if where else f"--set: {reason}") from None
    except RecipeError as error:
        raise UsageError(f"--set: {error}") from None


def _silent(_what: str, _done: float, _total: float) -> None:
    """Tell nobody."""
