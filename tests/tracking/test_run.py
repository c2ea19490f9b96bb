"""What a run writes for TensorBoard, and where."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing import plugin_event_multiplexer
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.backend_context import Context
from torch import nn

from robustsabn import convert
from robustsabn.trainers import train
from robustsabn.trainers.config import RunConfig
from robustsabn.trainers.pages import write_run_page
from robustsabn.trainers.runs.config_diff import departures
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.tracking.affines import affines_by_route
from robustsabn.trainers.tracking.card import configuration_card
from tests.helpers.runs import TINY, die


def events_of(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "histograms": 0})
    events.Reload()
    return events


def begun(events: EventAccumulator) -> Any:
    content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    return metadata.parse_session_start_info_plugin_data(content)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, EventAccumulator]:
    """Runs of two norms, one of them with routes of other names and an average."""
    folder = tmp_path_factory.mktemp("runs")
    options: dict[str, dict[str, Any]] = {
        "plain": {"norm": "none"},
        "sabn": {"norm": "sabn", "routes": ["plain", "mild", "hard"], "ema": 0.9},
    }
    for name, chosen in options.items():
        train({**TINY, **chosen, "out": str(folder / name)})
    return {name: events_of(folder / name) for name in options}


def test_the_files_are_in_the_folder_of_the_run(ended_once: Path) -> None:
    assert len([*ended_once.glob("events.out.tfevents.*")]) == 1
    assert [*ended_once.rglob("*tfevents*")] == [*ended_once.glob("*tfevents*")]


def test_two_norms_share_every_headline_chart(runs: dict[str, EventAccumulator]) -> None:
    tags = {name: set(events.Tags()["scalars"]) for name, events in runs.items()}
    shared = {
        *("accuracy/clean/held out", "accuracy/clean/train", "accuracy/robust/held out"),
        *(
            "accuracy/robust/train",
            "accuracy/fgsm/held out",
            "accuracy gap/robust",
            "loss/total",
            "loss/clean",
        ),
        *("loss/adv", "rate/lr", "speed/images a second", "accuracy test/clean", "accuracy test/robust"),
    }
    assert shared <= tags["plain"] & tags["sabn"]
    own = {tag for tag in tags["plain"] ^ tags["sabn"] if not tag.endswith((" ema", " last"))}
    assert all(tag.startswith("validation") for tag in own), own


def test_numbers_of_one_step_are_closing_evaluations(runs: dict[str, EventAccumulator]) -> None:
    for events in runs.values():
        single = [tag for tag in events.Tags()["scalars"] if len(events.Scalars(tag)) == 1]
        assert single
        assert all(tag.startswith("accuracy test/") for tag in single), single


def test_the_first_screen_is_that_of_the_task(runs: dict[str, EventAccumulator]) -> None:
    layouts = []
    for events in runs.values():
        layout = layout_pb2.Layout()  # pyright: ignore[reportAttributeAccessIssue]  # made when it is loaded
        layout.ParseFromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
        layouts.append(layout)
    assert layouts[0] == layouts[1]
    (category,) = layouts[0].category
    assert [chart.title for chart in category.chart[:3]] == [
        "robust accuracy",
        "clean accuracy",
        "robust gap",
    ]


def test_hyperparameters_belong_to_the_run_itself(runs: dict[str, EventAccumulator]) -> None:
    for name, norm in (("plain", "none"), ("sabn", "sabn")):
        assert runs[name].SummaryMetadata(metadata.SESSION_END_INFO_TAG)
        with pytest.raises(KeyError):  # of which only one would count for all runs
            runs[name].SummaryMetadata(metadata.EXPERIMENT_TAG)
        chosen = begun(runs[name]).hparams
        assert chosen["norm"].string_value == norm
        assert chosen["attack.eps"].number_value == 0.1
        assert chosen["seed"].number_value == 0
        assert "weights" not in chosen  # none
        assert "out" not in chosen


def test_hparams_shows_what_differs_and_the_closing_evaluations_first(
    runs: dict[str, EventAccumulator],
) -> None:
    """As TensorBoard computes it: five of each are shown, in this order."""
    folder = Path(runs["plain"].path).parent
    known = plugin_event_multiplexer.EventMultiplexer().AddRunsFromDirectory(str(folder))
    known.Reload()
    context = Context(TBContext(data_provider=MultiplexerDataProvider(known, str(folder))))
    found = context.hparams_metadata(RequestContext(), "")
    assert set(found) == {"plain", "sabn"}  # not those of folders within
    experiment = context.experiment_from_metadata(RequestContext(), "", True, found, [])
    assert {info.name for info in experiment.hparam_infos if info.differs} == {"norm", "routes"}
    metrics = [info.name.tag for info in experiment.metric_infos]
    first = metrics[: metrics.index("accuracy/clean/held out")]
    assert {"accuracy test/clean", "accuracy test/robust", "accuracy test/robust ema"} <= set(first)
    assert all(tag.startswith(("accuracy gap/", "accuracy test/")) for tag in first), first
    assert all(info.name.group == "" for info in experiment.metric_infos)


def test_the_configuration_is_a_text_with_what_was_changed_first(runs: dict[str, EventAccumulator]) -> None:
    (text,) = runs["sabn"].Tensors("configuration/text_summary")
    changed, rest = text.tensor_proto.string_val[0].decode().split("\n\n")
    assert "| norm | sabn | saauxbn |" in changed
    assert "| routes | plain,mild,hard | clean,adv |" in changed
    assert "| label_smoothing | 0 |" in rest
    assert "| norm |" not in rest


def test_a_cell_of_the_text_is_one_cell() -> None:
    card = configuration_card([("model", "a|b", "c\nd")], {"model": "a|b", "seed": "0"})
    assert "| model | a\\|b | c d |" in card
    assert card.endswith("| seed | 0 |")


def test_what_has_no_default_does_not_differ_from_it() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Own(RunConfig):
        width: int

    assert departures(Own(width=3, epochs=5)) == [("epochs", 5, 20)]


def test_affines_are_histograms_by_route(runs: dict[str, EventAccumulator]) -> None:
    names = {name: sorted(events.Tags()["histograms"]) for name, events in runs.items()}
    assert names["plain"] == ["routes/scale/all", "routes/shift/all"]
    routes = ("hard", "mild", "plain")
    assert names["sabn"] == [f"routes/{part}/{route}" for part in ("scale", "shift") for route in routes]
    assert [entry.step for entry in runs["sabn"].Histograms("routes/scale/mild")] == [4, 8]


def test_the_affines_are_composed_of_both() -> None:
    model = convert(nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(2)), norm="sabn")
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    found = affines_by_route(model)
    own = [dict(layer.named_parameters()) for layer in model.children()]
    for i, route in enumerate(("clean", "adv")):
        scales = [p["route_weight"].view(2, -1)[i] * p["weight"] for p in own]
        shifts = [p["route_weight"].view(2, -1)[i] * p["bias"] + p["route_bias"].view(2, -1)[i] for p in own]
        for name, parts in (("scale", scales), ("shift", shifts)):
            wanted = np.concatenate([part.detach().numpy() for part in parts])
            np.testing.assert_allclose(found[f"{name}/{route}"], wanted, rtol=1e-6)
    many = affines_by_route(convert(nn.Sequential(nn.BatchNorm2d(3)), norm="ccbn", routes=100))
    assert list(many)[:4] == ["scale/0", "shift/0", "scale/10", "shift/10"]
    assert len(many) == 20
    assert affines_by_route(nn.Linear(2, 2)) == {}
    assert list(affines_by_route(nn.GroupNorm(1, 2))) == ["scale/all", "shift/all"]


def test_a_resumed_run_has_each_step_once(tmp_path: Path) -> None:
    config = {**TINY, "out": str(tmp_path / "run")}
    die(config, 7)
    train(config, resume=True)
    events = events_of(tmp_path / "run")
    assert len([*(tmp_path / "run").glob("events.out.tfevents.*")]) == 2
    steps = [entry.step for entry in events.Scalars("loss/total")]
    assert steps == sorted(set(steps))
    assert steps[-1] == 8


def test_a_run_of_an_earlier_version_keeps_its_folder(ended_once: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(ended_once, old)
    (old / "tb").mkdir()
    for file in old.glob("events.out.tfevents.*"):
        file.rename(old / "tb" / file.name)
    assert RunFolder(old).tb == old / "tb"
    page = write_run_page(old).read_text()
    assert "data:image/png;base64," in page
    train({**TINY, "epochs": 3, "out": str(old)}, resume=True)
    assert len([*old.glob("events.out.tfevents.*")]) == 0
    assert events_of(old / "tb").Scalars("loss/total")[-1].step == 12


def test_the_page_shows_the_last_grid_and_the_confusion(ended_once: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(ended_once, folder)
    page = write_run_page(folder).read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "Step 8: clean images, adversarial images" in page
    assert "Step 8: labels as rows, predictions as columns." in page


def test_metrics_jsonl_keeps_every_number_by_its_name(ended_once: Path) -> None:
    lines = [json.loads(line) for line in (ended_once / "metrics.jsonl").read_text().splitlines()]
    validation = next(line for line in lines if line["kind"] == "validation")
    assert {"clean", "robust", "fgsm", "train_robust", "robust_gap"} <= validation.keys()
    assert {"n", "eps", "asked"} <= next(line for line in lines if line["kind"] == "test").keys()
