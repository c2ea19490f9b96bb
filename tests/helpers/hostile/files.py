"""Files that were damaged or made up: data sets, weights, configurations, run folders."""

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from robustsabn.models import load_weights
from robustsabn.trainers import train
from tests.helpers.hostile.case import Case, damaged
from tests.helpers.hostile.data_files import arrays, pictures
from tests.helpers.hostile.run_files import journals, runs

TINY = """\
images: 32
batch_size: 32
steps: 1
attack: {eps: 0.1, steps: 1}
validation: {images: 10, steps: 1}
test: {images: 10, steps: 1}
device: cpu
"""


def network() -> nn.Module:
    """A network of plain batch normalisation for digits."""
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)
    return nn.Sequential(*layers).eval()


def prepare(folder: Path) -> Path:
    """A folder with sound files: tiny.yaml, run, sound.npz, sound.safetensors, sound.pt, net.py, photos."""
    place = folder / "sound"
    place.mkdir(parents=True)
    (place / "tiny.yaml").write_text(TINY)
    train(place / "tiny.yaml", [f"out={place}/run"])
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (20, 8, 8), dtype=np.uint8), np.arange(20) % 10
    np.savez(place / "sound.npz", images=images, labels=labels)
    torch.manual_seed(0)
    torch.save(network().state_dict(), place / "sound.pt")
    from safetensors.torch import save_file

    save_file(network().state_dict(), place / "sound.safetensors")
    (place / "net.py").write_text(
        "from torch import nn\n\n\ndef make(num_classes=10):\n    return nn.Sequential(nn.Flatten(), "
        "nn.Linear(64, num_classes))\n"
    )
    for name in ("cat", "dog"):
        (place / "photos" / name).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(images[i]).save(place / "photos" / name / f"{i}.png")
    return place


def cases(sound: Path) -> list[Case]:
    """All of them; the folder `sound` stays as it is."""
    made = sound.parent / "made"
    made.mkdir()
    return [
        *arrays(sound, made),
        *_weights(sound, made),
        *_configurations(made),
        *pictures(sound, made),
        *runs(sound, made),
        *journals(sound, made),
    ]


def _weights(sound: Path, made: Path) -> list[Case]:
    found = []
    for file in ("sound.pt", "sound.safetensors"):
        for name, content in damaged((sound / file).read_bytes()).items():
            place = made / f"{name}{Path(file).suffix}"
            place.write_bytes(content)
            found.append(Case(f"weights {name}{place.suffix}", _load(place)))
    headers = {
        "huge header": struct.pack("<Q", 2**62),
        "long header": struct.pack("<Q", 2**40) + b"{}",
        "not JSON": struct.pack("<Q", 4) + b"abcd",
        "beyond": struct.pack("<Q", 60)
        + json.dumps({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}).encode().ljust(60),
        "no tensors": struct.pack("<Q", 2) + b"{}",
    }
    for name, content in headers.items():
        (made / f"{name}.safetensors").write_bytes(content)
        found.append(Case(f"weights {name}.safetensors", _load(made / f"{name}.safetensors")))
    (made / "code.pt").write_bytes(pickle.dumps(print))
    torch.save({"a": 3}, made / "numbers.pt")
    torch.save({1: torch.ones(2)}, made / "number keys.pt")
    torch.save({"state_dict": None}, made / "none.pt")
    torch.save({k: v.to("meta") for k, v in network().state_dict().items()}, made / "meta.pt")
    torch.save({k: v.to_sparse() for k, v in network().state_dict().items() if v.ndim}, made / "sparse.pt")
    names = ("code", "numbers", "number keys", "none", "meta", "sparse")
    (made / "folder.pt").mkdir()
    (made / "folder.safetensors").mkdir()
    paths = [made / f"{name}.pt" for name in names] + [made / "folder.pt", made / "folder.safetensors"]
    return [*found, *(Case(f"weights {path.name}", _load(path)) for path in paths)]


def _load(path: Path) -> Callable[[], object]:
    return lambda: load_weights(network(), path)


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)

YAMLS = {
    "bomb": BOMB,
    "bomb of mappings": "a: &a {x: 1}\n"
    + "".join(
        f"{b}: &{b} {{{', '.join(f'{k}: *{a}' for k in 'stuvwxyz')}}}\n"
        for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "recursive": "model_options: &a {a: *a}",
    "recursive list": "routes: &a [*a]",
    "deep": "model_options: " + "{a: " * 3000 + "1" + "}" * 3000,
    "deep list": "routes: " + "[" * 5000 + "]" * 5000,
    "merge of itself": "model_options: &a {<<: *a}",
    "merge of a number": "model_options: {<<: 3}",
    "tabs": "a:\n\t- b",
    "control": "seed: 1\x00\x01",
    "not UTF-8": "seed: \udcff",
    "tag": "seed: !!python/object/apply:os.system [ls]",
    "tag of a name": "seed: !!python/name:os.system",
    "own tag": "seed: !mine 3",
    "float tag": "seed: !!float abc",
    "int tag": "seed: !!int abc",
    "bool tag": "seed: !!bool maybe",
    "binary tag": "out: !!binary '=='",
    "timestamp tag": "out: !!timestamp never",
    "bad date": "out: 2026-99-99",
    "set": "seed: !!set {a, b}",
    "ordered": "seed: !!omap [a: 1]",
    "pairs": "seed: !!pairs [a: 1]",
    "two documents": "seed: 1\n---\nseed: 2",
    "scalar": "digits",
    "list": "- seed",
    "number key": "1: 2",
    "none key": "~: 2",
    "bool key": "yes: 2",
    "date key": "2026-01-01: 2",
    "long": "x" * 1_000_000,
    "long key": "x" * 1_000 + ": 1",
    "many digits": "seed: " + "9" * 10_000,
    "hexadecimal": "seed: 0x" + "f" * 10_000,
    "minutes": "seed: 1:30",
    "time": "seed: 12:30:45",
    "date": "seed: 2026-01-01",
    "on": "download: on",
    "off": "download: off",
    "octal text": "seed: 0o777x",
    "infinity": "optim: {lr: .inf}",
    "nan": "optim: {lr: .nan}",
    "unknown alias": "seed: *nowhere",
    "unclosed": "seed: [1, 2",
    "anchor alone": "&a",
    "directive": "%YAML 9.9\n---\nseed: 1\n...\nseed",
}


def _configurations(made: Path) -> list[Case]:
    found = []
    for name, text in YAMLS.items():
        path = made / f"{name}.yaml"
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        words = ["train", str(path), "device=cpu", "--print-config"]
        found.append(Case(f"yaml {name}", words, right=name in ("on", "off", "bad date")))
    return found
