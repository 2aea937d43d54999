"""Recipes: whole systems, from a corpus folder to a result folder, as data."""

from __future__ import annotations

from subtone.recipes.load import describe, load, load_any, names, show
from subtone.recipes.paper_tables.schema import PaperTables
from subtone.recipes.run import run, work_folder
from subtone.recipes.schema import Recipe

__all__ = ["PaperTables", "Recipe", "describe", "load", "load_any", "names", "run", "show", "work_folder"]
