"""What a pretraining and an adaptation can be told; every field's description is its help text."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from parser_vae.parsing.encoder import EncoderSettings
from parser_vae.parsing.model import TreeFamily
from parser_vae.parsing.problem import Divergence
from parser_vae.parsing.tree_decoder import DecoderKind, DecoderSettings
from parser_vae.training.config import Settings
from parser_vae.training.method_settings import MethodSections

Preset = Literal["default", "paper", "paper-official"]


class PretrainData(Settings):
    """The files of a pretraining."""

    train: Path = Field(description="labelled source sentences, CoNLL-U")
    dev: Path | None = Field(
        None, description="labelled sentences to select on; without it a tenth of train is held out"
    )
    vectors: Path | None = Field(None, description="word vectors: fastText .bin, .vec or .vec.gz")
    vector_words: int = Field(50_000, ge=0, description="keep this many of the vectors' most frequent words as well")


class PretrainTraining(Settings):
    """How long and how a parser is trained on the source."""

    epochs: int = Field(30, ge=1, description="passes over the source")
    batch_size: int = Field(8, ge=1, description="sentences a step")
    learning_rate: float = Field(2e-3, gt=0, description="Adam's step size, falling linearly to a twentieth")
    clip: float = Field(5.0, gt=0, description="largest norm of a gradient")
    average: float = Field(0.998, ge=0, lt=1, description="decay of the running average of weights; 0 switches it off")
    decoder_epochs: int = Field(10, ge=0, description="passes in which the decoder is trained as well")
    seed: int = Field(1, ge=0, lt=2**31, description="seed of everything random")


class PretrainSettings(Settings):
    """Everything a pretraining is told."""

    data: PretrainData
    structure: TreeFamily = Field("projective", description="trees without crossing arcs, or any spanning tree")
    encoder: EncoderSettings = Field(default_factory=lambda: EncoderSettings.model_validate({}))
    decoder: DecoderSettings = Field(default_factory=lambda: DecoderSettings.model_validate({}))
    training: PretrainTraining = Field(default_factory=lambda: PretrainTraining.model_validate({}))


class AdaptData(Settings):
    """The files of an adaptation."""

    model: Path = Field(description="folder of the pretrained model")
    target: list[Path] = Field(
        min_length=1, description="raw target sentences: CoNLL-U, or .txt with one sentence a line"
    )
    source: Path | None = Field(None, description="labelled source sentences to mix in, where the method can")
    dev: Path | None = Field(None, description="labelled sentences to select on; default: the model's own dev file")
    test: Path | None = Field(None, description="labelled target sentences, only reported, never selected on")
    target_train: Path | None = Field(None, description="labelled target sentences to learn from, where the method can")
    silver: list[Path] = Field([], description="target sentences with trees by another parser, to learn from")
    teachers: list[Path] = Field(
        [], description="folders of further parsers of the same source, which teach and learn as well"
    )


class Objective(Settings):
    """What an unsupervised method optimises on the target."""

    divergence: Divergence = Field(
        "none",
        description="pull of the tree distribution: none, exact_gibbs, gumbel, paper, "
        "or anchor, towards the parser before adaptation",
    )
    divergence_weight: float = Field(1.0, ge=0, description="what the divergence is multiplied by")
    supervised_weight: float = Field(
        0.0, ge=0, description="weight of the supervised loss on as many source sentences, added to every update"
    )
    decoder: DecoderKind | None = Field(
        None, description="the kind of decoder that the model must have, lm or arcs; default: whichever it has"
    )
    freeze_decoder: bool = Field(True, description="keep the decoder as pretrained")
    single_root: bool = Field(False, description="whether latent trees have one root; predicted trees always do")
    touch: Literal["objective", "all"] = Field(
        "objective", description="all: also perturb the relation scorer and tagger, as the paper's code does"
    )


class SelfTrainingSettings(Settings):
    """Rounds of students that learn from the source and from their teachers' trees of the target."""

    rounds: int = Field(4, ge=1, description="how often new students are taught by the former ones")
    epochs: int = Field(1, ge=1, description="passes of a student over source and target in a round")
    batch_size: int = Field(16, ge=1, description="sentences a step")
    learning_rate: float = Field(
        2e-3, gt=0, description="Adam's step size, falling linearly to a twentieth in each round"
    )
    clip: float = Field(5.0, gt=0, description="largest norm of a gradient")
    average: float = Field(0.998, ge=0, lt=1, description="decay of the running average of weights")
    start: Literal["previous", "base", "scratch"] = Field(
        "previous", description="a student's first weights: its predecessor's in the round before, the source's, or new"
    )
    targets: Literal["trees", "distribution"] = Field(
        "trees", description="what teachers give: the best tree, or the probabilities of all arcs"
    )
    weights: Literal["confidence", "none"] = Field("confidence", description="how much an arc of a silver tree counts")
    silver_weight: float = Field(1.0, gt=0, description="weight of target sentences against source ones")
    source_repeats: int = Field(1, ge=1, description="how often the source is read in a pass")


class DcstSettings(Settings):
    """A student that learns tagging tasks from the target's silver trees, arcs from the source alone."""

    epochs: int = Field(12, ge=1, description="passes of the student over source and target")
    batch_size: int = Field(8, ge=1, description="sentences a step")
    learning_rate: float = Field(2e-3, gt=0, description="Adam's step size, falling linearly to a twentieth")
    clip: float = Field(5.0, gt=0, description="largest norm of a gradient")
    average: float = Field(0.998, ge=0, lt=1, description="decay of the running average of weights")
    weight: float = Field(0.5, gt=0, description="weight of each tagging task against arcs and relations")


class LatentSettings(Settings):
    """A gradient method beside a recipe: it follows ``[objective]`` on raw target sentences."""

    method: str | None = Field(
        None, description="a gradient method, whose gradient is added to every step of a recipe's students"
    )
    weight: float = Field(1.0, gt=0, description="what that gradient is multiplied by")


class AdaptTraining(Settings):
    """How long and how a gradient method adapts; of recipes, the share held out and the seed alone count."""

    epochs: int = Field(10, ge=1, description="passes of a gradient method over the target")
    batch_size: int = Field(128, ge=1, description="sentences an update of a gradient method")
    learning_rate: float = Field(1e-4, gt=0, description="Adam's step size, of a gradient method")
    clip: float = Field(5.0, gt=0, description="largest norm of a gradient, of a gradient method")
    order: Literal["shuffled", "corpus"] = Field("shuffled", description="order of a gradient method's batches")
    held_out: float = Field(
        0.05, ge=0, lt=1, description="share of the target sentences that is watched, and not learnt from"
    )
    keep: Literal["best", "last"] = Field(
        "best",
        description="best: a gradient method's best epoch on the source's dev sentences, and the weights from before "
        "where adapting has likely hurt; or the last weights",
    )
    seconds: float | None = Field(
        None, gt=0, description="stop a gradient method after the update that passes this many seconds"
    )
    seed: int = Field(1, ge=0, lt=2**31, description="seed of everything random")


PRESETS: dict[Preset, dict[str, dict[str, Any]]] = {
    "default": {},
    # Berliner et al. (2022), section 5.2 and appendix D: both terms of the bound, sigma 0.1, N = 400, batch 128
    "paper": {"objective": {"divergence": "paper"}, "nes": {"sigma": 0.1}},
    # what the published code runs: no divergence, every parameter perturbed, ten iterations of SparseMAP, batches in
    # corpus order
    "paper-official": {
        "objective": {"divergence": "none", "touch": "all"},
        "nes": {"sigma": 0.1},
        "sparsemap": {"max_iter": 10},
        "training": {"order": "corpus"},
    },
}


class AdaptSettings(MethodSections):
    """Everything an adaptation is told; a preset fills in what is not given."""

    data: AdaptData
    preset: Preset = Field("default", description="default, paper (as printed) or paper-official (as its code runs)")
    method: str = Field("self-training", description="how to adapt; parser-vae methods lists the ways")
    structure: TreeFamily | None = Field(None, description="family of the latent trees; default: the model's")
    self_training: SelfTrainingSettings = Field(default_factory=lambda: SelfTrainingSettings.model_validate({}))
    dcst: DcstSettings = Field(default_factory=lambda: DcstSettings.model_validate({}))
    latent: LatentSettings = Field(default_factory=lambda: LatentSettings.model_validate({}))
    objective: Objective = Field(default_factory=lambda: Objective.model_validate({}))
    training: AdaptTraining = Field(default_factory=lambda: AdaptTraining.model_validate({}))

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, values: Any) -> Any:
        values = dict(values) if isinstance(values, dict) else values
        preset = values.get("preset", "default") if isinstance(values, dict) else None
        chosen = PRESETS.get(preset, {}) if isinstance(preset, str) else {}  # type: ignore[call-overload]
        for section, given in chosen.items():
            told = values.get(section, {})
            values[section] = given | told if isinstance(told, dict) else told
        if isinstance(values, dict) and values.get("preset", "default") != "default":
            values.setdefault("method", "nes")  # the presets describe one paper, and NES is its method
        return values
