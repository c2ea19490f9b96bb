"""The subject of an evaluation: a classifier in eval mode, and the images."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from robustsabn.attacks.model.logits import Gate
from robustsabn.data.sets import permutation
from robustsabn.data.specs import Tested, read_test
from robustsabn.errors import DataError, InputError, RouteError
from robustsabn.models import names, resolve
from robustsabn.models.spec import run_folder
from robustsabn.report.provenance import file_sha256, tensors_sha256
from robustsabn.routing import routes_of
from robustsabn.text import quote
from robustsabn.trainers.adversarial.evaluation.chance import chance_note
from robustsabn.trainers.adversarial.evaluation.images import evaluated
from robustsabn.trainers.adversarial.runs.models import load_run
from robustsabn.trainers.checkpoints.files import read_facts
from robustsabn.trainers.runs.folder import RunFolder

__all__ = ["Subject", "prepare"]


_GLANCE = 128  # images to check whether the model is better than guessing
_MOST = 100_000  # most classes of a network that is built by the largest label


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A plain network in eval mode, and images x (N, C, H, W) in [0, 1] with labels y (N,) and numbers ids
    (N,).

    Images are on the CPU. `classes` names the labels, if the data or the run does. `about` describes model
    and data, `notes` are lines about the images, and `doubts` are lines about probable mistakes."""

    model: nn.Module
    x: Tensor
    y: Tensor
    ids: Tensor
    classes: tuple[str, ...] | None
    about: dict[str, str]
    device: torch.device
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def there(self) -> tuple[Tensor, Tensor]:
        """Images and labels on the model's device."""
        return self.x.to(self.device), self.y.to(self.device)


def prepare(
    model: str,
    data: str,
    *,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    n: int | None = None,
    route: str | None = None,
    download: bool = False,
    device: torch.device | str = "cpu",
) -> Subject:
    """The network that `model` names, on `device`, and `n` test images of `data`, all by default.

    A model with routes becomes the plain network of `route`, the last one by default. Without `num_classes` a
    network that is built here gets the number of classes of the data. Raises ModelError, DataError,
    RouteError, CheckpointError, and InputError for outputs that are not logits."""
    folder = run_folder(model, weights)
    if folder is not None:
        run = load_run(folder)
        tested, network = evaluated(run, data, download=download), run.model
    else:
        tested = read_test(data, download=download)
        network = _built(model, weights, num_classes, tested)
    images, classes = tested.images.sample(n), tested.classes
    about = {"model": model, "data": data}
    if weights is not None:
        about["weights"] = str(weights)
    about["weights_sha256"] = _weights_sha256(folder, weights, network)
    routes = routes_of(network)
    if route is not None and route not in routes:
        raise RouteError(
            f"no route {quote(route)}: {model} has {', '.join(routes) or 'none, leave --route out'}"
        )
    if routes:
        from robustsabn.conversion.bake import bake

        about["route"] = route or routes[-1]
        network = bake(network, about["route"])
    x, y = images.batch(torch.arange(len(images)))
    network = network.to(device).eval()
    width = _check(network, x, model, data, device)
    doubts = _doubts(network, x, y, classes, width, device)
    if weights is None and (model in names() or model.startswith(("torchvision:", "timm:"))):
        doubts.insert(
            0,
            f"{model} has random weights; give the trained ones by --weights FILE",
        )
    return Subject(
        model=network,
        x=x,
        y=y,
        ids=images.ids,
        classes=classes,
        about=about,
        device=torch.device(device),
        notes=tested.notes,
        doubts=tuple(doubts),
    )


def _weights_sha256(folder: Path | None, weights: str | Path | None, network: nn.Module) -> str:
    """SHA-256 of the file of weights; of all tensors of a network that has none."""
    if folder is not None:
        files: dict[str, str] = read_facts(RunFolder(folder).checkpoints, "best")["files"]
        return files.get("model.safetensors", "")
    return tensors_sha256(network.state_dict()) if weights is None else file_sha256(weights)


def _built(model: str, weights: str | Path | None, num_classes: int | None, tested: Tested) -> nn.Module:
    labels, classes = tested.images.labels, tested.classes
    if num_classes is None and classes is not None and len(classes) > 1:
        num_classes = len(classes)
    elif num_classes is None and (
        weights is None or model not in names()
    ):  # weights tell the number of classes
        num_classes = max(2, int(labels.max()) + 1)
        if num_classes > _MOST:
            raise DataError(f"the largest label is {num_classes - 1}; if that is right, give --num-classes")
    return resolve(model, weights=weights, num_classes=num_classes, in_channels=tested.images.shape[0])


def _doubts(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    classes: tuple[str, ...] | None,
    width: int,
    device: torch.device | str,
) -> list[str]:
    """Lines about labels that are probably numbered differently, and about an accuracy as by guessing."""
    lines = []
    if classes is not None and 1 < width != len(classes):
        lines.append(
            f"the network has {width} classes, but the data names {len(classes)}: label k is taken as the "
            f"k-th of these, 0 as {classes[0]!r}; this is right only if the data has a folder for each "
            "class of the training"
        )
    some = permutation(len(x), 0)[:_GLANCE]
    with torch.no_grad():
        logits = Gate(network, x)
        predicted = torch.cat(
            [logits(part.to(device)).argmax(1).cpu() for part in torch.split(x[some], _GLANCE // 4)]
        )
    right = int((predicted == y[some]).sum())
    if note := chance_note(right, len(some), max(width, 2)):
        lines.append(note)
    elif len(some) > 9 and len(set(predicted.tolist())) == 1 and len(set(y[some].tolist())) > 1:
        lines.append(
            f"the network predicts class {int(predicted[0])} for each of {len(some)} images; is it trained?"
        )
    return lines


def _check(network: nn.Module, x: Tensor, model: str, data: str, device: torch.device | str) -> int:
    """Number of classes of the network; InputError if its outputs are not logits."""
    try:
        with torch.no_grad():
            return Gate(network, x)(x[:16].to(device)).shape[1]
    except InputError as error:
        raise InputError(f"{model} on {data}: {error}") from error
