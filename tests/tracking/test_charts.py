"""Which numbers are in which chart: the same tags for every norm and every name of the routes."""

from typing import Any

import pytest

from robustsabn.trainers.adversarial.runs.results import CHARTS
from robustsabn.trainers.gan.results import CHARTS as GAN
from robustsabn.trainers.nas.results import CHARTS as NAS
from robustsabn.trainers.style.results import CHARTS as STYLE
from robustsabn.trainers.tracking.charts import Chart, Charts

ROUTED: dict[str, Any] = {
    "clean": {"plain": 0.9, "hard": 0.8},
    "robust": {"hard": {"plain": 0.3, "hard": 0.5}},
    "fgsm": 0.6,
    "collapsed": False,
    "train_robust": 0.7,
    "robust_gap": 0.2,
}
PLAIN: dict[str, Any] = {**ROUTED, "clean": {"all": 0.85}, "robust": {"all": {"all": 0.4}}}


def headline(values: dict[str, float]) -> dict[str, float]:
    """The numbers whose tags are not those of details, which follow in the alphabet."""
    return {tag: value for tag, value in values.items() if not tag.startswith(("validation", "train/"))}


def test_norms_and_routes_share_the_headline_tags() -> None:
    routed, plain = (headline(CHARTS.scalars("validation", record)) for record in (ROUTED, PLAIN))
    assert routed == {
        "accuracy/clean/held out": 0.9,
        "accuracy/robust/held out": 0.5,
        "accuracy/robust/train": 0.7,
        "accuracy/fgsm/held out": 0.6,
        "accuracy gap/robust": 0.2,
    }
    assert plain.keys() == routed.keys()
    assert (plain["accuracy/clean/held out"], plain["accuracy/robust/held out"]) == (0.85, 0.4)


def test_accuracies_by_route_stay_below() -> None:
    details = CHARTS.scalars("validation", ROUTED)
    matrix = {"clean/plain": 0.9, "clean/hard": 0.8, "robust/hard/plain": 0.3, "robust/hard/hard": 0.5}
    assert {tag: details[tag] for tag in details if tag.startswith("validation/")} == {
        **{f"validation/{name}": value for name, value in matrix.items()},
        "validation/collapsed": False,
    }


def test_averages_have_the_tags_of_the_model_and_their_name() -> None:
    averaged = CHARTS.scalars("ema", {"clean": {"all": 0.8}, "robust": {"all": {"all": 0.3}}})
    assert averaged == {
        "accuracy/clean/held out ema": 0.8,
        "accuracy/robust/held out ema": 0.3,
        "validation ema/clean/all": 0.8,
        "validation ema/robust/all/all": 0.3,
    }


def test_a_closing_evaluation_has_its_results_and_no_constants() -> None:
    record = {
        "n": 355,
        "clean": {"clean": 0.9, "adv": 0.8},
        "robust": {"clean": {"clean": 0.3, "adv": 0.4}, "adv": {"clean": 0.2, "adv": 0.6}},
        "eps": 0.15,
        "step_size": 0.04,
        "unusable": 0,
        "autoattack": {"clean": 0.1, "adv": 0.5},
        "autoattack_n": 200,
        "asked": [None, 20, 200],
    }
    assert CHARTS.scalars("test", record) == {
        "accuracy test/clean": 0.9,
        "accuracy test/robust": 0.6,
        "accuracy test/autoattack": 0.5,
    }
    assert "accuracy test/clean ema" in CHARTS.scalars("test_ema", record)
    assert "accuracy test/robust last" in CHARTS.scalars("test_last", {**record, "autoattack": {}})


def test_training_has_losses_rate_and_speed() -> None:
    record = {"loss": 1.0, "clean_loss": 0.5, "clean_accuracy": 0.7, "adv_accuracy": 0.3, "kl": 0.1}
    record |= {"gradient_norm": 2.0, "epoch": 1.5, "lr": 0.1, "images_per_second": 500.0}
    assert CHARTS.scalars("train", record) == {
        "loss/total": 1.0,
        "loss/clean": 0.5,
        "accuracy/clean/train": 0.7,
        "rate/lr": 0.1,
        "speed/images a second": 500.0,
        "train/adv_accuracy": 0.3,
        "train/kl": 0.1,
        "train/gradient_norm": 2.0,
    }


def test_what_the_routes_do_has_a_group_after_the_headline() -> None:
    found = Charts().scalars("analysis", {"balance/weight": 0.1, "norm_clean/scale": 2.0})
    assert found == {"balance/weight": 0.1, "routes/norm_clean/scale": 2.0}


@pytest.mark.parametrize("charts", [CHARTS, GAN, NAS, STYLE, Charts()])
def test_the_first_screen_shows_each_headline_once(charts: Charts) -> None:
    ((title, shown),) = charts.layout().items()
    assert title == charts.title
    for kind, tags in shown.values():
        assert kind == "Multiline"
        assert tags
    tags = [tag for _, tags in shown.values() for tag in tags if tag[-1] != "/"]
    assert {"rate/lr", "speed/images a second", "balance/weight"} <= set(tags)
    first = [chart.tags for chart in (*charts.shown, *charts.further)]
    assert len({number for tags in first for number in tags}) == sum(map(len, first))


@pytest.mark.parametrize(
    ("charts", "kind", "record"),
    [
        (GAN, "validation", {"images": 500, "distance": 4.0, "real_distance": 1.6, "label": "fid"}),
        (NAS, "validation", {"images": 357, "cells": 100, "seconds": 3.0, "accuracy": 0.5, "cell": "|x|"}),
        (
            STYLE,
            "validation",
            {"pairs": 7, "style_loss": 0.5, "style_loss_of_content": 3.9, "by_tap": {"a": 1.0}},
        ),
    ],
)
def test_constants_of_the_other_tasks_are_left_out(charts: Charts, kind: str, record: dict[str, Any]) -> None:
    assert len(charts.scalars(kind, record)) == 1


def test_a_task_of_ones_own_has_its_numbers_by_kind_and_name() -> None:
    own = Charts(shown=(Chart(title="distance", tags={"validation/distance": "distance"}),))
    assert own.scalars("validation", {"distance": 2, "other": {"a": 1}, "text": "x"}) == {
        "distance": 2,
        "validation/other/a": 1,
    }
    assert Charts().scalars("test", {"distance": 2.0}) == {"test/distance": 2.0}
    assert own.scalars("validation", {"distance": {}}) == {}
