"""What a training on trajectories can be told; every field's description is its help text."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from parser_vae.graphs.model import ModelSettings
from parser_vae.graphs.problem import Divergence, Latent, Unit
from parser_vae.training.config import Settings
from parser_vae.training.method_settings import MethodSections


class GraphsData(Settings):
    """The files of a training."""

    train: Path = Field(description="trajectories to learn from, npz: samples x time x points x dimensions")
    dev: Path | None = Field(None, description="trajectories to select on; default: a tenth of train")
    init: Path | None = Field(
        None, description="model whose weights to begin with, of any number of points; default: random ones"
    )


class GraphsObjective(Settings):
    """What is optimised."""

    teacher_forcing: int = Field(9, ge=1, description="frames between two true ones when the motion is predicted")
    unit: Unit = Field("point", description="point: per point, edges in both directions, as published; sample: nats")
    divergence: Divergence = Field("gumbel", description="pull on the edge scores: gumbel, exact_gibbs or none")
    max_range: float | None = Field(
        None, gt=0, description="keep trees' scores this near to the largest in sums; 15 as published; default: all"
    )


class GraphsTraining(Settings):
    """How long and how a model is trained."""

    updates: int = Field(50_000, ge=1, description="how often the parameters are changed")
    evaluate_every: int = Field(500, ge=1, description="updates between two looks at the dev samples")
    dev_samples: int = Field(10_000, ge=1, description="look at no more than this many of them")
    batch_size: int = Field(128, ge=1, description="samples an update")
    learning_rate: float = Field(3e-4, gt=0, description="Adam's step size")
    swap_after: int | None = Field(
        None, ge=1, description="update after which the two kinds of message change places; default: they never do"
    )
    clip: float | None = Field(None, gt=0, description="largest norm of a gradient; default: any")
    seconds: float | None = Field(None, gt=0, description="stop after the update that passes this many seconds")
    seed: int = Field(1, ge=0, lt=2**31, description="seed of everything random")


class GraphsSettings(MethodSections):
    """Everything a training on trajectories is told."""

    data: GraphsData
    method: str = Field("relaxed", description="how gradients are estimated; parser-vae methods lists them")
    latent: Latent = Field("tree", description="what is inferred: a spanning tree, or any n - 1 edges of n points")
    model: ModelSettings = Field(default_factory=lambda: ModelSettings.model_validate({}))
    objective: GraphsObjective = Field(default_factory=lambda: GraphsObjective.model_validate({}))
    training: GraphsTraining = Field(default_factory=lambda: GraphsTraining.model_validate({}))
