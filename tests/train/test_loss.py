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
