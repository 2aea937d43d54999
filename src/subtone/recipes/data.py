"""The clips of a run: corpora read and joined, divided as the recipe says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from subtone import corpora as corpora_room
from subtone import protocols
from subtone.corpora.emobox import read_folds
from subtone.corpora.several import read_several
from subtone.errors import RecipeError, nearest
from subtone.protocols import Split
from subtone.recipes.schema import CorpusSection, ProtocolSection, Recipe

#: Column that remembers a clip's position among the clips that were extracted.
POSITION = "position"
#: Among a table's ``attrs``: emotion → clips that were left out because the recipe does not ask for it.
NOT_ASKED_FOR = "not_asked_for"


def section_for(recipe: Recipe, corpora: Mapping[str, str | Path]) -> CorpusSection:
    """Return the corpus section that holds for a run: the corpus's own if the recipe has one, else the general.

    Settings of ``corpus`` that differ from the defaults win, so that ``--set corpus.classes=[…]`` always holds;
    reader options are joined, so that ``--skip-missing`` takes none of the corpus's own away.
    """
    known = {corpora_room.get(name).name: section for name, section in recipe.corpora.items()}
    own = [known[name] for name in (corpora_room.get(given).name for given in corpora) if name in known]
    if len(own) != 1 or len(corpora) != 1:
        return recipe.corpus
    wins = recipe.corpus.model_dump(exclude_defaults=True)
    wins["options"] = {**own[0].options, **recipe.corpus.options}
    return own[0].model_copy(update=wins)


def protocol_for(recipe: Recipe, corpora: Mapping[str, str | Path]) -> ProtocolSection:
    """Return how a run's clips are divided: as ``split`` names, or the corpus's own way, or the general."""
    if recipe.split is not None:
        return recipe.splits[recipe.split]
    known = {corpora_room.get(name).name: section for name, section in recipe.protocols.items()}
    own = [known[name] for name in (corpora_room.get(given).name for given in corpora) if name in known]
    return own[0] if len(own) == 1 and len(corpora) == 1 else recipe.protocol


def read_corpora(recipe: Recipe, corpora: Mapping[str, str | Path]) -> pd.DataFrame:
    """Read and join corpora, and keep the clips whose emotion the run is about.

    Raises
    ------
    CorpusError
        If a corpus cannot be read.
    RecipeError
        If no clip is left.
    """
    section = section_for(recipe, corpora)
    table = read_several(corpora, **section.options)
    there = {str(emotion) for emotion in table["emotion"].dropna()}
    for label in section.classes or ():
        if label not in there and label not in section.merges.values():
            raise RecipeError(f"classes: the corpus has no emotion {label!r}; {nearest(label, there)}")
    wanted = table["emotion"].notna()
    if section.classes is not None:
        wanted &= table["emotion"].isin([*section.classes, *section.merges]).fillna(False)
    if not wanted.any():
        had = ", ".join(sorted(table["emotion"].dropna().unique())) or "no emotions"
        asked = ", ".join(section.classes or ())
        raise RecipeError(
            f"no clip is left: the recipe asks for {asked or 'any emotion'}, the corpus has {had}"
        )
    used = table[wanted.to_numpy(bool)]
    counts = table.loc[~wanted.to_numpy(bool), "emotion"].dropna().value_counts()
    used.attrs[NOT_ASKED_FOR] = {str(name): int(count) for name, count in counts.items()}
    return used


def divide(recipe: Recipe, corpora: Mapping[str, str | Path], table: pd.DataFrame) -> Split:
    """Divide a table as the recipe says.

    Returns
    -------
    Split
        Its table has a column ``position``: the row of ``table`` that a clip was.

    Raises
    ------
    ProtocolError
        If the corpus does not allow the protocol, or the folds leak.
    """
    section, plan = section_for(recipe, corpora), protocol_for(recipe, corpora)
    lists = None
    if plan.lists is not None:
        lists = read_folds(plan.lists, table=table)
    return protocols.build(
        table.assign(**{POSITION: np.arange(len(table))}),
        plan.folds,
        k=plan.k,
        classes=section.classes,
        merges=section.merges,
        dev=plan.dev,
        dev_share=plan.dev_share,
        seed=plan.seed,
        leaks=plan.leaks,
        lists=lists,
    )


def positions(split: Split) -> npt.NDArray[np.int64]:
    """Return, for each clip of a split, the row of the table that was divided."""
    return split.table[POSITION].to_numpy(np.int64)


def targets(split: Split) -> npt.NDArray[np.int64]:
    """Return the class number of each clip of a split."""
    number = {label: i for i, label in enumerate(split.protocol.classes)}
    return np.array([number[str(emotion)] for emotion in split.table["emotion"]], np.int64)
