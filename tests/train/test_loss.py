"""The loss against its formula in numpy."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'bitwright[train]'")

from bitwright.train.loss import TEMPERATURE, loss  # noqa: E402


def test_labels_and_teachers_as_the_formulas_have_them() -> None:
    random = np.random.default_rng(0)
    scores, teacher, labels = random.standard_normal((4, 3)), random.standard_normal((4, 3)), np.array([0, 2, 1, 1])

    def softmax(x: np.ndarray) -> np.ndarray:
        return np.exp(x) / np.exp(x).sum(1, keepdims=True)

    entropy = -np.log(softmax(scores)[range(4), labels]).mean()
    p, t = softmax(scores / TEMPERATURE), softmax(teacher / TEMPERATURE)
    distance = TEMPERATURE**2 * (t * np.log(t / p)).sum(1).mean()
    given = [torch.from_numpy(array) for array in (scores, labels, teacher)]
    assert float(loss(given[0], given[1], None)) == pytest.approx(entropy)
    assert float(loss(given[0][:, :, None, None], None, given[2])) == pytest.approx(distance)
    assert float(loss(*given)) == pytest.approx((entropy + distance) / 2)
    assert float(loss(given[2], None, given[2])) == pytest.approx(0)


def test_one_score_is_learned_as_a_sigmoid_decides_by_it() -> None:
    random = np.random.default_rng(0)
    scores, teacher, labels = random.standard_normal((5, 1)), random.standard_normal((5, 1)), np.array([0, 1, 1, 0, 1])

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    p = sigmoid(scores[:, 0])
    entropy = -np.log(np.where(labels == 1, p, 1 - p)).mean()
    p, t = (sigmoid(x[:, 0] / TEMPERATURE) for x in (scores, teacher))
    distance = TEMPERATURE**2 * (t * np.log(t / p) + (1 - t) * np.log((1 - t) / (1 - p))).mean()
    given = [torch.from_numpy(array) for array in (scores, labels, teacher)]
    assert float(loss(given[0], given[1], None)) == pytest.approx(entropy)
    assert float(loss(given[0], None, given[2])) == pytest.approx(distance)
