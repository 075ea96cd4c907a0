"""The interface of a discrete latent space.

A structure is a finite set of objects, each a 0/1 vector over *parts* (arcs of a tree, edges of a graph, classes,
bits). A tensor of ``scores [batch, *shape]`` gives one real number per part; the score of an object is the sum over
its parts, so every structure is the exponential family ``p(z) = exp(<scores, z>) / Z``. A concrete structure
implements the few primitives it can honour and lists them in ``capabilities``; entropy, divergences and log
probabilities follow from ``log_partition`` and ``marginals`` here, once.

``-inf`` forbids a part. ``lengths [batch]`` gives the size of each item where a batch mixes sizes (words of a
sentence, root excluded); entries beyond it are padding: never read, and 0 in every result. None means full size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from parser_vae.errors import IncompatibleError
from parser_vae.structures.noise import gumbel


class Capability(StrEnum):
    """What a structure can do beyond ``argmax``, which all of them can; methods state which of these they need."""

    ARGMAX = "argmax"
    LOG_PARTITION = "log_partition"
    MARGINALS = "marginals"
    SAMPLE = "sample"
    SMOOTHED_ARGMAX = "smoothed_argmax"
    ENUMERATE = "enumerate"
    COUNT = "count"
    K_BEST = "k_best"
    NOISE_SCORE = "noise_score"
    FACTORISED = "factorised"


@dataclass(frozen=True)
class Perturbed:
    """Scores of independent choices under noise, the best object of which is an exact sample; all ``[batch, *shape]``.

    Attributes:
        scores: The perturbed scores z; 0 at padding and forbidden parts.
        normalised: The scores that z is the sum of, and noise: differentiable in the scores given; 0 as above.
        lead: ``dz/ds - d(z given the object)/ds``, each part's by its own normalised score s: how much faster z follows
            its score than it would if the object had to stay the same (Tucker et al., 2017, appendix B). In [0, 1].
    """

    scores: Tensor
    normalised: Tensor
    lead: Tensor


class Structure(ABC):
    """A finite set of objects made of parts; see the module docstring for the conventions."""

    name: str
    capabilities: frozenset[Capability]

    @abstractmethod
    def argmax(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the best object of each item as 0/1 parts ``[batch, *shape]`` in the dtype of ``scores``.

        Ties are broken deterministically; compare scores, not objects. Never differentiable.

        Raises:
            InfeasibleError: ``-inf`` scores forbid every object of an item.
        """

    def log_partition(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``log Z [batch]``, differentiable; its gradient is the marginals."""
        raise self._lacks(Capability.LOG_PARTITION)

    def marginals(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the probability of each part ``[batch, *shape]``, itself differentiable."""
        raise self._lacks(Capability.MARGINALS)

    def sample(
        self, scores: Tensor, lengths: Tensor | None = None, *, generator: torch.Generator, count: int = 1
    ) -> Tensor:
        """Return ``count`` exact independent samples ``[count, batch, *shape]`` from ``exp(score)/Z``."""
        raise self._lacks(Capability.SAMPLE)

    def smoothed_argmax(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return a soft object ``[batch, *shape]``, entries in [0, 1], differentiable in ``scores``."""
        raise self._lacks(Capability.SMOOTHED_ARGMAX)

    def noise(self, scores: Tensor, generator: torch.Generator) -> Tensor:
        """Return noise for perturb-and-MAP, like ``scores``: a standard Gumbel for each part.

        Where the best object under it is an exact sample, the structure says so.
        """
        return gumbel(scores, generator)

    def noise_score(self, noise: Tensor) -> Tensor:
        """Return the gradient in ``scores`` of the log density of ``scores + noise``, shaped like ``noise``.

        ``1 - exp(-noise)`` for Gumbels. A structure whose noise leaves parts alone has no such density.
        """
        if Capability.NOISE_SCORE not in self.capabilities:
            raise self._lacks(Capability.NOISE_SCORE)
        return 1 - (-noise).exp()

    def perturbed(self, scores: Tensor, lengths: Tensor | None = None, *, generator: torch.Generator) -> Perturbed:
        """Return perturbed scores whose best object is an exact sample, for structures of independent choices."""
        raise self._lacks(Capability.FACTORISED)

    def enumerate(self, shape: tuple[int, ...]) -> Tensor:
        """Return every object ``[count, *shape]`` (float64) of one item; only for small sizes."""
        raise self._lacks(Capability.ENUMERATE)

    def inside(self, shape: tuple[int, ...], lengths: Tensor) -> Tensor:
        """Return which parts ``[batch, *shape]`` (bool) of padded items lie within their ``lengths [batch]``."""
        return torch.arange(shape[0], device=lengths.device) < lengths[:, None]

    def log_count(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the natural logarithm ``[batch]`` of the number of objects (no part forbidden)."""
        raise self._lacks(Capability.COUNT)

    # ---------------------------------------------------------------- derived, the same for every structure

    def readable(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return which parts ``[batch, *shape]`` (bool) objects can have: not padding, and not forbidden."""
        allowed = scores != -torch.inf
        return allowed if lengths is None else allowed & self.inside(tuple(scores.shape[1:]), lengths)

    def score(self, scores: Tensor, parts: Tensor) -> Tensor:
        """Return ``<scores, parts>`` ``[..., batch]``; a forbidden part that is not used counts as 0."""
        used = torch.where(parts != 0, scores, torch.zeros_like(scores))
        return (used * parts).flatten(start_dim=parts.dim() - scores.dim() + 1).sum(-1)

    def log_prob(self, scores: Tensor, parts: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``log p(parts)`` ``[..., batch]`` under ``exp(score)/Z``."""
        return self.score(scores, parts) - self.log_partition(scores, lengths)

    def entropy(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the entropy ``[batch]`` in nats: ``log Z - <marginals, scores>``."""
        return self.log_partition(scores, lengths) - self.score(scores, self.marginals(scores, lengths))

    def kl_to_uniform(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``KL(p || uniform over all objects)`` ``[batch]`` in nats: ``log count - entropy``."""
        return self.log_count(scores, lengths) - self.entropy(scores, lengths)

    def kl(self, scores: Tensor, other: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``KL(p_scores || p_other)`` ``[batch]`` in nats, exact by marginals."""
        marginals = self.marginals(scores, lengths)
        return (
            self.score(scores, marginals)
            - self.score(other, marginals)
            - self.log_partition(scores, lengths)
            + self.log_partition(other, lengths)
        )

    def enumerate_padded(self, shape: tuple[int, ...], length: int) -> Tensor:
        """Return every object ``[count, *shape]`` (float64) of an item of ``length`` in a batch padded to ``shape``."""
        inside = self.inside(shape, torch.tensor([length]))[0]
        own = (int(inside.sum()),) if len(shape) == 1 else tuple(int(inside.any(1 - axis).sum()) for axis in (0, 1))
        objects = self.enumerate(own).flatten(1)
        padded = torch.zeros(len(objects), *shape, dtype=torch.float64)
        padded[:, inside] = objects
        return padded

    def require(self, needed: frozenset[Capability], who: str) -> None:
        """Raise ``IncompatibleError`` naming what is missing unless every capability in ``needed`` is there."""
        missing = sorted(needed - self.capabilities)
        if missing:
            raise IncompatibleError(f"{who} needs {', '.join(missing)}, which the structure '{self.name}' cannot give")

    def _lacks(self, capability: Capability) -> IncompatibleError:
        return IncompatibleError(f"the structure '{self.name}' cannot give {capability.value}")
