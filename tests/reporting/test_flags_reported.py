"""What makes a number doubtful stands in report.json, on the page and in the terminal, in words."""

import html
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robustsabn.attacks.reporting import tell, write
from tests.helpers.attacks.autoattack_case import Wrapped, attack, broken_for_some, noisy
from tests.helpers.attacks.networks import conv_case


def _same(z: Tensor, x: Tensor) -> Tensor:
    return z


def _saturated(z: Tensor, x: Tensor) -> Tensor:
    return 1e4 * z


def _softmax(z: Tensor, x: Tensor) -> Tensor:
    return z.softmax(1)


@pytest.mark.parametrize(
    ("how", "flag", "training"),
    [
        (_saturated, "zero-gradients", False),
        (noisy, "randomised", False),
        (_softmax, "softmax", False),
        (broken_for_some, "nan-logits", False),
        (_same, "train-mode", True),
    ],
)
def test_a_doubtful_model_is_flagged_everywhere(
    how: Callable[[Tensor, Tensor], Tensor],
    flag: str,
    training: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    inner, x, y = conv_case(count=24)
    model: nn.Module = Wrapped(inner, how).train(training)
    with torch.no_grad():
        y = model(x).nan_to_num().argmax(1)
    report = attack(model, x, y)
    write(report, tmp_path, x=x)
    tell(report)
    (entry,) = [e for e in json.loads((tmp_path / "report.json").read_text())["flags"] if e["name"] == flag]
    assert entry["severity"] == "warning"
    assert entry["count"] > 0
    assert set(entry["ids"]) <= set(range(24))
    assert entry["message"] in html.unescape((tmp_path / "report.html").read_text())
    assert entry["message"][:60] in " ".join(capsys.readouterr().out.split())
