"""AutoAttack: an ensemble of attacks, each on the points that the ones before it left."""

import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from robustsabn import __version__
from robustsabn.attacks.autoattack.ensemble import Ensemble, ProgressEvent
from robustsabn.attacks.autoattack.flags import by_attacks, by_kind, by_majority, in_train_mode, seen_on
from robustsabn.attacks.autoattack.verdicts import Verdicts
from robustsabn.attacks.autoattack.versions import attacks_of
from robustsabn.attacks.autoattack.workers import Workers
from robustsabn.attacks.counts import seed_of
from robustsabn.attacks.folding.search_model import search_model
from robustsabn.attacks.journal.identity import identity_of
from robustsabn.attacks.journal.journal import Journal
from robustsabn.attacks.journal.same_model import Answers
from robustsabn.attacks.model.counted import mistaken
from robustsabn.attacks.model.inputs import check_batch, check_classes, check_threat, check_values, ordinary
from robustsabn.attacks.model.logits import Model
from robustsabn.attacks.model.mode import attack_mode
from robustsabn.attacks.model.verifier import Verifier, device_of
from robustsabn.attacks.report import FRAGILE, Report
from robustsabn.attacks.search.base import Search
from robustsabn.attacks.threat import ThreatModel
from robustsabn.errors import InputError
from robustsabn.locks import locked
from robustsabn.paths import given_path
from robustsabn.scalars import whole
from robustsabn.text import quote

__all__ = ["AutoAttack", "ProgressEvent"]


class AutoAttack:
    """Robust accuracy under the AutoAttack ensemble, verified by the untouched model in float32.

    Versions: `standard` (APGD-CE, APGD-T, FAB-T, Square), `plus`, `rand` (gradients averaged over 20 draws) as published; `custom` runs the list `attacks` of names or attacks; `fast` is no published version: about
    a tenth of the passes of `standard`, for numbers that need not be put beside others.
    With `rand`, and for a model that is seen to be random, verdicts on clean and adversarial images are by majority of
    11 to 1001 answers that nothing was chosen by; the authors' code counts one lucky answer among thousands.
    A sample's verdict is a function of (`seed`, its number, the weights): not of `batch_size`, order or processes,
    as far as the network computes an image the same way in every batch (docs/autoattack.md: threads, GPUs).
    `folder` keeps a journal; after a kill the same call with `resume=True` goes on where it was. `fold` searches on a
    cheaper copy of the network where one can be made safely; `compile` compiles that copy; `autocast` searches in
    bfloat16. Success is always judged by the model itself. `progress` is called with `ProgressEvent`s.
    Where torch.distributed is initialised, the processes share the points and each returns the whole report.
    Raises InputError for unusable arguments, images, labels, logits, and for a folder that is in use.
    Source: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
    parameter-free attacks", ICML 2020.
    """

    def __init__(
        self,
        threat: ThreatModel,
        *,
        version: str = "standard",
        attacks: Sequence[str | Search[Any]] | None = None,
        seed: int = 0,
        batch_size: int | Literal["auto"] = "auto",
        folder: str | Path | None = None,
        resume: bool = False,
        progress: Callable[[ProgressEvent], None] | None = None,
        compile: bool = False,
        autocast: bool = False,
        fold: bool = True,
    ) -> None:
        check_threat(threat)
        size = None if isinstance(batch_size, str) and batch_size == "auto" else whole(batch_size) or 0
        if size is not None and size < 1:
            raise InputError(f"batch_size is {quote(batch_size)}; give auto or a whole number from 1")
        seed = seed_of(seed, 0)
        if resume and folder is None:
            raise InputError("resume needs the folder that the evaluation was begun with")
        self.attacks = attacks_of(version, threat, seed, attacks)
        self.threat, self.version, self.seed, self.batch_size = threat, version, seed, size
        self.folder = None if folder is None else given_path(folder, "folder", InputError)
        self.resume, self.progress = resume, progress
        self.compile, self.autocast, self.fold = compile, autocast, fold

    @torch.inference_mode(False)
    def __call__(self, model: Model, x: Tensor, y: Tensor, *, ids: Tensor | None = None) -> Report:
        """Attack `model` on images x (N, ...) with labels y (N,).

        `x` may stay on the CPU while the model is on an accelerator. `ids` int64 (N,) number the samples, 0 to N - 1
        by default; a subset with the numbers of the whole set gets the verdicts of the whole set.
        """
        began = time.perf_counter()
        check_batch(model, x, y)
        if not len(x):
            raise InputError("there are no images; give at least one")
        largest, threat = check_values(x, y, self.threat), self.threat.fit(x)
        ids = torch.arange(len(x)) if ids is None else ids.detach().cpu().long()
        if ids.shape != y.shape or len(set(ids.tolist())) != len(ids):
            raise InputError(
                f"ids are {tuple(ids.shape)} for {len(x)} images; give each image a number of its own"
            )
        x, y, rand = ordinary(x).float(), ordinary(y), self.version == "rand"
        attacks = [attack for attack in self.attacks if attack.name != "square" or x.ndim == 4]
        if not attacks:
            raise InputError(
                f"inputs of shape {tuple(x.shape[1:])} are not images (C, H, W), which Square needs, and no other attack "
                "is asked for; add one, such as apgd-ce"
            )
        flags = in_train_mode(model) + by_kind(model, x, self.attacks, self.version, self.autocast)
        with attack_mode(model), torch.no_grad(), _float32():
            verifier = Verifier(model, x, batch_size=self._rows(model, x))
            clean = verifier.logits(x).cpu()
            check_classes(largest, clean)
            workers = Workers()
            seen = workers.gather(seen_on(verifier, x[:64], rand=rand))[
                0
            ]  # a random model answers each process otherwise
            flags += seen
            verdicts = Verdicts(~mistaken(clean, y.cpu()), [attack.name for attack in attacks])
            randomised = "randomised" in {flag.name for flag in seen}
            search, searched = search_model(model, x[:16].to(verifier.device), **self._options)
            half = "half-precision" in {flag.name for flag in flags}
            answers = Answers(clean, randomised=randomised, half=half)
            with self._journal(model, attacks, x, y, ids, answers, workers) as journal:
                random, shared = rand or randomised, (workers, journal, self.progress)
                ensemble = Ensemble(search, verifier, x, y, ids, clean, threat, verdicts, random, *shared)
                earlier, verdicts = ensemble.run(attacks), ensemble.verdicts
            x_adv, draws, clean_prediction = verdicts.adversarial(x), (1, 1), clean.argmax(1)
            first, last = ensemble.clean_votes, ensemble.final_votes
            if first and last:
                draws, clean_prediction = first.span(last), first.prediction
                prediction, margins = last.prediction, last.margin
                flags += by_majority(first, last, ids)
            else:
                prediction, margins = verifier.margins(x_adv, y)
        fragile = margins.abs() <= FRAGILE
        flags += by_attacks(verdicts, ids, clean, fragile)
        return Report(
            norm=threat.norm,
            eps=threat.eps_max,
            bounds=threat.bounds,
            version=self.version,
            seed=self.seed,
            classes=clean.shape[1],
            ids=ids,
            y=y.cpu(),
            clean=verdicts.clean,
            robust=verdicts.robust,
            x_adv=x_adv,
            clean_prediction=clean_prediction,
            adversarial_prediction=prediction,
            broken_by=verdicts.broken_by,
            target=verdicts.aimed,
            iteration=verdicts.at,
            margin=margins,
            distance=threat.distance(x_adv.to(x), x).cpu(),
            fragile=fragile,
            attacks=verdicts.costs(),
            flags=tuple(flags),
            seconds=earlier + time.perf_counter() - began,
            versions={**versions(verifier.device), "search": searched},
            draws=draws,
        )

    @property
    def _options(self) -> dict[str, bool]:
        """How the search is run."""
        return {"fold": self.fold, "compile": self.compile, "autocast": self.autocast}

    def _rows(self, model: Model, x: Tensor) -> int:
        """Rows of a batch: as asked, or as many as fit the caches of a CPU or keep an accelerator busy."""
        if self.batch_size is not None:
            return self.batch_size
        budget = 2**19 if device_of(model, x).type == "cpu" else 2**22
        return min(max(budget // math.prod(x.shape[1:]), 16), 1024)

    @contextmanager
    def _journal(
        self,
        model: Model,
        attacks: list[Search[Any]],
        x: Tensor,
        y: Tensor,
        ids: Tensor,
        answers: Answers,
        workers: Workers,
    ) -> Iterator[Journal | None]:
        if self.folder is None:
            yield None
            return
        identity = identity_of(self.version, self.threat, self.seed, attacks, self._options, model, x, y, ids)
        folder, shape = self.folder / "journal", tuple(x.shape[1:])
        going_on = self.resume or workers.rank > 0  # the first process has just begun it

        def begin() -> Journal:
            if workers.rank == 0:
                held.enter_context(locked(folder))
            return Journal(folder, identity, answers, shape, resume=going_on)

        with ExitStack() as held:
            yield held.enter_context(closing(workers.first(begin)))


def versions(device: torch.device) -> dict[str, str]:
    """What the numbers may depend on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu"
    return {
        "python": platform.python_version(),
        "torch": version_of("torch"),
        "robustsabn": __version__,
        "device": f"{device.type}: {name}",
    }


@contextmanager
def _float32() -> Iterator[None]:
    """Full float32 and repeatable kernels on CUDA, whatever the caller allows elsewhere; restored afterwards."""
    if not torch.cuda.is_available():
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(
            enabled=torch.backends.cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
