"""Public functions and classes, each parameter with values of wrong types."""

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import robustsabn as rs
import robustsabn.attacks as ra
import robustsabn.trainers as rt
from robustsabn import config, data, models
from robustsabn.attacks.adapters import foreign, official
from robustsabn.conversion.export import export
from tests.helpers.hostile.case import Case
from tests.helpers.hostile.files import TINY, network

X = torch.linspace(0, 1, 4 * 64).reshape(4, 1, 8, 8)
Y = torch.tensor([0, 1, 2, 0])

NONSENSE: dict[str, Any] = {
    "none": None,
    "text": "nonsense",
    "long text": "x" * 10_000,
    "control": "a\x00\n\x1b[31m",
    "bytes": b"abc",
    "minus one": -1,
    "huge": 10**30,
    "half": 0.5,
    "nan": float("nan"),
    "infinity": float("inf"),
    "fraction": Fraction(-1, 3),
    "complex": 1j,
    "true": True,
    "list": [1, "a", None],
    "empty list": [],
    "mapping": {"a": 1},
    "set": {1, 2},
    "object": object(),
    "class": dict,
    "function": len,
    "generator": torch.Generator(),
    "array": np.array(["a", "b"]),
    "tensor": torch.rand(3, 2),
    "empty tensor": torch.empty(0),
    "complex tensor": torch.ones(4, dtype=torch.complex64),
    "meta tensor": torch.ones(4, 1, 8, 8, device="meta"),
    "sparse tensor": torch.eye(4).to_sparse(),
    "bool tensor": torch.tensor(True),
    "path": Path("text") / "nowhere",
    "module": torch.nn.ReLU(),
}
FLAGS = ("true",)
MODELS = ("class", "function", "module")
NUMBER = ("half", "true", "bool tensor")


def cases(sound: Path) -> list[Case]:
    """All of them; the folder `sound` stays as it is."""
    return [*_calls(sound), *_attacks(), *_layers()]


def _varied(
    name: str, call: Callable[..., object], given: Mapping[str, Any], right: Mapping[str, tuple[str, ...]]
) -> Iterator[Case]:
    """One case for each of the parameters in `right` and each wrong value, those named there apart."""
    for parameter, fine in right.items():
        for kind, value in NONSENSE.items():
            if kind not in fine:
                arguments = {**given, parameter: value}
                yield Case(f"{name}({parameter}={kind})", partial(call, **arguments))


def _routed() -> torch.nn.Module:
    return rs.convert(network())


def _forward(**arguments: Any) -> object:
    model = _routed()
    with rs.route(arguments.get("model", model), arguments["selection"]):
        return model(X)


def _calls(sound: Path) -> Iterator[Case]:
    run, tiny = sound / "run", config.load(rt.TrainConfig, sound / "tiny.yaml")
    yield from _varied("convert", rs.convert, {"model": network()}, {"model": ()})
    right: dict[str, tuple[str, ...]] = {"norm": (), "routes": ("set", "mapping"), "init": ()}
    right |= {"filter_fn": ("none", "class", "function", "module"), "optimizer": ("none",)}
    yield from _varied("convert", lambda **a: rs.convert(network(), **a), {}, right)
    yield from _varied("route", _forward, {"selection": "adv"}, {"selection": ("none",)})
    yield from _varied("bake", lambda route: rs.bake(_routed(), route), {}, {"route": ("none",)})
    yield from _varied("bake", rs.bake, {"route": "adv"}, {"model": ()})
    yield from _varied("Split", lambda size: rs.Split(clean=size), {}, {"size": ("huge",)})
    yield from _varied("Blend", lambda weight: rs.Blend(clean=weight), {}, {"weight": ("true",)})
    yield from _varied("Blend", rs.Blend, {}, {"weights": ("tensor",)})
    yield from _varied("Router", rs.Router, {}, {"routes": ("set", "mapping")})
    yield from _varied("routes_of", rs.routes_of, {}, {"model": ("module",)})
    yield from _varied("load_official", rs.load_official, {"state_dict": {}}, {"model": ()})
    yield from _varied("load_official", lambda state: rs.load_official(_routed(), state), {}, {"state": ()})
    yield from _varied("build", models.build, {"name": "resnet-digits", "num_classes": 10}, {"name": ()})
    for key in ("num_classes", "in_channels", "mean", "std"):
        given = {"name": "resnet-digits", "num_classes": 10, "in_channels": 1}
        fine: tuple[str, ...] = ("none",) if key in ("mean", "std") else ()
        yield from _varied("build", models.build, given, {key: fine})
    yield from _varied("resolve", models.resolve, {}, {"spec": ()})
    given = {"spec": "resnet-digits"}
    yield from _varied("resolve", models.resolve, given, {"weights": ("none",), "num_classes": ("none",)})
    yield from _varied("load_weights", lambda path: models.load_weights(network(), path), {}, {"path": ()})
    yield from _varied("load_weights", models.load_weights, {"path": sound / "sound.pt"}, {"model": ()})
    yield from _varied("read_weights", models.read_weights, {}, {"path": ()})
    for function in (data.load, data.load_test):
        yield from _varied(function.__name__, function, {"spec": "digits"}, {"spec": (), "n": ("none",)})
    yield from _varied("data.load", data.load, {"spec": "digits"}, {"validation": ("none",)})
    yield from _varied(
        "ArraySet", data.ArraySet, {"images": (X * 255).byte(), "labels": Y}, {"images": (), "labels": ()}
    )
    yield from _varied(
        "config.load", lambda given: config.load(rt.TrainConfig, given), {}, {"given": ("none",)}
    )
    yield from _varied(
        "config.load",
        lambda words: config.load(rt.TrainConfig, None, words),
        {},
        {"words": ("empty list", "empty tensor")},
    )
    yield from _varied("load_run_config", rt.load_run_config, {}, {"folder": ()})
    yield from _varied("load_run_model", rt.load_run_model, {"folder": run}, {"folder": (), "checkpoint": ()})
    yield from _varied("compare", rt.compare, {}, {"runs": ()})
    right = {
        "run": (),
        "checkpoint": (),
        "route": (),
        "attack": (),
        "step_size": ("none", "half", "huge"),
        "n": ("none",),
    }
    right |= {"device": ("none",), "batch_size": (), "data": ("none",), "seed": ()}
    given = {"run": run, "n": 2, "attack": "pgd-1"}
    yield from _varied("evaluate_run", rt.evaluate_run, given, right)
    yield from _varied("train", rt.train, {"overrides": ["out=run"]}, {"config": ("none",)})
    yield from _varied(
        "train", rt.train, {"config": tiny}, {"overrides": ("empty list", "empty tensor", "none")}
    )
    for name in config.to_dict(tiny):
        for kind in ("object", "tensor", "bytes", "nan", "set", "class"):
            if name != "model_options":
                yield Case(
                    f"train({name}={kind})",
                    partial(rt.train, {**_tiny(), "out": "run", name: NONSENSE[kind]}),
                )
    yield from _varied("sweep", lambda seeds: rt.sweep(tiny, ["out=run"], seeds), {}, {"seeds": ()})
    given = {"plain": network(), "path": "x.safetensors", "reference": network(), "images": X}
    right = {"plain": (), "path": (), "images": (), "format": ("none",)}
    yield from _varied("export", export, given, right)


def _tiny() -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = yaml.safe_load(TINY)
    return found


def _attacks() -> Iterator[Case]:
    ball = ra.ThreatModel("Linf", 0.1)
    yield from _varied(
        "ThreatModel",
        ra.ThreatModel,
        {"norm": "Linf", "eps": 0.1},
        {"norm": (), "eps": ("half",), "bounds": ()},
    )
    net = network()
    count: tuple[str, ...] = ()
    specific: dict[str, dict[str, tuple[str, ...]]] = {
        "FGSM": {},
        "PGD": {
            "steps": count,
            "restarts": count,
            "step_size": ("none", "half", "huge"),
            "start": (),
            "loss": MODELS,
        },
        "APGD": {
            "steps": count,
            "restarts": count,
            "eot": count,
            "rho": ("half",),
            "loss": MODELS,
        },
        "APGDT": {"steps": count, "targets": count, "rho": ("half",)},
        "FAB": {"steps": count, "restarts": count},
        "FABT": {"steps": count, "targets": count},
        "Square": {"steps": count},
    }
    for name, parameters in specific.items():
        cls = getattr(ra, name)
        yield from _varied(name, cls, {"threat": ball}, {"threat": (), **parameters})
        if name not in ("FGSM", "PGD"):
            yield from _varied(name, cls, {"threat": ball}, {"seed": ("minus one",)})
        options = {} if name == "FGSM" else {"steps": 1}
        for parameter in ("model", "x", "y"):
            given = {"model": net, "x": X, "y": Y}
            yield from _varied(
                name, cls(ball, **options), given, {parameter: MODELS if parameter == "model" else ()}
            )
    right = {
        "version": (),
        "attacks": ("none", "empty list"),
        "seed": (),
        "batch_size": (),
        "folder": ("none", "text", "half"),
    }
    for parameter in ("version", "attacks", "seed", "batch_size"):
        yield from _varied("AutoAttack", ra.AutoAttack, {"threat": ball}, {parameter: right[parameter]})
    fast: dict[str, Any] = {"threat": ball, "version": "fast"}
    for kind in ("bytes", "minus one", "half", "object", "list", "tensor", "control", "true", "long text"):
        yield Case(f"AutoAttack(folder={kind})", partial(_attack_into, NONSENSE[kind]))
    yield from _varied("AutoAttack", ra.AutoAttack, {}, {"threat": ()})
    given = {"model": net, "x": X, "y": Y}
    for parameter in given:
        fine = MODELS if parameter == "model" else ()
        yield from _varied("AutoAttack()", ra.AutoAttack(**fast), given, {parameter: fine})
        yield from _varied("accuracy", ra.accuracy, given, {parameter: fine})
    yield from _varied("accuracy", ra.accuracy, given, {"batch_size": ("huge",)})
    given = {"model": net, "x_adv": X, "x": X, "y": Y, "threat": ball}
    yield from _varied(
        "verify", ra.verify, given, {"x_adv": (), "x": (), "y": (), "threat": (), "batch_size": ("huge",)}
    )
    yield from _varied("foreign", foreign, {"spec": "foolbox:LinfPGD", "threat": ball}, {"spec": ()})
    given = {"model": net, "x": X, "y": Y, "threat": ball}
    yield from _varied("official", official, given, {"threat": (), "version": (), "attacks": ("none",)})


def _attack_into(folder: Any) -> object:
    ball = ra.ThreatModel("Linf", 0.1)
    return ra.AutoAttack(ball, version="fast", folder=folder)(network(), X, Y)


def _layers() -> Iterator[Case]:
    names = ["RoutedBatchNorm1d", "RoutedBatchNorm2d", "RoutedBatchNorm3d"]
    names += ["RoutedInstanceNorm1d", "RoutedInstanceNorm2d", "RoutedInstanceNorm3d"]
    names += ["CCBN2d", "SaBN2d", "AuxBN2d", "SaAuxBN2d"]
    for name in names:
        cls = getattr(rs, name)
        yield from _varied(name, cls, {"num_features": 4}, {"num_features": ()})
        if name in ("RoutedBatchNorm2d", "RoutedInstanceNorm2d"):
            right: dict[str, tuple[str, ...]] = {
                "routes": ("set", "mapping"),
                "affine": (),
                "eps": ("half", "huge"),
            }
            right |= {"momentum": ("none", "half"), "statistics": ()} if "Batch" in name else {}
            right |= {"init": (), "device": ("none",), "dtype": ("none",), "router": ("none",)}
            yield from _varied(name, cls, {"num_features": 4}, right)
            layer = cls(4)
            yield from _varied(name + "()", lambda x, layer=layer: layer(x), {}, {"x": ()})
    yield from _varied(
        "RoutedLayerNorm", rs.RoutedLayerNorm, {"normalized_shape": 4}, {"normalized_shape": ()}
    )
    yield from _varied(
        "RoutedLayerNorm", rs.RoutedLayerNorm, {"normalized_shape": 4}, {"eps": ("half", "huge")}
    )
    given = {"num_groups": 2, "num_channels": 4}
    yield from _varied("RoutedGroupNorm", rs.RoutedGroupNorm, given, {"num_groups": (), "num_channels": ()})
    yield from _varied(
        "SaAdaIN", rs.SaAdaIN, {"num_features": 4}, {"num_features": (), "eps": ("half", "huge")}
    )
    yield from _varied(
        "AdaIN()", rs.AdaIN(), {"x": torch.rand(2, 4, 3), "y": torch.rand(2, 4, 3)}, {"x": (), "y": ()}
    )
