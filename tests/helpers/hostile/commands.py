"""Command lines with wrong values: every option, every key of a configuration, the environment."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from robustsabn.trainers import TrainConfig
from tests.helpers.hostile.case import Case

TEXTS = (
    "",
    " ",
    "nonsense",
    "-1",
    "0",
    "nan",
    "inf",
    "1e400",
    "9" * 400,
    "\x00",
    "\n\x1b[31mred",
    "x" * 5000,
    "\udcff",
    "../../etc",
    "~nosuchuser/x",
    "{a: b}",
    "[[",
    "é" * 300,
)

NUMBERS = (
    "nan",
    ".nan",
    "inf",
    "-.inf",
    "1e400",
    "-1",
    "-1e-30",
    "9" * 30,
    "9" * 5000,
    "1:30",
    "2026-01-01",
    "0x10z",
    "1_0_",
    "1/0",
    "1e5/nan",
    "yes",
    "x" * 5000,
    "\x00",
    "\udcff",
    "[1, 2",
    "{a: 1}",
    "!!python/object/apply:os.getcwd []",
    "*a",
)

# they take any text, any truth value, or a name that is looked up later
FREE = {"out", "download", "augment.flip", "sync_bn", "tf32", "compile", "channels_last", "attack.fold"}
FREE |= {"validation.gap", "model_options"}


def cases(sound: Path) -> list[Case]:
    """All of them; the folder `sound` stays as it is."""
    return [*_options(sound), *_keys(sound), *_words(sound), *_environments(sound)]


def _options(sound: Path) -> Iterator[Case]:
    run = f"{sound}/run"
    attack = [
        "autoattack",
        "--model",
        f"{sound}/net.py:make",
        "--data",
        f"npz:{sound}/sound.npz",
        "--norm",
        "Linf",
        "--eps",
        "0.1",
        "--version",
        "fast",
        "--n",
        "2",
    ]
    bases: dict[str, tuple[list[str], dict[str, set[str]]]] = {
        "autoattack": (
            attack,
            {
                "--model": set(),
                "--weights": set(),
                "--num-classes": set(),
                "--data": set(),
                "--norm": set(),
                "--eps": set(),
                "--version": {""},
                "--attacks": {"", " "},
                "--n": set(),
                "--route": set(),
                "--batch-size": {"9" * 400},
                "--seed": {"0"},
                "--device": set(),
                "--engine": set(),
                "--attack": {""},
                "--robustbench": {"", "0", "-1", "nan", "inf", "1e400", "nonsense"},
            },
        ),
        "evaluate": (
            ["evaluate", run, "--attack", "pgd-1", "--n", "2"],
            {
                "--route": set(),
                "--attack": set(),
                "--step-size": set(),
                "--checkpoint": set(),
                "--data": {""},
                "--n": set(),
                "--batch-size": set(),
                "--seed": {"0", "-1"},
                "--device": set(),
            },
        ),
        "export": (
            ["export", run, "--route", "adv", "--out", "model.pt2"],
            {"--route": set(), "--format": {""}, "--checkpoint": set()},
        ),
    }
    for verb, (words, options) in bases.items():
        for option, allowed in options.items():
            for text in TEXTS:
                if text not in allowed:
                    yield Case(f"{verb} {option} {text[:20]!r}", [*words, f"{option}={text}"])
    for verb in ("train", "evaluate", "compare", "report"):
        for text in TEXTS:
            if not (verb == "evaluate" and text == "-1"):
                yield Case(f"{verb} of {text[:20]!r}", [verb, text])
    for text in ("", "\x00", "x" * 5000, "a/" * 3000, "/dev/null/x", "/proc/nothing", f"{sound}/tiny.yaml/x"):
        yield Case(f"export --out {text[:20]!r}", ["export", run, "--route", "adv", "--out", text])
        yield Case(f"train out={text[:20]!r}", ["train", f"{sound}/tiny.yaml", f"out={text}"], right=not text)
        yield Case(f"autoattack --out {text[:20]!r}", [*attack, "--out", text])
        for option in ("--json", "--html"):
            yield Case(f"compare {option} {text[:20]!r}", ["compare", run, option, text])


def _keys(sound: Path) -> Iterator[Case]:
    """Every key with hostile values, some of them for each."""
    for number, (key, hint) in enumerate(_all_keys(TrainConfig)):
        if key in FREE:
            continue
        text = str in (hint, *get_args(hint))
        values = [v for v in (TEXTS if text else NUMBERS) if not _allowed(key, v)]
        for i in range(5):
            value = values[(5 * number + i) % len(values)]
            words = ["train", f"{sound}/tiny.yaml", "out=run", f"{key}={value}"]
            yield Case(f"train {key}={value[:20]!r}", words)


def _allowed(key: str, value: str) -> bool:
    """Whether the value says something that the key takes."""
    words = {"model", "data", "weights", "method", "optim", "schedule", "extra.data"}
    return key in words and value in ("", "0", "{a: b}") and key == "weights"


def _all_keys(cls: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(cls)
    for field in fields(cls):
        hint = hints[field.name]
        inner = [member for member in (hint, *get_args(hint)) if is_dataclass(member)]
        yield prefix + field.name, hint
        for member in inner:
            yield from _all_keys(member, f"{prefix}{field.name}.")  # type: ignore[arg-type]


def _words(sound: Path) -> Iterator[Case]:
    tiny = f"{sound}/tiny.yaml"
    lines = (
        ["train", tiny, "=3"],
        ["train", tiny, "a.b.c.d=3"],
        ["train", tiny, ".=3"],
        ["train", tiny, "seed"],
        ["train", tiny, "seed=1", "seed="],
        ["train", tiny, "é=1"],
        ["train", tiny, "seeds=" + "9" * 30],
        ["train", tiny, "seeds=0,1:30"],
        ["train", tiny, "routes=../../x,adv"],
        ["train", tiny, "routes=[red],adv"],
        ["train", tiny, "model=net.py"],
        ["train", tiny, "model=os:getcwd"],
        ["train", tiny, "model=os:_exit"],
        ["train", tiny, "model=sys:exit"],
        ["train", tiny, "method=os:getcwd"],
        ["train", tiny, "method=~nosuchuser/own.py:Mine"],
        ["train", tiny, "data=imagefolder:/"],
        ["train", tiny, "data=npz:/dev/null"],
        ["train", tiny, "data=npz:/dev/zero"],
        ["train", tiny, "data=npz:~nosuchuser/x.npz"],
        ["train", tiny, "data=cifar10:/dev/null"],
        ["train", tiny, "weights=/dev/zero"],
        ["train", tiny, "weights=~nosuchuser/x.pt"],
        ["train", tiny, "--resume", "--resume", "-1"],
        ["train", "/dev/null/x.yaml"],
        ["train", "."],
        ["train", "/dev/zero/"],
        ["recipes", "--all"],
        ["info", "x"],
        ["report"],
        ["report", "a", "b"],
        ["nonsense"],
        ["\x00"],
        ["-"],
        ["--"],
        [""],
        ["x" * 5000],
        ["train", tiny, "--x" * 2000],
    )
    for words in lines:
        yield Case(" ".join(words).replace(str(sound), "")[:60], words)
    yield Case("train minutes", ["train", tiny, "out=1:30", "--print-config"], right=True)


def _environments(sound: Path) -> Iterator[Case]:
    """Processes that were never started, other ways to share a model out, terminals of few characters."""
    tiny, run = ["train", f"{sound}/tiny.yaml", "out=run"], f"{sound}/run"
    meeting = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost"}
    meeting |= {"MASTER_PORT": "29511"}
    for name, values in {
        "RANK": ("abc", "-1", "2", "99", "", "1.5", "x" * 500),
        "WORLD_SIZE": ("abc", "0", "-1", "", "1e3", "9" * 40),
        "LOCAL_RANK": ("abc", "-5", "", "nan"),
        "MASTER_PORT": ("abc", "-1", "99999999", "", "0x50"),
        "MASTER_ADDR": ("",),
    }.items():
        for value in values:
            yield Case(f"{name}={value[:20]}", tiny, {**meeting, name: value})
        gone = {key: text for key, text in meeting.items() if key != name}
        yield Case(f"without {name}", tiny, gone, right=name == "WORLD_SIZE")
    attack = ["autoattack", "--model", f"{sound}/net.py:make", "--data", f"npz:{sound}/sound.npz"]
    attack += ["--norm", "Linf", "--eps", "0.1", "--version", "fast", "--n", "2"]
    yield Case("autoattack RANK=abc", attack, {**meeting, "RANK": "abc"})
    for name in ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP", "ACCELERATE_USE_MEGATRON_LM"):
        for words in (tiny, attack):
            yield Case(f"{words[0]} {name}", words, {name: "true"})
    yield Case("precision from outside", tiny, {"ACCELERATE_MIXED_PRECISION": "fp8"}, right=True)
    yield Case("precision that is none", tiny, {"ACCELERATE_MIXED_PRECISION": "abc"}, right=True)
    yield Case("no home", ["train", "~/x.yaml"], {"HOME": f"{sound}/home"})
    narrow = {"COLUMNS": "1", "LINES": "1", "TERM": "dumb"}
    for words in (["evaluate", run, "--n", "2"], ["compare", run], ["report", run], ["recipes"], ["info"]):
        yield Case(f"{words[0]} narrow", words, narrow, right=True)
