"""What a training makes small: the cross-entropy of labels, the distance from a teacher's scores, or half of each.

    labels     -mean log p[y]                             p = softmax(scores)
    teacher    T^2 mean sum t log(t / p)                  t = softmax(teacher / T), p = softmax(scores / T)

Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015; T^2 keeps the gradients' size.
"""

from __future__ import annotations

import torch  # type: ignore[import-not-found, unused-ignore]
from torch.nn import functional  # type: ignore[import-not-found, unused-ignore]

TEMPERATURE = 2.0


def loss(scores: torch.Tensor, labels: torch.Tensor | None, teacher: torch.Tensor | None) -> torch.Tensor:
    """The loss of scores [N, ...]; labels int64 [N]; teacher: scores like these."""
    flat = by_class(scores)
    parts = []
    if labels is not None:
        parts.append(functional.cross_entropy(flat, labels))
    if teacher is not None:
        soft = functional.log_softmax(flat / TEMPERATURE, 1)
        wanted = functional.log_softmax(by_class(teacher) / TEMPERATURE, 1)
        distance = functional.kl_div(soft, wanted, reduction="batchmean", log_target=True)
        parts.append(TEMPERATURE**2 * distance)
    return torch.stack(parts).mean()


def by_class(scores: torch.Tensor) -> torch.Tensor:
    """Scores [N, ...] as [N, classes]. One score a sample, which a sigmoid decides by, stands behind a score of 0."""
    flat = scores.flatten(1)
    return flat if flat.shape[1] != 1 else torch.cat([torch.zeros_like(flat), flat], 1)
