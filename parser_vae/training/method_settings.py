"""What each gradient method can be told, and the method made from it; shared by parsing, images and graphs."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field

from parser_vae.errors import ConfigError
from parser_vae.methods import METHODS, Method
from parser_vae.methods.baselines import BaselineKind
from parser_vae.methods.differentiable import Mode, Noise
from parser_vae.methods.direct import Approximation, Difference
from parser_vae.methods.importance import Proposal, Weights
from parser_vae.methods.nes import Target
from parser_vae.methods.perturbation import SigmaScale
from parser_vae.methods.relax import Control
from parser_vae.methods.score_function import Distribution
from parser_vae.methods.shaping import Shaping
from parser_vae.training.config import Settings


class NesSettings(Settings):
    """Natural evolution strategies."""

    population: int = Field(400, ge=2, le=10_000_000, description="evaluations an update, half of them mirrored")
    sigma: float = Field(0.03, gt=0, description="standard deviation of the parameter noise")
    shaping: Shaping = Field("zscore", description="fitness to utility: zscore, rank or raw")
    score_samples: int = Field(1, ge=0, description="Gumbel draws on the scores, shared by the population; 0: none")
    perturb: Target = Field("parameters", description="what gets noise: parameters, pattern (some of them) or scores")
    pattern: list[str] = Field(default_factory=list, description="names of the parameters to perturb, * for any text")
    sigma_scale: SigmaScale = Field("absolute", description="absolute, relative to each tensor, or adapted (learned)")
    rank: int = Field(0, ge=0, description="rank of the noise on matrices; 0: full")
    memory: int = Field(512, ge=1, description="mebibytes that each thread may use for members in work")


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


class EnumerationSettings(Settings):
    """Enumeration of all objects."""

    max_objects: int = Field(65_536, ge=1, description="refuse items (sentences) with more objects (trees) than this")


class DppSettings(Settings):
    """Differentiable perturb-and-parse."""

    relaxation: Literal["expected", "marginals"] = Field(
        "expected", description="smoothing of the search: expected (Corro and Titov, 2019) or marginals"
    )
    mode: Mode = Field("soft", description="what is reconstructed: soft, hard_forward or straight_through")
    temperature: float = Field(1.0, gt=0, description="divides the perturbed scores")
    noise: Noise = Field("gumbel", description="on the scores: gumbel or none")


class SparseMAPSettings(Settings):
    """SparseMAP."""

    max_iter: int = Field(100, ge=1, description="active-set iterations a sentence; the paper's code stops at 10")
    temperature: float = Field(1.0, gt=0, description="divides the perturbed scores")
    noise: Noise = Field("gumbel", description="on the scores: gumbel or none")


class RelaxedSettings(Settings):
    """Marginals of perturbed scores: stochastic softmax tricks, Gumbel-softmax."""

    temperature: float = Field(1.0, gt=0, description="divides the perturbed scores, at the first update")
    floor: float = Field(0.1, gt=0, description="lowest temperature")
    rate: float = Field(0.0, ge=0, description="the temperature falls as exp(-rate * updates); 0 keeps it")
    every: int = Field(500, ge=1, description="updates between two changes of the temperature")
    mode: Mode = Field("soft", description="what is reconstructed: soft, hard_forward or straight_through")
    noise: Noise = Field("gumbel", description="on the scores: gumbel or none")


class PerturbedSettings(Settings):
    """Perturbed optimisers."""

    samples: int = Field(8, ge=2, description="searches a sentence")
    sigma: float = Field(1.0, gt=0, description="scale of the noise on the scores")
    density: Literal["gumbel", "normal"] = Field("gumbel", description="of the noise: gumbel or normal")


class ImplicitMLESettings(Settings):
    """Implicit maximum likelihood."""

    strength: float = Field(10.0, gt=0, description="how far the target's scores move along the loss (lambda)")
    samples: int = Field(1, ge=1, description="draws of the noise a sentence")
    noise: Literal["sum_of_gamma", "gumbel"] = Field("sum_of_gamma", description="on the scores: sum_of_gamma, gumbel")


class DirectSettings(Settings):
    """Direct optimisation."""

    epsilon: float = Field(1.0, gt=0, description="weight of the loss in the second search, at the first update")
    floor: float = Field(0.1, gt=0, description="lowest epsilon")
    rate: float = Field(0.0, ge=0, description="epsilon falls as exp(-rate * updates); 0 keeps it")
    every: int = Field(500, ge=1, description="updates between two changes of epsilon")
    difference: Difference = Field("towards", description="of two searches: towards low losses, away, or symmetric")
    loss: Approximation = Field("auto", description="in the second search: linear, coordinate, enumerate or auto")
    max_objects: int = Field(65_536, ge=1, description="loss = enumerate refuses items with more objects than this")


class EntropySettings(Settings):
    """Entropy minimisation."""

    of: Literal["object", "parts"] = Field("parts", description="the whole tree's distribution, or each word's head's")


class MethodSections(Settings):
    """One section per method that can be told something, named like it; only the chosen method's is read."""

    nes: NesSettings = Field(default_factory=lambda: NesSettings.model_validate({}))
    score_function: ScoreFunctionSettings = Field(default_factory=lambda: ScoreFunctionSettings.model_validate({}))
    importance: ImportanceSettings = Field(default_factory=lambda: ImportanceSettings.model_validate({}))
    rebar: RebarSettings = Field(default_factory=lambda: RebarSettings.model_validate({}))
    relax: RelaxSettings = Field(default_factory=lambda: RelaxSettings.model_validate({}))
    arm: ArmSettings = Field(default_factory=lambda: ArmSettings.model_validate({}))
    enumeration: EnumerationSettings = Field(default_factory=lambda: EnumerationSettings.model_validate({}))
    dpp: DppSettings = Field(default_factory=lambda: DppSettings.model_validate({}))
    sparsemap: SparseMAPSettings = Field(default_factory=lambda: SparseMAPSettings.model_validate({}))
    relaxed: RelaxedSettings = Field(default_factory=lambda: RelaxedSettings.model_validate({}))
    perturbed_optimiser: PerturbedSettings = Field(default_factory=lambda: PerturbedSettings.model_validate({}))
    implicit_mle: ImplicitMLESettings = Field(default_factory=lambda: ImplicitMLESettings.model_validate({}))
    direct: DirectSettings = Field(default_factory=lambda: DirectSettings.model_validate({}))
    entropy: EntropySettings = Field(default_factory=lambda: EntropySettings.model_validate({}))


def build_method(name: str, sections: MethodSections) -> Method[Any]:
    """Return the method of that name with its section's settings; members of NES run on torch's number of threads.

    Raises:
        ConfigError: There is no such method.
    """
    if name not in METHODS:
        known = ", ".join(METHODS)
        raise ConfigError(f"method '{name}' is unknown; parser-vae methods lists them: {known}")
    section = getattr(sections, name, None)
    told = {} if section is None else section.model_dump()
    return METHODS[name](**told, **({"workers": torch.get_num_threads()} if name == "nes" else {}))
