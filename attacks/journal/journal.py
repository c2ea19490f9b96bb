"""A journal of finished points in a folder: a resume attacks only the unfinished points again."""

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from robustsabn.attacks.autoattack.majority import Votes
from robustsabn.attacks.autoattack.verdicts import Finished
from robustsabn.attacks.journal.identity import difference
from robustsabn.attacks.journal.same_model import Answers
from robustsabn.errors import InputError
from robustsabn.files import make_folder, write_text, writing
from robustsabn.text import shorten

__all__ = ["Journal"]


class Journal:
    """Records in `folder`, one file per process and call: `part-0000.bin` and so on.

    A record is a line with its length and checksum, a line of JSON, and the adversarial images as float32. An
    incomplete record at the end of a file is ignored. `identity` (`identity_of`) and the `answers` of the
    model tell evaluations apart. Raises InputError where the folder holds a journal and `resume` is False, or
    the journal belongs to another evaluation."""

    def __init__(
        self,
        folder: Path,
        identity: dict[str, Any],
        answers: Answers,
        shape: tuple[int, ...],
        *,
        resume: bool,
    ) -> None:
        self.folder, self.answers, self.shape = folder, answers, shape
        self.attacks, self.points = len(identity["attacks"]), identity["n"]
        self._file: BinaryIO | None = None
        self.parts = sorted(folder.glob("part-*.bin"))
        known = folder / "identity.json"
        if known.exists() and not resume:
            raise InputError(
                f"{folder} already holds an evaluation; continue it with resume (--resume), or give another "
                "folder"
            )
        if known.exists():
            _check_same(known, identity)
            answers.check(folder / "clean.safetensors")
            return
        if self.parts:
            raise InputError(
                f"{folder} has lost its {known.name} and cannot be continued; give another folder"
            )
        make_folder(folder)
        answers.write(folder / "clean.safetensors")
        write_text(known, json.dumps(identity, indent=2) + "\n")

    def read(self) -> Iterator[Finished]:
        """Every complete record of earlier calls."""
        for part in self.parts:
            with part.open("rb") as file:
                while record := _record(file):
                    try:
                        yield self._decode(record)
                    except (
                        KeyError,
                        TypeError,
                        ValueError,
                        RuntimeError,
                        OverflowError,
                        AttributeError,
                    ) as error:
                        raise InputError(
                            f"{part} holds a record that does not belong to this evaluation "
                            f"({shorten(error, 80)}); start again in another folder"
                        ) from error

    def append(self, finished: Finished, writer: int = 0) -> None:
        """Write one record through to the operating system; `writer` is the rank of the process."""
        head: dict[str, Any] = {name: column.tolist() for name, column in finished.columns().items()}
        head |= {"attack": finished.attack, "seconds": finished.seconds}
        body = json.dumps(head).encode() + b"\n" + finished.images.contiguous().numpy().tobytes()
        if self._file is None:
            last = int(self.parts[-1].stem.split("-")[1]) if self.parts else -1
            self._file = (self.folder / f"part-{last + 1 + writer:04d}.bin").open("xb")
        with writing(self.folder):
            self._file.write(f"{len(body)} {zlib.crc32(body)}\n".encode() + body)
            self._file.flush()

    def votes(self, name: str) -> Votes | None:
        """The vote that an earlier call kept under `name`, or None."""
        path = self._votes(name)
        if not path.exists():
            return None
        try:
            return Votes(**load_file(path))
        except (OSError, TypeError, SafetensorError) as error:
            raise InputError(f"{path} cannot be read ({error}); start again in another folder") from None

    def keep(self, name: str, votes: Votes) -> None:
        """Keep a vote for a later resume, since another vote could end differently."""
        path = self._votes(name)
        aside = path.with_name(f"{path.name}.writing")
        save_file(votes.columns(), aside)
        aside.chmod(0o644)
        aside.replace(path)

    def _votes(self, name: str) -> Path:
        return self.folder / f"votes-{name}.safetensors"

    def close(self) -> None:
        if self._file:
            with writing(self.folder):
                self._file.close()
            self._file = None

    def _decode(self, body: bytes) -> Finished:
        line, _, pixels = body.partition(b"\n")
        head = json.loads(line)
        attack, seconds = head.pop("attack"), head.pop("seconds")
        columns = {name: torch.tensor(values, dtype=torch.long) for name, values in head.items()}
        for name in ("broken", "flat", "strange", "undefined"):
            columns[name] = columns[name].bool()
        images = torch.from_numpy(np.frombuffer(pixels, dtype=np.float32).copy()).view(-1, *self.shape)
        finished = Finished(attack=attack, seconds=float(seconds), images=images, **columns)
        numbers, count = finished.numbers, int(finished.broken.sum())
        consistent = attack in range(self.attacks) and seconds >= 0 and len(images) == count
        consistent &= all(column.shape == numbers.shape for column in columns.values()) and numbers.ndim == 1
        if not consistent or not ((numbers >= 0) & (numbers < self.points)).all():
            raise ValueError("its numbers are inconsistent")
        return finished


def _record(file: BinaryIO) -> bytes | None:
    """The next complete record, or None."""
    try:
        length, check = (int(word) for word in file.readline(64).split())
    except ValueError:
        return None
    if not 0 <= length <= os.fstat(file.fileno()).st_size:
        return None
    body = file.read(length)
    return body if len(body) == length and zlib.crc32(body) == check else None


def _check_same(known: Path, identity: dict[str, Any]) -> None:
    try:
        before = json.loads(known.read_text(encoding="utf-8"))
        words = difference(before, identity)
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise InputError(
            f"{known} cannot be read ({shorten(error, 80)}); start again in another folder"
        ) from None
    if words:
        raise InputError(
            f"{known.parent} belongs to another evaluation: it {words}; resume with the same settings, or "
            "give another folder"
        )
