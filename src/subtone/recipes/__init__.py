"""Recipes: whole systems, from a corpus folder to a result folder, as data."""

from __future__ import annotations

from subtone.recipes.load import describe, load, names, show
from subtone.recipes.run import run, work_folder
from subtone.recipes.schema import Recipe

__all__ = ["Recipe", "describe", "load", "names", "run", "show", "work_folder"]
