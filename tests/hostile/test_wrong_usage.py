"""Wrong usages, each told in one line that says what was given and what to do instead."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import robustsabn.config
from robustsabn import Blend, Split, bake, convert, load_official, route
from robustsabn.__main__ import main
from robustsabn.attacks import FGSM, PGD, ThreatModel
from robustsabn.data import load, load_test
from robustsabn.errors import RobustsabnError
from robustsabn.models import build, load_weights, resolve
from robustsabn.trainers import TrainConfig, evaluate_run, train
from tests.helpers.runs import TINY

SETTINGS: dict[str, Any] = {**TINY, "model": "resnet-digits", "batch_size": 32, "steps": 1}
BALL = ThreatModel("Linf", 0.1)
X = torch.linspace(0, 1, 4 * 64).reshape(4, 1, 8, 8)
Y = torch.tensor([0, 1, 2, 0])


class Case(NamedTuple):
    """A command line, or a call with the folder of `folder`, and what its message must contain."""

    do: str | Callable[[Path], object]
    given: str
    remedy: str


def net() -> nn.Module:
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    return nn.Sequential(*layers).eval()


def forward(selection: Any) -> Tensor:
    model = convert(net())
    with route(model, selection):
        logits: Tensor = model(X)
    return logits


def config(*overrides: str) -> TrainConfig:
    return robustsabn.config.load(TrainConfig, SETTINGS, overrides)


def run(folder: Path, **changes: Any) -> object:
    return train({**SETTINGS, "out": str(folder / "new"), **changes})


CONFIGURATION = [
    Case(lambda w: config("epohcs=3"), "epohcs", "did you mean epochs?"),
    Case(lambda w: config("attack.stepz=3"), "attack.stepz", "did you mean steps?"),
    Case(lambda w: config("eps=8/255"), "eps: unknown key", "attack.eps"),
    Case(lambda w: config("epochs=many"), "'many'", "expected a whole number"),
    Case(lambda w: config("epochs=1.5"), "1.5", "expected a whole number"),
    Case(lambda w: config("epochs"), "'epochs'", "write key=value"),
    Case(lambda w: config("batch_size=0"), "got 0", "at least 1"),
    Case(lambda w: config("attack.eps=8"), "attack.eps 8", "write 8/255"),
    Case(lambda w: config("attack.norm=L0"), "'L0'", "one of Linf, L2, L1"),
    Case(lambda w: config("attack=3"), "got 3", "a mapping with keys among norm, eps"),
    Case(lambda w: config("method=trade"), "'trade'", "standard, pgd, paired"),
    Case(lambda w: config("optim.momentum=2"), "got 2", "[0, 1)"),
    Case(lambda w: config("augment.mix=cut"), "'cut'", "one of none, cutmix, mixup"),
    Case(lambda w: config("augment.mix=mixup", "augment.mix_alpha=0"), "got 0", "must be positive"),
    Case(lambda w: config("augment.mix=mixup", "method=mart"), "augment.mix", "methods with it: "),
    Case(lambda w: config("augment.mix=mixup", "attack.loss=dlr"), "attack.loss dlr", "allowed: ce"),
    Case(lambda w: config("extra.fraction=0.5"), "extra.data", "give a value"),
    Case(
        lambda w: config("extra.data=npz:x.npz", "extra.fraction=1"),
        "got 1",
        "a share of the batch in (0, 1)",
    ),
    Case(lambda w: config("extra.data=npz:x.npz", "extra.fraction=0.01"), "is 0 images", "some of both sets"),
    Case(lambda w: config("extra.data=digits"), "extra.data is digits", "name another set"),
    Case(
        lambda w: run(w, extra={"data": f"npz:{w}/rgb.npz"}),
        "rgb.npz has images (C, H, W) of (3, 8, 8), but digits of (1, 8, 8)",
        "resize",
    ),
    Case(
        lambda w: run(w, extra={"data": f"npz:{w}/many.npz"}),
        "many.npz has 20 classes, but digits has 10",
        "must agree",
    ),
    Case(lambda w: run(w, extra={"data": "npz:x.npz"}), "x.npz: no such file", "npz:PATH needs"),
    Case(lambda w: config("swa.start=2"), "got 2", "swa.start is a fraction of the run in [0, 1]"),
    Case(lambda w: config("swa.every=0"), "got 0", "swa.every must be at least 1"),
    Case(lambda w: config("swa=0.75"), "got 0.75", "a mapping with keys among start, every, batches"),
    Case(lambda w: config("schedule=step"), "'step'", "allowed: constant, multistep, cosine"),
    Case(lambda w: config("norm=sa-auxbn"), "'sa-auxbn'", "auxbn, saauxbn"),
    Case(lambda w: config("routes=adv,adv"), "['adv', 'adv']", "distinct names"),
    Case(lambda w: robustsabn.config.load(TrainConfig, w / "broken.yaml"), "broken.yaml", "correct it"),
    Case(lambda w: robustsabn.config.load(TrainConfig, w / "twice.yaml"), "seed: written twice", "keep one"),
    Case(
        lambda w: robustsabn.config.load(TrainConfig, w / "listkey.yaml"),
        "(listkey.yaml:1)",
        "must be a name",
    ),
    Case(lambda w: robustsabn.config.load(TrainConfig, w / "code.yaml"), "python/object", "correct it"),
    Case(lambda w: robustsabn.config.load(TrainConfig, 3), "not int", "a file, a recipe, a mapping"),
    Case(lambda w: run(w, out=str(w / "run")), "holds a run", "--resume or choose another folder"),
    Case(lambda w: run(w, out=str(w / "text.txt" / "run")), "text.txt is a file", "choose a folder"),
    Case(lambda w: run(w, batch_size=500), "batch_size 500", "choose 1 to 32"),
    Case(lambda w: run(w, images=5000), "5000, but the set has", "give 1 to 1085"),
    Case(lambda w: run(w, test={"images": 5000}), "5000, but the set has", "give 1 to 355"),
    Case(lambda w: run(w, precision="fp16"), "fp16 needs a GPU", "allowed here are fp32 and bf16"),
    Case(lambda w: run(w, norm="none", sync_bn=True), "sync_bn", "norm: bn"),
    Case(lambda w: run(w, model_options={"depth": 3}), "'depth'", "its options: mean, std"),
    Case(lambda w: run(w, model_options={"mean": "grey"}), "mean", "one per channel"),
]

CALLS = [
    Case(lambda w: convert("resnet18"), "the model is str", "give a torch.nn.Module"),  # type: ignore[arg-type]
    Case(lambda w: convert(net(), norm="sabnn"), "'sabnn'", "did you mean sabn?"),
    Case(lambda w: convert(net(), routes="adv"), "routes='adv'", "a sequence of names"),
    Case(lambda w: convert(net(), routes=2.5), "routes=2.5", "a sequence of names"),  # type: ignore[arg-type]
    Case(lambda w: convert(net(), init=("zero")), "'zero'", "allowed: identity, paper"),  # type: ignore[arg-type]
    Case(lambda w: convert(net(), filter_fn=("1")), "filter_fn='1'", "lambda module, name"),  # type: ignore[arg-type]
    Case(lambda w: convert(net(), optimizer=("sgd")), "'sgd'", "a torch.optim.Optimizer"),  # type: ignore[arg-type]
    Case(lambda w: convert(nn.Linear(2, 2)), "Linear has no normalisation", "give a model with some"),
    Case(lambda w: convert(convert(net())), "already converted", "build a fresh model"),
    Case(lambda w: convert(nn.DataParallel(net())), "DataParallel", "convert the plain model"),
    Case(lambda w: forward("advers"), "'advers'", "did you mean adv?"),
    Case(lambda w: forward(2), "no route 2", "0 to 1"),
    Case(lambda w: forward([0, 1]), "type list", "a LongTensor (N,)"),
    Case(lambda w: forward(torch.tensor([0, 1, 2, 0])), "from 0 to 2", "routes 0 to 1"),
    Case(lambda w: forward(torch.tensor([0, 1])), "2 per-sample", "one route per sample"),
    Case(lambda w: forward(torch.rand(4)), "torch.float32", "give a LongTensor (N,)"),
    Case(lambda w: forward(Split(clean=1, adv=1)), "covers 2", "make them equal"),
    Case(lambda w: Split(clean=-1), "clean=-1", "an int of at least 0"),
    Case(lambda w: Blend(clean=0.5, adv=0.6), "0.6", "sum to 1"),
    Case(lambda w: Blend([0.5, 0.5]), "[0.5, 0.5]", "one float tensor (R,)"),  # type: ignore[arg-type]
    Case(
        lambda w: bake(net(), "adv"),
        "Sequential has no routed layers",
        "give a model that convert() returned",
    ),
    Case(lambda w: bake(convert(net()), "clena"), "'clena'", "did you mean clean?"),
    Case(lambda w: bake(convert(net()), Split(clean=2, adv=2)), "Split", "give a route's name or number"),
    Case(lambda w: build("resnet-digit", 10), "'resnet-digit'", "did you mean resnet-digits?"),
    Case(lambda w: build("resnet-digits", "10"), "'10'", "1 to 1000000 classes"),  # type: ignore[arg-type]
    Case(lambda w: ThreatModel("L0", 0.1), "'L0'", "allowed are Linf, L2, L1"),  # type: ignore[arg-type]
    Case(lambda w: ThreatModel("Linf", 8), "eps 8", "8/255?"),
    Case(lambda w: ThreatModel("L2", -1.0), "eps is -1", "at least 0"),
    Case(lambda w: ThreatModel("L2", "8/255"), "'8/255'", "give a number"),  # type: ignore[arg-type]
    Case(lambda w: ThreatModel("L2", 1.0, 255), "bounds are 255", "(low, high)"),  # type: ignore[arg-type]
    Case(lambda w: PGD(8 / 255), "not 0.03", "ThreatModel('Linf', 8 / 255)"),  # type: ignore[arg-type]
    Case(lambda w: FGSM("Linf"), "threat is 'Linf'", "ThreatModel('Linf', 8 / 255)"),  # type: ignore[arg-type]
    Case(lambda w: PGD(BALL, steps=0), "steps is 0", "at least 1"),
    Case(lambda w: PGD(BALL, step_size="2/255"), "'2/255'", "2 / 255"),  # type: ignore[arg-type]
    Case(lambda w: PGD(BALL, loss="cw"), "'cw'", "ce, kl, margin, dlr"),  # type: ignore[arg-type]
    Case(lambda w: PGD(BALL, start="none", restarts=2), "start='none'", "start='uniform' or restarts=1"),
    Case(lambda w: PGD(BALL, generator=0)(net(), X, Y), "generator is 0", "manual_seed"),  # type: ignore[arg-type]
    Case(lambda w: PGD(BALL)(net(), (X * 255).byte(), Y), "torch.uint8", "x.float() / 255"),
    Case(lambda w: PGD(BALL)(net(), X * 255, Y), "0 to 255", "pass x / 255"),
    Case(lambda w: PGD(BALL)(net(), X - 0.5, Y), "-0.5 to 0.5", "undo the normalisation"),
    Case(lambda w: PGD(BALL)(net(), X[0, 0, 0], Y[0]), "shape (8,)", "x.unsqueeze(0)"),
    Case(lambda w: PGD(BALL)(net(), X, torch.eye(4)), "(4, 4)", "not one-hot"),
    Case(lambda w: PGD(BALL)(net(), X, Y + 7), "largest label is 9", "3 classes, counted from 0"),
    Case(lambda w: PGD(BALL)(lambda x: x.flatten(1) * torch.nan, X, Y), "NaN", "check its weights"),
]

DATA = [
    Case(lambda w: load("cifar-10"), "'cifar-10'", "did you mean cifar10?"),
    Case(lambda w: load(w / "float.npz"), "float.npz", "give text, one of digits"),  # type: ignore[arg-type]
    Case(lambda w: load(f"{w}/float.npz"), "float.npz", "did you mean npz:"),
    Case(lambda w: load("digits", n=0), "is 0, but the set has", "give 1 to 1085"),
    Case(lambda w: load("digits", n="9"), "'9', but the set has", "give 1 to 1085"),  # type: ignore[arg-type]
    Case(
        lambda w: load(f"cifar10:{w}"),
        "CIFAR10 cannot be read",
        "cifar10:ROOT, or download it by training with download=true",
    ),
    Case(
        lambda w: load(f"npz:{w}/none.npz"), "none.npz: no such file", "an .npz file with images and labels"
    ),
    Case(lambda w: load(f"npz:{w}/text.txt"), "text.txt is not an .npz", "numpy.savez"),
    Case(lambda w: load(f"npz:{w}/cut.npz"), "cut.npz", "numpy.savez"),
    Case(lambda w: load(f"npz:{w}/float.npz"), "not float64", "scale them to 0..255"),
    Case(lambda w: load(f"npz:{w}/first.npz"), "(20, 3, 8, 8)", "images.transpose(0, 2, 3, 1)"),
    Case(lambda w: load(f"npz:{w}/gap.npz"), "the largest is 38", "renumber them"),
    Case(lambda w: load(f"npz:{w}/alone.npz"), "images but no labels", "it needs images and labels"),
    Case(lambda w: load(f"imagefolder:{w}/none"), "none: no such folder", "PATH/CLASS/*.png"),
    Case(lambda w: load(f"imagefolder:{w}/img/cat"), "has no class folders", "put the images of class CLASS"),
    Case(lambda w: load(f"imagefolder:{w}/img,size=big"), "'big'", "for example ,size=64"),
    Case(lambda w: load(f"imagefolder:{w}/bare"), "dog has no images", "remove the folder"),
    Case(
        lambda w: load_test(f"imagefolder:{w}/img").batch(torch.arange(2)), "bad.png", "repair or remove it"
    ),
]

WEIGHTS = [
    Case(lambda w: load_weights(net(), w / "none.pt"), "none.pt", "give the path of a"),
    Case(lambda w: load_weights(net(), w / "text.txt"), "text.txt", "must end in .safetensors"),
    Case(lambda w: load_weights(net(), w / "cut.pt"), "cut.pt", "save it again"),
    Case(lambda w: load_weights(net(), w / "cut.safetensors"), "cut.safetensors", "save it again"),
    Case(lambda w: load_weights(net(), w / "code.pt"), "code.pt holds pickled code", "model.state_dict()"),
    Case(lambda w: load_weights(net(), w / "list.pt"), "list.pt holds list", "state_dict, model_state_dict"),
    Case(lambda w: load_weights(net(), w / "other.pt"), "8 missing", "weights of this architecture"),
    Case(
        lambda w: load_weights(nn.Linear(2, 3), w / "other.pt"),
        "2 classes, the network 3",
        "fresh_head=true",
    ),
    Case(lambda w: load_official(convert(net()), {"a": X}), "no bn_list", "use load_state_dict"),
    Case(lambda w: load_official(net(), {}), "no bn_list", "convert the model first"),
    Case(lambda w: resolve("resnet19"), "'resnet19'", "did you mean resnet18?"),
    Case(lambda w: resolve("torchvision:resnet19"), "'resnet19'", "did you mean resnet18"),
    Case(lambda w: resolve("json:dumpz"), "'dumpz'", "did you mean dump"),
    Case(lambda w: resolve("json:JSONDecoder"), "returned JSONDecoder", "not a torch.nn.Module"),
    Case(lambda w: resolve(f"{w}/nets.py:make"), "nets.py", "path/to/file.py:FUNCTION"),
    Case(lambda w: resolve(str(w / "img")), "img is not a run folder", "a folder that train wrote"),
    Case(lambda w: evaluate_run(w / "img"), "img is not a run folder", "a folder that train wrote"),
    Case(lambda w: evaluate_run(w / "cut"), "model.safetensors is truncated", "take another checkpoint"),
    Case(lambda w: evaluate_run(w / "edited"), "state.json was altered", "take another checkpoint"),
    Case(lambda w: evaluate_run(w / "run", checkpoint="first"), "first: no such", "there are: best, last"),
    Case(lambda w: evaluate_run(w / "run", route="advers"), "'advers'", "clean, adv"),
    Case(lambda w: evaluate_run(w / "run", data=f"npz:{w}/rgb.npz"), "(3, 8, 8)", "takes (1, 8, 8)"),
    Case(lambda w: evaluate_run(w / "run", data=f"npz:{w}/many.npz"), "the label 19", "0 to 9"),
    Case(lambda w: run(w, weights=str(w / "other.pt")), "other.pt does not fit", "of this architecture"),
]

COMMANDS = [
    Case("trian digits", "'trian'", "'train', 'evaluate'"),
    Case("train", "CONFIG", "see `robustsabn train --help`"),
    Case("train digit", "'digit'", "did you mean digits?"),
    Case("train {w}/none.yaml", "none.yaml: no such file", "give a YAML file or a recipe"),
    Case("train digits epohcs=3", "epohcs", "did you mean epochs?"),
    Case("train digits --epochs=3", "--epochs=3 is not an option", "give epochs=3"),
    Case("train digits --epochs 3", "--epochs is not an option", "give epochs=3;"),
    Case("train {w}/run", "run is a folder", "run/config.yaml, which continues that run with --resume"),
    Case("train digits --fast", "--fast is not an option", "see `robustsabn train --help`"),
    Case("train digits device=cpu out={w}/new --resume", "no checkpoint", "start it without --resume"),
    Case("train digits device=cpu out={w}/run", "holds a run", "continue it with --resume"),
    Case("train digits device=cpu out={w}/run --resume norm=bn", "norm is 'bn'", "its own configuration"),
    Case("train digits device=cpu out={w}/new data=npz:x.npz", "x.npz: no such file", "npz:PATH needs"),
    Case("train digits device=gpu", "'gpu'", "one of auto, cpu"),
    Case("train digits seeds=0,1 seed=3", "seed=3 beside seeds=", "leave it out"),
    Case("train digits seeds=0,1,1", "got 0,1,1", "distinct whole numbers"),
    Case("train digits seeds=0,one", "'one'", "expected a whole number"),
    Case("train digits seeds=-1,0", "got -1,0", "from 0"),
    Case("train digits seeds=", "got nothing", "a list, each a whole number"),
    Case("train digits seeds=0,1 --print-config seed=1", "seed=1 beside seeds=", "leave it out"),
    Case("train digits device=cpu seeds=0 out={w}/run", "run holds a single run", "choose another folder"),
    Case("train digits device=cpu seeds=0 out={w}/new --resume", "new holds no run", "without --resume"),
    Case("train digits device=cpu seeds=0 out={w}/text.txt", "text.txt is a file", "choose a folder"),
    Case("compare", "RUN", "see `robustsabn compare --help`"),
    Case("compare {w}/none", "none is not a run folder", "a folder that train wrote"),
    Case("compare {w}/cut", "cut has not ended", "cut/config.yaml --resume"),
    Case("compare {w}/img {w}/cut", "img is not a run folder", "a folder that train wrote (and 1 more"),
    Case("compare {w}/run --html {w}/img", "img is a folder", "give a file"),
    Case("compare {w}/run --json {w}/text.txt/x.json", "text.txt", "check that the folder"),
    Case("evaluate", "RUN", "see `robustsabn evaluate --help`"),
    Case("evaluate {w}/none", "none is not a run folder", "a folder that train wrote"),
    Case("evaluate {w}/run --attack cw", "'cw'", "write pgd-STEPS"),
    Case("evaluate {w}/run --route advers", "'advers'", "clean, adv"),
    Case("evaluate {w}/run --n ten", "'ten'", "--n: invalid int value"),
    Case("evaluate {w}/run --n 0", "got 0", "--n must be at least 1"),
    Case("evaluate {w}/run --batch-size 0", "got 0", "at least 1"),
    Case("evaluate {w}/run --n 9999", "9999, but the set has", "give 1 to 355"),
    Case("evaluate {w}/run --checkpoint first", "'first'", "'best', 'last'"),
    Case("evaluate {w}/run --device gpu", "'gpu'", "give cpu, cuda or cuda:N"),
    Case("evaluate {w}/run --device cuda:99", "cuda:99", "use cpu"),
    Case("evaluate {w}/run --data svhm", "'svhm'", "did you mean svhn?"),
    Case("evaluate {w}/cut", "model.safetensors is truncated", "take another checkpoint"),
    Case("export {w}/run --route adv", "--out", "see `robustsabn export --help`"),
    Case("export {w}/run --out {w}/x.safetensors", "no route is given (route=, --route)", "clean, adv"),
    Case("export {w}/run --route all --out {w}/x.safetensors", "'all'", "clean, adv"),
    Case("export {w}/run --route adv --out {w}/x.h5", "'h5'", "allowed: safetensors, onnx, pt2"),
    Case(
        "export {w}/run --route adv --format pt2 --out {w}/img", "img is a folder", "give the path of a file"
    ),
    Case("export {w}/run --route adv --out {w}/text.txt/x.pt2", "text.txt", "choose another"),
    Case("recipes digits", "digits", "see `robustsabn recipes --help`"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that cannot be used, one run that can, and two that were damaged."""
    w = tmp_path_factory.mktemp("wrong")
    train({**SETTINGS, "out": str(w / "run")})
    for name in ("cut", "edited"):
        (w / name / "checkpoints" / "best").mkdir(parents=True)
        for file in ("config.yaml", "checkpoints/best/state.json", "checkpoints/best/model.safetensors"):
            (w / name / file).write_bytes((w / "run" / file).read_bytes())
    weights = w / "cut" / "checkpoints" / "best" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    state = w / "edited" / "checkpoints" / "best" / "state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "step": 9}))
    (w / "text.txt").write_text("text")
    (w / "broken.yaml").write_text("a: [1\nb: }")
    (w / "twice.yaml").write_text("seed: 1\nseed: 2")
    (w / "listkey.yaml").write_text("[seed, 2]: 3")
    (w / "code.yaml").write_text("seed: !!python/object/apply:os.getcwd []")
    grey, labels = np.zeros((20, 8, 8), np.uint8), np.zeros(20, np.int64)
    np.savez(w / "float.npz", images=grey / 255, labels=labels)
    np.savez(w / "first.npz", images=np.zeros((20, 3, 8, 8), np.uint8), labels=labels)
    np.savez(w / "rgb.npz", images=np.zeros((20, 8, 8, 3), np.uint8), labels=labels)
    np.savez(w / "gap.npz", images=grey, labels=2 * np.arange(20))
    np.savez(w / "many.npz", images=grey, labels=np.arange(20))
    np.savez(w / "alone.npz", images=grey)
    (w / "cut.npz").write_bytes((w / "gap.npz").read_bytes()[:200])
    for place in ("img/cat", "img/dog", "bare/cat", "bare/dog"):
        (w / place).mkdir(parents=True)
    for place in ("img/cat/a.png", "bare/cat/a.png"):
        Image.new("L", (8, 8)).save(w / place)
    (w / "img" / "dog" / "bad.png").write_text("not a picture")
    torch.save(net(), w / "code.pt")
    torch.save([1, 2], w / "list.pt")
    torch.save(nn.Linear(2, 2).state_dict(), w / "other.pt")
    (w / "cut.pt").write_text("abc")
    (w / "cut.safetensors").write_text("abc")
    return w


@pytest.mark.parametrize("case", [*CONFIGURATION, *CALLS, *DATA, *WEIGHTS, *COMMANDS], ids=lambda c: c.given)
def test_a_wrong_usage_is_told_in_one_line(
    case: Case, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if isinstance(case.do, str):
        assert main(shlex.split(case.do.format(w=folder))) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        message = printed.err.removesuffix("\n")
    else:
        with pytest.raises(RobustsabnError) as caught:
            case.do(folder)
        message = str(caught.value)
    assert "\n" not in message
    assert "Traceback" not in message
    assert case.given in message
    assert case.remedy in message
    assert not (folder / "new").exists()
