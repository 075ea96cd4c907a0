"""The image problems: what the methods see of a variational auto-encoder over images.

All losses are in nats per image. The prior over latents is uniform, so the divergence of the latent is exact wherever
its structure can say it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot, softplus

from parser_vae.errors import ConfigError
from parser_vae.images.mixture import MixtureModel
from parser_vae.images.models import ImageModel
from parser_vae.methods.base import Touched
from parser_vae.methods.perturbation import Perturbed
from parser_vae.methods.products import linear
from parser_vae.structures import Binary, Structure

TrainDivergence = Literal["exact", "unary", "none"]

_LEAST = 1e-9
"""The least probability of a right answer: a hard latent that is wrong costs 20.7 nats instead of infinitely many."""


@dataclass(frozen=True)
class ImageBatch:
    """Some images.

    Attributes:
        images: ``[batch, channels, height, width]`` in [0, 1].
        gold: The discrete latents that labels give ``[batch, codes]`` (0/1), or None.
        noise: Standard normal numbers ``[batch, rows, continuous]`` for models with Gaussian latents, or None. They
            come with the data, so that the problem itself is without randomness.
    """

    images: Tensor
    gold: Tensor | None = None
    noise: Tensor | None = None


class ImageProblem:
    """A discrete latent, judged by how well the decoder reconstructs the image from it.

    Attributes:
        module: The network.
        structure: The latent's structure.
        divergence_kind: ``exact``: the divergence of ``exp(<scores, z>)/Z`` from the uniform distribution; ``unary``:
            that of the bits without their couplings, as the code of Lorberbom et al. (2019) reports; ``none``, as it
            trains its own method.
        pixel_bound: No pixel costs more nats than this, by keeping its probability in ``[e^-M, 1 - e^-M]`` (Berliner et
            al., 2022, section 5.3); None: unbounded.
    """

    def __init__(
        self,
        model: ImageModel,
        structure: Structure,
        divergence: TrainDivergence = "exact",
        pixel_bound: float | None = None,
    ) -> None:
        self.module = self.model = model
        self.structure = structure
        self.divergence_kind = divergence
        self.pixel_bound = pixel_bound
        # the logit whose probability is 1 - e^-M
        self._limit = math.inf if pixel_bound is None or pixel_bound > 80 else math.log(math.expm1(pixel_bound))

    def touched(self, batch: ImageBatch) -> list[Touched]:
        """Return every trainable parameter."""
        return [Touched(name, p) for name, p in self.module.named_parameters() if p.requires_grad]

    def lengths(self, batch: ImageBatch) -> None:
        """Return None: all latents are of one size."""

    def scores(self, batch: ImageBatch) -> Tensor:
        """Return the scores of all parts ``[batch, parts]``."""
        return self.model.scores(batch.images)

    def reconstruction(self, batch: ImageBatch, latent: Tensor) -> Tensor:
        """Return ``-log p(x | z) [batch]`` in nats: every pixel is a Bernoulli variable."""
        return self._pixel_loss(self.model.logits(latent), batch.images.flatten(1))

    def population_reconstruction(self, batch: ImageBatch, latents: Sequence[Tensor]) -> Tensor:
        """Return ``reconstruction`` of several hard latents of each image ``[members, batch]``.

        An image does not enter the decoder, so each distinct latent is decoded once for the whole batch.
        """
        stacked = torch.stack(list(latents))[..., : self.model.codes].to(batch.images)
        distinct, which = _distinct(stacked, one_of=self.structure.name == "categorical")
        if distinct is None or 2 * len(distinct) > stacked.shape[0] * stacked.shape[1]:
            return self._pixel_loss(self.model.logits(stacked), batch.images.flatten(1))
        return self.table(batch, distinct).T.gather(0, which)

    def table(self, batch: ImageBatch, codes: Tensor) -> Tensor:
        """Return ``-log p(x | z) [batch, codes]`` of every image under every latent ``[codes, parts]``."""
        logits = self._limited(self.model.logits(codes.to(batch.images)))
        # sum over pixels of softplus(l) - x l, whose second term is one product of matrices
        return torch.addmm(softplus(logits).sum(-1), batch.images.flatten(1), logits.T, alpha=-1)

    def reconstruction_is_shared(self, batch: ImageBatch) -> bool:
        """Return whether the decoder is frozen."""
        return not any(parameter.requires_grad for parameter in self.model.decoder.parameters())

    def population_scores(self, batch: ImageBatch, parameters: Mapping[str, Perturbed]) -> Tensor | None:
        """Return the scores ``[members, batch, parts]`` of a group of perturbed encoders; None where it convolves."""
        if self.model.settings.network != "fc":
            return None
        encoder = _Layers(self.model, "encoder", parameters)
        hidden = encoder.linear(batch.images.flatten(1), 1).relu_()
        scores = encoder.linear(hidden, 3)
        members = 2 * next(iter(parameters.values())).pairs
        scores = scores if scores.dim() == 3 else scores.repeat(members, 1, 1)
        return self.model.constrained(scores)

    def population_size(self, batch: ImageBatch, memory: int) -> int:
        """Return how many members to score together: 32, or fewer where hidden layers and losses would not fit."""
        model = self.model
        each = 4 * len(batch.images) * (3 * model.settings.hidden + 2 * model.codes)
        return min(32, memory // each)

    def population_losses(self, batch: ImageBatch, parameters: Mapping[str, Perturbed], latents: Tensor) -> Tensor:
        """Return the reconstruction ``[members, batch]`` of one hard latent each ``[members, batch, parts]``.

        A member decodes each distinct latent once: all classes of a categorical one, and every latent of bits.
        """
        pixels = batch.images.flatten(1)
        if self.structure.name != "categorical" or self.model.settings.network != "fc":
            return self._member_losses(parameters, latents.to(pixels), pixels)
        decoder = _Layers(self.model, "decoder", parameters)
        hidden = decoder.linear(torch.eye(self.model.codes).to(pixels), 0).relu_()
        logits = self._limited(decoder.linear(hidden, 2))
        members = len(latents)
        logits = logits if logits.dim() == 3 else logits.expand(members, -1, -1)
        # [pixels, members * classes]: one product for all members
        inner = (pixels @ logits.flatten(0, 1).T).view(len(pixels), members, -1)
        table = softplus(logits).sum(-1)[:, None] - inner.transpose(0, 1)
        return table.gather(2, latents.float().argmax(-1, keepdim=True))[..., 0]

    def _member_losses(self, parameters: Mapping[str, Perturbed], latents: Tensor, pixels: Tensor) -> Tensor:
        """Return the reconstruction ``[members, batch]``, member after member."""
        values = {name: one.members() for name, one in parameters.items() if name.startswith("decoder.")}
        losses = []
        for member, latent in enumerate(latents):
            own = {name.removeprefix("decoder."): value[member] for name, value in values.items()}
            logits = functional_call(self.model.decoder, own, (latent[:, : self.model.codes],))
            losses.append(self._pixel_loss(logits, pixels))
        return torch.stack(losses)

    def features(self, batch: ImageBatch) -> Tensor:
        """Return the pixels ``[batch, pixels]``."""
        return batch.images.flatten(1)

    def divergence(self, batch: ImageBatch, scores: Tensor) -> Tensor | None:
        """Return the divergence of the discrete latent ``[batch]`` in nats, or None where training leaves it out."""
        if self.divergence_kind == "none":
            return None
        if self.divergence_kind == "unary":
            return Binary().kl_to_uniform(scores[:, : self.model.codes])
        return self.structure.kl_to_uniform(scores)

    def replica(self) -> ImageProblem:
        """Return a problem whose parameters are its own."""
        twin = copy.copy(self)
        twin.module = twin.model = copy.deepcopy(self.model)
        return twin

    def as_measured(self) -> ImageProblem:
        """Return the problem that evaluation sees: the same network, the exact divergence, no bound on pixels."""
        return ImageProblem(self.model, self.structure)

    def _limited(self, logits: Tensor) -> Tensor:
        return logits if self._limit == math.inf else logits.clamp(-self._limit, self._limit)

    def _pixel_loss(self, logits: Tensor, pixels: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(self._limited(logits), pixels.expand_as(logits), reduction="none").sum(
            -1
        )


class MixtureProblem:
    """A discrete latent that selects Gaussian numbers, which the decoder reconstructs the image from.

    The Gaussian part is reparametrised with the noise that comes with the batch, and its divergence, which depends on
    the discrete latent, is part of what a latent costs.
    """

    def __init__(self, model: MixtureModel, structure: Structure, divergence: TrainDivergence = "exact") -> None:
        self.module = self.model = model
        self.structure = structure
        self.divergence_kind = divergence

    def touched(self, batch: ImageBatch) -> list[Touched]:
        """Return every trainable parameter."""
        return [Touched(name, p) for name, p in self.module.named_parameters() if p.requires_grad]

    def lengths(self, batch: ImageBatch) -> None:
        """Return None: all latents are of one size."""

    def scores(self, batch: ImageBatch) -> Tensor:
        """Return the scores of the discrete latent's parts ``[batch, parts]``."""
        return self.model.scores(batch.images)

    def reconstruction(self, batch: ImageBatch, latent: Tensor) -> Tensor:
        """Return ``-log p(x | z, c) + KL(q(c | x, z) || N(0, I))`` ``[batch]`` in nats, c drawn with the noise."""
        return self.population_reconstruction(batch, [latent])[0]

    def population_reconstruction(self, batch: ImageBatch, latents: Sequence[Tensor]) -> Tensor:
        """Return ``reconstruction`` of several latents ``[members, batch]``; the encoder runs once."""
        assert batch.noise is not None
        gaussians = self.model.gaussians(batch.images)
        selection = self.model.selection(torch.stack(list(latents)).to(batch.images))
        logits = self.model.logits(selection, gaussians.sample(batch.noise))
        pixels = batch.images.flatten(1).expand_as(logits)
        loss = binary_cross_entropy_with_logits(logits, pixels, reduction="none").sum(-1)
        return loss + (selection * gaussians.divergence()).sum(-1)

    def table(self, batch: ImageBatch, codes: Tensor) -> Tensor:
        """Return ``reconstruction`` of every latent ``[codes, parts]`` ``[batch, codes]``."""
        every = codes.to(batch.images)[:, None].expand(-1, len(batch.images), -1)
        return self.population_reconstruction(batch, list(every)).T

    def reconstruction_is_shared(self, batch: ImageBatch) -> bool:
        """Return False: the encoder gives the Gaussians."""
        return False

    def features(self, batch: ImageBatch) -> Tensor:
        """Return the pixels ``[batch, pixels]``."""
        return batch.images.flatten(1)

    def divergence(self, batch: ImageBatch, scores: Tensor) -> Tensor | None:
        """Return the divergence of the discrete latent ``[batch]`` in nats, or None where training leaves it out."""
        return None if self.divergence_kind == "none" else self.structure.kl_to_uniform(scores)

    def replica(self) -> MixtureProblem:
        """Return a problem whose parameters are its own."""
        twin = copy.copy(self)
        twin.module = twin.model = copy.deepcopy(self.model)
        return twin

    def as_measured(self) -> MixtureProblem:
        """Return the problem that evaluation sees: the same network with the exact divergence."""
        return MixtureProblem(self.model, self.structure)


class LabelProblem:
    """A latent judged by its agreement with the labels: ``-log`` of the probability it gives them, in nats.

    A hard latent costs 0 for every right part and 20.7 for a wrong one, which is the loss of Lorberbom et al. (2019),
    eq. 9, that direct optimisation turns into "the perturbed answer is the true label". A soft one costs its
    cross-entropy, which is what their relaxed baseline adds.
    """

    def __init__(self, problem: ImageProblem | MixtureProblem) -> None:
        self._problem = problem
        self.module: nn.Module = problem.module
        self.structure = problem.structure

    def touched(self, batch: ImageBatch) -> list[Touched]:
        """Return the parameters behind the scores."""
        idle = ("decoder.", "row.", "to_rows.")
        return [item for item in self._problem.touched(batch) if not item.name.startswith(idle)]

    def lengths(self, batch: ImageBatch) -> None:
        """Return None: all latents are of one size."""

    def scores(self, batch: ImageBatch) -> Tensor:
        """Return the scores of all parts ``[batch, parts]``."""
        return self._problem.scores(batch)

    def reconstruction(self, batch: ImageBatch, latent: Tensor) -> Tensor:
        """Return the loss ``[batch]`` of the labels under the latent."""
        assert batch.gold is not None
        gold = batch.gold.to(latent)
        given = latent[..., : gold.shape[-1]]
        if self.structure.name == "categorical":
            right = (gold * given).sum(-1, keepdim=True)
        else:
            right = gold * given + (1 - gold) * (1 - given)
        return -right.clamp_min(_LEAST).log().sum(-1)

    def population_reconstruction(self, batch: ImageBatch, latents: Sequence[Tensor]) -> Tensor:
        """Return ``reconstruction`` of several latents ``[members, batch]``."""
        return self.reconstruction(batch, torch.stack(list(latents)).to(batch.images))

    def reconstruction_is_shared(self, batch: ImageBatch) -> bool:
        """Return True: no parameter enters the judgement."""
        return True

    def features(self, batch: ImageBatch) -> Tensor:
        """Return the pixels ``[batch, pixels]``."""
        return batch.images.flatten(1)

    def divergence(self, batch: ImageBatch, scores: Tensor) -> None:
        """Return None: the problem that this one is added to has the divergence."""

    def replica(self) -> LabelProblem:
        """Return a problem whose parameters are its own."""
        return LabelProblem(self._problem.replica())


@dataclass(frozen=True)
class _Layers:
    """The linear layers of a network in every member of a group."""

    model: ImageModel
    prefix: str
    parameters: Mapping[str, Perturbed]

    def linear(self, inputs: Tensor, place: int) -> Tensor:
        """Return what the layer at this place makes of ``inputs [..., rows, in]``."""
        weight, bias = (f"{self.prefix}.{place}.{kind}" for kind in ("weight", "bias"))
        return linear(
            inputs,
            self.parameters.get(weight, self.model.get_parameter(weight).detach()),
            self.parameters.get(bias, self.model.get_parameter(bias).detach()),
        )


def gold_codes(labels: Tensor, attributes: Tensor, latent: str, size: int) -> Tensor:
    """Return the latents ``[count, size]`` that labels (for a class) or attributes (for bits) give.

    Raises:
        ConfigError: The labels do not fit the latent.
    """
    if latent == "categorical":
        if int(labels.max()) >= size:
            raise ConfigError(f"labels.count: the images have {int(labels.max()) + 1} classes but model.size is {size}")
        return one_hot(labels, size).float()
    if attributes.shape[1] != size:
        raise ConfigError(f"labels.count: the images have {attributes.shape[1]} attributes but model.size is {size}")
    return attributes.float()


def _distinct(latents: Tensor, one_of: bool) -> tuple[Tensor | None, Tensor]:
    """Return latents ``[distinct, codes]`` among which all of ``[members, batch, codes]`` are, and which each is.

    None in place of the latents where there are too many bits to number them.
    """
    codes = latents.shape[-1]
    if one_of:
        return torch.eye(codes, dtype=latents.dtype, device=latents.device), latents.argmax(-1)
    if codes > 62:
        return None, latents
    places = torch.arange(codes, device=latents.device)
    present, which = (latents.long() << places).sum(-1).unique(return_inverse=True)
    return ((present[:, None] >> places) & 1).to(latents), which
