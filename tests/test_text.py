"""Values in messages: one line, cut, with nothing that a terminal would obey."""

import pytest
import torch

from robustsabn.text import counted, nearest, one_line, quote, shorten


class Mute:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10_000,
        "a\nb\r\x00\x1b[31m" * 100,
        "\ud800" * 100,
        10**5000,
        list(range(10_000)),
        torch.rand(100, 100),
        torch.nn.Sequential(*[torch.nn.ReLU() for _ in range(50)]),
        Mute(),
        None,
        float("nan"),
    ],
    ids=["long", "control", "surrogates", "digits", "list", "tensor", "module", "mute", "none", "nan"],
)
def test_any_value_is_one_short_printable_line(value: object) -> None:
    for text in (shorten(value), quote(value)):
        assert 0 < len(text) <= 80
        assert text.isprintable()


def test_what_is_short_stays_as_it_is() -> None:
    assert shorten("a b") == "a b"
    assert quote("a'b") == '"a\'b"'
    assert shorten("tab\x07") == r"tab\x07"


def test_the_middle_is_left_out() -> None:
    text = quote("begin" + 1000 * "x" + "end", 40)
    assert len(text) == 40
    assert text.startswith("'begin")
    assert text.endswith("end'")
    assert "..." in text


def test_errors_from_elsewhere_are_one_line() -> None:
    assert one_line(ValueError("a\n  b")) == "ValueError: a b"
    assert len(one_line(ValueError("x" * 1000))) == 160


def test_near_names_are_proposed_whatever_their_case() -> None:
    assert nearest("advv", ["clean", "adv"]) == " (did you mean adv?)"
    assert nearest("LINF", ["Linf", "L2"]) == " (did you mean Linf?)"
    assert nearest("zzz", ["clean"]) == nearest("clean", ["clean"]) == nearest(7, []) == ""
    assert nearest("x" * 10**6, ["clean"]) == ""


def test_numbers_of_things_agree_with_them() -> None:
    assert counted(1, "class", "classes") == "1 class"
    assert counted(2000, "class", "classes") == "2,000 classes"
    assert counted(0, "image") == "0 images"
