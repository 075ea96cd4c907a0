"""What each gradient method can be told, and the method made from it; shared by parsing, images and graphs."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from parser_vae.errors import ConfigError
from parser_vae.methods import METHODS, Method
from parser_vae.methods.nes import Target
from parser_vae.methods.perturbation import SigmaScale
from parser_vae.methods.shaping import Shaping
from parser_vae.training.config import Settings


class NesSettings(Settings):
    """Natural evolution strategies."""

    population: int = Field(400, ge=2, description="evaluations an update, half of them mirrored")
    sigma: float = Field(0.03, gt=0, description="standard deviation of the parameter noise")
    shaping: Shaping = Field("zscore", description="fitness to utility: zscore, rank or raw")
    score_samples: int = Field(1, ge=0, description="Gumbel draws on the scores, shared by the population; 0: none")
    perturb: Target = Field("parameters", description="what gets noise: parameters, pattern (some of them) or scores")
    pattern: list[str] = Field(default_factory=list, description="names of the parameters to perturb, * for any text")
    sigma_scale: SigmaScale = Field("absolute", description="absolute, relative to each tensor, or adapted (learned)")
    rank: int = Field(0, ge=0, description="rank of the noise on matrices; 0: full")
    memory: int = Field(512, ge=1, description="mebibytes that each thread may use for members in work")


class MethodSections(Settings):
    """One section per method, named like it; only the chosen method's is read."""

    nes: NesSettings = Field(default_factory=lambda: NesSettings.model_validate({}))


def build_method(name: str, sections: MethodSections, **more: Any) -> Method[Any]:
    """Return the method of that name with its section's settings, and ``more`` that is not the user's to choose.

    Raises:
        ConfigError: There is no such method.
    """
    if name not in METHODS:
        known = ", ".join(METHODS)
        raise ConfigError(f"method '{name}' is unknown; parser-vae methods lists them: {known}")
    return METHODS[name](**getattr(sections, name).model_dump(), **more)
