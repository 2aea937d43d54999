"""What all sections of a recipe have in common: plain data, where an unknown key is an error."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

#: What both generators of random numbers take.
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """A section of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)
