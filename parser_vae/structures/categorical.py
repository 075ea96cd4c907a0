"""One of k classes: the simplest latent space, an object is a one-hot vector."""

from __future__ import annotations

import torch
from torch import Tensor

from parser_vae.structures.base import Capability, Perturbed, Structure
from parser_vae.structures.noise import gumbel
from parser_vae.structures.padding import forbid_padding, require_feasible, sizes


class Categorical(Structure):
    """One class out of k; ``scores [batch, k]``, objects one-hot ``[batch, k]``, ``lengths`` the classes of an item."""

    name = "categorical"
    capabilities = frozenset(
        {
            Capability.ARGMAX,
            Capability.LOG_PARTITION,
            Capability.MARGINALS,
            Capability.SAMPLE,
            Capability.SMOOTHED_ARGMAX,
            Capability.ENUMERATE,
            Capability.COUNT,
            Capability.NOISE_SCORE,
            Capability.FACTORISED,
        }
    )

    def argmax(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the best class of each item, one-hot ``[batch, k]``; the first of equals."""
        allowed = self._allowed(scores.detach(), lengths)
        return one_hot(allowed.argmax(-1), scores)

    def log_partition(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``logsumexp(scores) [batch]``."""
        return self._allowed(scores, lengths).logsumexp(-1)

    def marginals(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``softmax(scores) [batch, k]``."""
        return self._allowed(scores, lengths).softmax(-1)

    def sample(
        self, scores: Tensor, lengths: Tensor | None = None, *, generator: torch.Generator, count: int = 1
    ) -> Tensor:
        """Return ``count`` independent one-hot samples ``[count, batch, k]``."""
        return one_hot(draw_index(self._allowed(scores.detach(), lengths), generator, count), scores)

    def smoothed_argmax(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``softmax(scores) [batch, k]``: for one choice among k the softened argmax is the marginals."""
        return self.marginals(scores, lengths)

    def perturbed(self, scores: Tensor, lengths: Tensor | None = None, *, generator: torch.Generator) -> Perturbed:
        """Return ``log_softmax(scores)`` plus Gumbels.

        Given that class b is best, with uniform v, ``z_b = -log(-log v_b)`` and the others are
        ``z_i = -log(-log v_i / p_i - log v_b)`` (Tucker et al., 2017, appendix C): z_b stands still, and the others
        move by ``1 - exp(z_i - z_b)`` of what their scores do.
        """
        allowed = self._allowed(scores, lengths)
        inside = allowed > -torch.inf
        normalised = allowed.log_softmax(-1).masked_fill(~inside, 0.0)
        noisy = (normalised.detach() + gumbel(scores, generator)).masked_fill(~inside, -torch.inf)
        lead = (noisy - noisy.amax(-1, keepdim=True)).exp()
        return Perturbed(noisy.masked_fill(~inside, 0.0), normalised, lead)

    def enumerate(self, shape: tuple[int, ...]) -> Tensor:
        """Return the ``k`` one-hot objects ``[k, k]`` of an item of shape ``(k,)`` (float64)."""
        return torch.eye(shape[0], dtype=torch.float64)

    def log_count(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``log k [batch]``."""
        return sizes(scores, lengths).to(scores.dtype).log()

    def kl_to_uniform(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``sum p log p + log k [batch]`` in nats, in fewer steps than by way of the marginals."""
        logs = self._allowed(scores, lengths).log_softmax(-1)
        return (logs.exp() * logs.masked_fill(logs == -torch.inf, 0.0)).sum(-1) + self.log_count(scores, lengths)

    @staticmethod
    def _allowed(scores: Tensor, lengths: Tensor | None) -> Tensor:
        allowed = forbid_padding(scores, lengths)
        require_feasible((allowed > -torch.inf).any(-1), "every class")
        return allowed


def one_hot(index: Tensor, scores: Tensor) -> Tensor:
    """Return one-hot objects ``[..., k]`` of ``index [...]``, with the width and dtype of ``scores [batch, k]``."""
    return torch.nn.functional.one_hot(index, scores.shape[-1]).to(scores.dtype)


def draw_index(scores: Tensor, generator: torch.Generator, count: int) -> Tensor:
    """Return ``count`` indices ``[count, batch]`` drawn from ``softmax(scores [batch, k])``, never one of ``-inf``.

    The distribution function is inverted in float64: with 2^18 classes a float32 sum would lose the rare ones.
    """
    cumulative = scores.double().softmax(-1).cumsum(-1)
    cumulative = cumulative / cumulative[:, -1:]
    uniform = torch.rand(
        (scores.shape[0], count), generator=generator, dtype=torch.float64, device=generator.device
    ).to(scores.device)
    # The last class with mass has a cumulative value of exactly 1, above every uniform, so no later one is returned.
    return torch.searchsorted(cumulative, uniform, right=True).T.contiguous()
