"""What training an image model can be told; every field's description is its help text."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from parser_vae.images.data import Binarisation
from parser_vae.images.models import ModelSettings
from parser_vae.images.problem import TrainDivergence
from parser_vae.training.config import Settings
from parser_vae.training.method_settings import MethodSections

Expectation = Literal["exact", "sample", "perturb", "map"]


class DataSettings(Settings):
    """Which images, and how they become black and white."""

    name: str = Field("digits", description="digits, shapes, or a set in the folder: mnist, omniglot, celeba, ...")
    folder: Path | None = Field(None, description="where the set's files are; digits and shapes need none")
    binarise: Binarisation = Field("round", description="round, fixed (drawn once), dynamic (every batch) or none")
    validation: int | None = Field(None, ge=1, description="images held out of train; default: as in the papers")
    train: int | None = Field(None, ge=1, description="use only so many train images; default: all")
    test: int | None = Field(None, ge=1, description="use only so many test images; default: all")


class ObjectiveSettings(Settings):
    """What is minimised."""

    train_kl: TrainDivergence = Field(
        "exact", description="divergence of the latent in training: exact, unary (couplings left out) or none"
    )
    pixel_bound: float | None = Field(None, gt=0, description="most nats that a pixel costs in training; default: any")


class LabelSettings(Settings):
    """Labels for some of the images, which name the latent's value."""

    count: int = Field(0, ge=0, description="labelled train images, as many of each class; 0: no supervision")
    weight: float = Field(1.0, gt=0, description="weight of the labelled term")
    schedule: Literal["joint", "pretrain"] = Field(
        "joint", description="joint: in every update; pretrain: first only labelled images, then all, without labels"
    )
    pretrain_epochs: int = Field(0, ge=0, description="passes over the labelled images before the others; pretrain")


class MeasureSettings(Settings):
    """How a model is judged."""

    latent: Expectation = Field(
        "exact", description="expectation over latents: exact, sample, perturb (argmax of noisy scores) or map (argmax)"
    )
    samples: int = Field(
        10, ge=1, le=10_000, description="latents drawn for each image where the expectation is not exact"
    )
    gradient_draws: int = Field(0, ge=0, description="draws for the variance of the gradient after each epoch; 0: none")
    smoothing_draws: int = Field(
        0, ge=0, description="draws for the distance to the objective that nes smooths, after each epoch; 0: none"
    )


class ImageTraining(Settings):
    """How long and how a model is trained."""

    epochs: int = Field(100, ge=1, description="passes over the train images")
    batch_size: int = Field(100, ge=1, description="images an update")
    learning_rate: float = Field(1e-3, gt=0, description="Adam's step size")
    clip: float = Field(10_000.0, gt=0, description="largest norm of a gradient; the default is as good as none")
    seconds: float | None = Field(None, gt=0, description="stop after the update that passes this many seconds")
    seed: int = Field(1, ge=0, lt=2**31, description="seed of everything random")


class ImageSettings(MethodSections):
    """Everything that training an image model is told."""

    method: str = Field("enumeration", description="how gradients are estimated; parser-vae methods lists them")
    data: DataSettings = Field(default_factory=lambda: DataSettings.model_validate({}))
    model: ModelSettings = Field(default_factory=lambda: ModelSettings.model_validate({}))
    objective: ObjectiveSettings = Field(default_factory=lambda: ObjectiveSettings.model_validate({}))
    labels: LabelSettings = Field(default_factory=lambda: LabelSettings.model_validate({}))
    measure: MeasureSettings = Field(default_factory=lambda: MeasureSettings.model_validate({}))
    training: ImageTraining = Field(default_factory=lambda: ImageTraining.model_validate({}))

    @model_validator(mode="after")
    def _require_sense(self) -> ImageSettings:
        if self.model.continuous and self.model.latent not in ("categorical", "binary"):
            raise ValueError("model.continuous goes with the latents categorical and binary, not with coupled bits")
        if self.model.continuous and (self.objective.pixel_bound is not None or self.objective.train_kl == "unary"):
            raise ValueError("objective.pixel_bound and train_kl=unary are for models without model.continuous")
        if self.labels.schedule == "pretrain" and not (self.labels.count and self.labels.pretrain_epochs):
            raise ValueError("labels.schedule=pretrain needs labels.count and labels.pretrain_epochs above 0")
        if self.measure.gradient_draws == 1:
            raise ValueError("measure.gradient_draws=1 has no variance; take 0, or at least 2")
        return self
