"""What each gradient method can be told, and the method made from it; shared by parsing, images and graphs."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from parser_vae.errors import ConfigError
from parser_vae.methods import METHODS, Method
from parser_vae.methods.baselines import BaselineKind
from parser_vae.methods.importance import Proposal, Weights
from parser_vae.methods.relax import Control
from parser_vae.methods.score_function import Distribution
from parser_vae.methods.shaping import Shaping
from parser_vae.training.config import Settings


class NesSettings(Settings):
    """Natural evolution strategies."""

    population: int = Field(400, ge=2, description="evaluations an update, half of them mirrored")
    sigma: float = Field(0.03, gt=0, description="standard deviation of the parameter noise")
    shaping: Shaping = Field("zscore", description="fitness to utility: zscore, rank or raw")
    score_samples: int = Field(1, ge=0, description="Gumbel draws on the scores, shared by the population; 0: none")


class ScoreFunctionSettings(Settings):
    """The score function (REINFORCE)."""

    distribution: Distribution = Field(
        "gibbs", description="sampled: gibbs, exp(score)/Z; perturbation, noisy searches"
    )
    samples: int = Field(4, ge=1, description="objects drawn for each item")
    baseline: BaselineKind = Field(
        "leave_one_out", description="of the losses: none, batch, leave_one_out, ema, learned or nvil"
    )
    hidden: int = Field(100, ge=1, description="hidden units of a learned baseline")


class ImportanceSettings(Settings):
    """Importance sampling."""

    samples: int = Field(4, ge=1, description="objects drawn for each item")
    proposal: Proposal = Field("mixture", description="drawn from: same, tempered, mixture (with uniform) or uniform")
    temperature: float = Field(2.0, gt=0, description="of tempered: divides the scores")
    share: float = Field(0.1, gt=0, lt=1, description="of the uniform distribution in mixture")
    weights: Weights = Field("plain", description="plain (unbiased) or self_normalised")
    baseline: BaselineKind = Field(
        "leave_one_out", description="of the losses: none, batch, leave_one_out, ema, learned or nvil"
    )
    hidden: int = Field(100, ge=1, description="hidden units of a learned baseline")


class RebarSettings(Settings):
    """REBAR."""

    temperature: float = Field(0.5, gt=0, description="first temperature of the relaxation; learned")
    strength: float = Field(1.0, description="first weight of the control variate (eta); learned")


class RelaxSettings(RebarSettings):
    """RELAX."""

    control_variate: Control = Field("relaxation_and_network", description="relaxation_and_network, or network alone")
    hidden: int = Field(100, ge=1, description="hidden units of the network")


class ArmSettings(Settings):
    """ARM."""

    samples: int = Field(1, ge=1, description="uniform draws for each item, two evaluations each")


class MethodSections(Settings):
    """One section per method, named like it; only the chosen method's is read."""

    nes: NesSettings = Field(default_factory=lambda: NesSettings.model_validate({}))
    score_function: ScoreFunctionSettings = Field(default_factory=lambda: ScoreFunctionSettings.model_validate({}))
    importance: ImportanceSettings = Field(default_factory=lambda: ImportanceSettings.model_validate({}))
    rebar: RebarSettings = Field(default_factory=lambda: RebarSettings.model_validate({}))
    relax: RelaxSettings = Field(default_factory=lambda: RelaxSettings.model_validate({}))
    arm: ArmSettings = Field(default_factory=lambda: ArmSettings.model_validate({}))


def build_method(name: str, sections: MethodSections, **more: Any) -> Method[Any]:
    """Return the method of that name with its section's settings, and ``more`` that is not the user's to choose.

    Raises:
        ConfigError: There is no such method.
    """
    if name not in METHODS:
        known = ", ".join(METHODS)
        raise ConfigError(f"method '{name}' is unknown; parser-vae methods lists them: {known}")
    return METHODS[name](**getattr(sections, name).model_dump(), **more)
