"""Files that were damaged or made up: data sets, weights, configurations, run folders."""

import json
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from robustsabn.data import load
from robustsabn.models import load_weights
from robustsabn.trainers import evaluate_run, load_run_config, load_run_model, train
from tests.helpers.hostile.server import Case

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
        *_arrays(sound, made),
        *_weights(sound, made),
        *_configurations(made),
        *_pictures(sound, made),
        *_runs(sound, made),
        *_journals(sound, made),
    ]


def damaged(content: bytes) -> dict[str, bytes]:
    """A file's content after the usual accidents."""
    flipped = bytearray(content)
    for i in range(0, len(flipped), max(1, len(flipped) // 40)):
        flipped[i] ^= 0x55
    half = len(content) // 2
    return {
        "empty": b"",
        "one byte": b"\x00",
        "cut to ten": content[:10],
        "half": content[:half],
        "cut by one": content[:-1],
        "flipped": bytes(flipped),
        "zeros": bytes(len(content)),
        "text": b"not what you think\n" * 20,
        "html": b"<!DOCTYPE html><html>404 Not Found</html>",
        "null": b"null",
        "list": b"[1, 2, 3]",
    }


def _arrays(sound: Path, made: Path) -> list[Case]:
    grey, labels = np.zeros((20, 8, 8), np.uint8), np.arange(20) % 10
    objects = np.array([{"a": 1}] * 20, dtype=object)
    written: dict[str, dict[str, object]] = {
        "object images": {"images": objects, "labels": labels},
        "object labels": {"images": grey, "labels": objects},
        "object classes": {"images": grey, "labels": labels, "classes": objects},
        "complex": {"images": grey.astype(complex), "labels": labels},
        "scalar": {"images": np.uint8(3), "labels": np.int64(3)},
        "void": {"images": np.zeros(20, dtype=[("a", "u1")]), "labels": labels},
        "five dimensions": {"images": grey[..., None, None], "labels": labels},
        "float labels": {"images": grey, "labels": labels / 2},
        "nan labels": {"images": grey, "labels": np.full(20, np.nan)},
        "negative": {"images": grey, "labels": labels - 5},
        "huge labels": {"images": grey, "labels": np.full(20, 2**62)},
        "unsigned labels": {"images": grey, "labels": np.full(20, 2**64 - 1, np.uint64)},
        "fewer labels": {"images": grey, "labels": labels[:5]},
        "no images": {"images": grey[:0], "labels": labels[:0]},
        "one image": {"images": grey[:1], "labels": labels[:1]},
        "date labels": {"images": grey, "labels": np.full(20, np.datetime64("2020-01-01"))},
        "no classes": {"images": grey, "labels": labels, "classes": np.array([], dtype="U1")},
        "nothing": {},
    }
    found = []
    for name, arrays in written.items():
        np.savez(made / f"{name}.npz", **arrays)  # type: ignore[arg-type]
        found.append(_data(f"npz {name}", f"npz:{made}/{name}.npz"))
    content = (sound / "sound.npz").read_bytes()
    for name, new in damaged(content).items():
        (made / f"damaged {name}.npz").write_bytes(new)
        found.append(_data(f"npz {name}", f"npz:{made}/damaged {name}.npz"))
    _encrypt(sound / "sound.npz", made / "encrypted.npz")
    _recode(made / "method.npz", method=97)
    _headers(made)
    names = ("encrypted", "method", "huge header", "code in header", "wrong header", "twice", "not arrays")
    return [*found, *(_data(f"npz {name}", f"npz:{made}/{name}.npz") for name in names)]


def _encrypt(source: Path, target: Path) -> None:
    """Set the bit of encryption of every member."""
    content = bytearray(source.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(mark)
        while at >= 0:
            content[at + offset] |= 1
            at = content.find(mark, at + 4)
    target.write_bytes(content)


def _recode(target: Path, method: int) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("images.npy", b"abc")
        archive.writestr("labels.npy", b"abc")
    content = bytearray(target.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = content.find(mark)
        while at >= 0:
            content[at + offset : at + offset + 2] = struct.pack("<H", method)
            at = content.find(mark, at + 4)
    target.write_bytes(content)


def _headers(made: Path) -> None:
    def member(header: str) -> bytes:
        text = header.encode() + b"\n"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text

    huge = member("{'descr': '|u1', 'fortran_order': False, 'shape': (99999999, 9999, 9999), }")
    code = member("__import__('os').getcwd()")
    wrong = member("{'descr': '|u1', 'shape': 'x'}")
    for name, content in (("huge header", huge), ("code in header", code), ("wrong header", wrong)):
        with zipfile.ZipFile(made / f"{name}.npz", "w") as archive:
            archive.writestr("images.npy", content)
            archive.writestr("labels.npy", content)
    with zipfile.ZipFile(made / "not arrays.npz", "w") as archive:
        archive.writestr("images", b"text")
        archive.writestr("labels", b"text")
    (made / "twice.npz").write_bytes(2 * b"PK\x05\x06" + bytes(40))


def _data(name: str, spec: str) -> Case:
    return Case(name, lambda: load(spec))


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


def _pictures(sound: Path, made: Path) -> list[Case]:
    found = []
    for ending, format in ((".png", "PNG"), (".tiff", "TIFF"), (".jpg", "JPEG"), (".bmp", "BMP")):
        whole = made / f"whole{ending}"
        Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)).save(whole, format)
        for name, content in damaged(whole.read_bytes()).items():
            if name in ("flipped", "cut by one"):
                continue  # may still be decoded
            folder = made / f"photos {name}{ending}"
            shutil.copytree(sound / "photos", folder)
            (folder / "cat" / f"bad{ending}").write_bytes(content)
            found.append(Case(f"picture {name}{ending}", _decode(folder)))
        whole.unlink()
    return found


def _decode(folder: Path) -> Callable[[], object]:
    def do() -> object:
        data = load(f"imagefolder:{folder},size=8", validation=1)
        for images in (data.train, data.validation, data.test):
            images.batch(torch.arange(len(images)))
        return None

    return do


STATES = ("null", "[]", "{}", '"text"', "3", '{"step": 1}', "{", '{"files": null}', "NaN")


def _runs(sound: Path, made: Path) -> list[Case]:
    found = []
    run = sound / "run"
    files = [path.relative_to(run) for path in sorted(run.rglob("*")) if path.is_file()]
    wanted = [f for f in files if f.name in ("config.yaml", "state.json", "model.safetensors")]
    for file in wanted:
        for name, content in damaged((run / file).read_bytes()).items():
            if file.parts[-2:-1] != ("best",) and file.name != "config.yaml":
                continue
            if file.name == "state.json" and name == "cut by one":
                continue  # its end of line
            if file.name == "config.yaml" and name in ("empty", "cut by one", "half", "cut to ten"):
                continue  # what is left of it may be a configuration
            new = made / f"run {name} {file.name}"
            shutil.copytree(run, new)
            (new / file).write_bytes(content)
            found.append(Case(f"run {name} {file}", _ask_run(new)))
    state = next(f for f in files if f.name == "state.json" and "best" in f.parts)
    for i, text in enumerate(STATES):
        new = made / f"state {i}"
        shutil.copytree(run, new)
        (new / state).write_text(text)
        found.append(Case(f"state {text}", _ask_run(new)))
    missing = made / "run without checkpoints"
    shutil.copytree(run, missing)
    shutil.rmtree(missing / "checkpoints")
    found.append(Case("run without checkpoints", _ask_run(missing)))
    for verb in ("evaluate", "report", "compare", "export"):
        for place in (made / "nowhere", sound / "photos", sound / "sound.npz", missing):
            words = ["--route", "adv", "--out", "x.pt2"] if verb == "export" else []
            if verb in ("report", "compare") and place == missing:
                continue  # these ask no checkpoint
            found.append(Case(f"{verb} {place.name}", [verb, str(place), *words]))
    return found


def _ask_run(folder: Path) -> Callable[[], object]:
    def do() -> object:
        load_run_config(folder)
        load_run_model(folder)
        return evaluate_run(folder, n=2)

    return do


def _journals(sound: Path, made: Path) -> list[Case]:
    """Records of runs and reports of evaluations that make no sense: page and table skip or refuse them."""
    found = []
    records = (
        "null",
        "3",
        "[]",
        "{}",
        '{"kind": 3}',
        '{"kind": "test"}',
        '{"kind": "test", "clean": 3}',
        '{"kind": "train", "step": "x"}',
        '{"kind": "validation", "step": 1, "robust": {}}',
        '{"kind": "validation", "step": 1, "robust": {"a": 3}, "clean": []}',
        '{"kind": "train", "step": 1e400, "images_per_second": 0}',
        "\x00" * 100,
        "{" * 10_000,
    )
    for i, text in enumerate(records):
        for how in ("alone", "more"):
            new = made / f"records {i} {how}"
            shutil.copytree(sound / "run", new)
            metrics = new / "metrics.jsonl"
            metrics.write_text((metrics.read_text() if how == "more" else "") + text + "\n")
            for verb in ("compare", "report"):
                case = Case(f"{verb} records {text[:50]} {how}", [verb, str(new)], right=True)
                found.append(case)
    for i, text in enumerate(
        (*STATES, '{"about": 3}', '{"about": {"checkpoint": "best", "data": "digits"}}')
    ):
        new = made / f"report {i}"
        shutil.copytree(sound / "run", new)
        for route in ("adv", "clean", "all"):
            place = new / "report" / f"autoattack-{route}"
            place.mkdir(parents=True, exist_ok=True)
            (place / "report.json").write_text(text)
        (new / "report" / "evaluation.json").write_text(text)
        for verb in ("compare", "report"):
            found.append(Case(f"{verb} report.json {text}", [verb, str(new)], right=True))
    return found
