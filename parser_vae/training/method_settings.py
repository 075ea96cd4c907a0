"""What each gradient method can be told, and the method made from it; shared by parsing, images and graphs."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from parser_vae.errors import ConfigError
from parser_vae.methods import METHODS, Method
from parser_vae.methods.shaping import Shaping
from parser_vae.training.config import Settings


class NesSettings(Settings):
    """Natural evolution strategies."""

    population: int = Field(400, ge=2, description="evaluations an update, half of them mirrored")
    sigma: float = Field(0.03, gt=0, description="standard deviation of the parameter noise")
    shaping: Shaping = Field("zscore", description="fitness to utility: zscore, rank or raw")
    score_samples: int = Field(1, ge=0, description="Gumbel draws on the scores, shared by the population; 0: none")


class MethodSections(Settings):
    """One section per method that can be told something, named like it; only the chosen method's is read."""

    nes: NesSettings = Field(default_factory=lambda: NesSettings.model_validate({}))


def build_method(name: str, sections: MethodSections, **more: Any) -> Method[Any]:
    """Return the method of that name with its section's settings, and ``more`` that is not the user's to choose.

    Raises:
        ConfigError: There is no such method.
    """
    if name not in METHODS:
        known = ", ".join(METHODS)
        raise ConfigError(f"method '{name}' is unknown; parser-vae methods lists them: {known}")
    section = getattr(sections, name, None)
    return METHODS[name](**({} if section is None else section.model_dump()), **more)
