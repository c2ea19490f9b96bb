"""AutoAttack: an ensemble of attacks, each on the images that the earlier ones did not break."""

import math
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from robustsabn import __version__
from robustsabn.attacks.autoattack.ensemble import Ensemble
from robustsabn.attacks.autoattack.flags import by_attacks, by_kind, by_majority, in_train_mode, seen_on
from robustsabn.attacks.autoattack.verdicts import Verdicts
from robustsabn.attacks.autoattack.versions import attacks_of
from robustsabn.attacks.autoattack.workers import Workers
from robustsabn.attacks.counts import seed_of
from robustsabn.attacks.folding.search_model import search_model
from robustsabn.attacks.habits import CALL, Attack, answered, answers, gathered
from robustsabn.attacks.journal.identity import identity_of
from robustsabn.attacks.journal.journal import Journal
from robustsabn.attacks.journal.same_model import Answers
from robustsabn.attacks.model.counted import mistaken
from robustsabn.attacks.model.inputs import check_batch, check_classes, check_threat, check_values, ordinary
from robustsabn.attacks.model.logits import Model
from robustsabn.attacks.model.mode import attack_mode
from robustsabn.attacks.model.verifier import Verifier, device_of
from robustsabn.attacks.report import FRAGILE, ProgressEvent, Report
from robustsabn.attacks.search.base import Search
from robustsabn.attacks.threat import ThreatModel
from robustsabn.errors import InputError
from robustsabn.locks import locked
from robustsabn.paths import given_path
from robustsabn.report.provenance import processor
from robustsabn.scalars import whole
from robustsabn.text import quote

__all__ = ["AutoAttack", "ProgressEvent"]


@answers
class AutoAttack(Attack):
    """Robust accuracy under the AutoAttack ensemble, verified with the original model in float32.

    - version: "standard" (APGD-CE, APGD-T, FAB-T, Square), "plus" and "rand" (gradients averaged over 20
      forwards) are the published ones. "custom" runs the list `attacks` of names or attacks. "fast" is not
      published: it takes about a tenth of the passes of "standard"; do not compare its numbers with others.
    - batch_size: rows of a batch; "auto" chooses by image size and device.
    - folder: keeps a journal there; after an interruption the same call with `resume=True` continues.
    - fold: search on a cheaper copy of the network, where a safe one can be made.
    - compile: compile the network that is searched. autocast: search in bfloat16. The original model in
      float32 still verifies every success.
    - progress: called with `ProgressEvent`s.

    With "rand", and for a model found to be random, each verdict is the majority over 11 to 1001 forwards
    that played no part in the search. The authors' code counts a single success among thousands of forwards.
    The verdict on a sample depends on `seed`, its number and the weights, but not on batch size, order or
    number of processes, as far as the network computes an image alike in every batch (docs/autoattack.md).
    Where torch.distributed is initialised, the processes share the samples, and each returns the whole
    report. Raises InputError for unusable arguments, images, labels or logits, and for a folder that is in
    use. Source: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
    parameter-free attacks", ICML 2020.

    Example:

        >>> import torch
        >>> from robustsabn.attacks import AutoAttack, ThreatModel
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)).requires_grad_(False)
        >>> x = torch.rand(8, 1, 4, 4)
        >>> y = model(x).argmax(1)
        >>> attack = AutoAttack(ThreatModel("Linf", 0.5), version="custom", attacks=["apgd-ce", "square"])
        >>> report = attack(model, x, y)
        >>> report.clean_accuracy, report.robust_accuracy < 1, [cost.name for cost in report.attacks]
        (1.0, True, ['apgd-ce', 'square'])
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
            raise InputError("resume=True needs the folder of the evaluation to continue; give folder=...")
        self.attacks = attacks_of(version, threat, seed, attacks)
        self.threat, self.version, self.seed, self.batch_size = threat, version, seed, size
        self.folder = None if folder is None else given_path(folder, "folder", InputError)
        self.resume, self.progress = resume, progress
        self.compile, self.autocast, self.fold = compile, autocast, fold

    @torch.inference_mode(False)
    @answered(CALL)
    def __call__(
        self,
        model: Model,
        x: Tensor | Iterable[Any],
        y: Tensor | None = None,
        *,
        ids: Tensor | None = None,
    ) -> Report:
        """Attack `model` on images x (N, ...) in the bounds of the threat model, with labels y (N,) int64.

        A DataLoader may take the place of both. `x` may stay on the CPU while the model is on an accelerator.
        `ids` int64 (N,) number the samples, 0 to N - 1 by default; a subset that keeps its numbers keeps its
        verdicts."""
        began = time.perf_counter()
        x, y = gathered(x, y)
        check_batch(model, x, y)
        if not len(x):
            raise InputError("there are no images; give at least one")
        largest, threat = check_values(x, y, self.threat), self.threat.fit(x)
        ids = torch.arange(len(x)) if ids is None else ids.detach().cpu().long()
        if ids.shape != y.shape or len(set(ids.tolist())) != len(ids):
            raise InputError(
                f"ids have shape {tuple(ids.shape)} for {len(x)} images; give each image a number of its own"
            )
        x, y, rand = ordinary(x).float(), ordinary(y), self.version == "rand"
        attacks = [attack for attack in self.attacks if attack.name != "square" or x.ndim == 4]
        if not attacks:
            raise InputError(
                f"inputs of shape {tuple(x.shape[1:])} are not images (C, H, W), which Square needs, and no "
                "other attack is listed; add one, such as apgd-ce"
            )
        flags = in_train_mode(model) + by_kind(model, x, self.attacks, self.version, self.autocast)
        with attack_mode(model), torch.no_grad(), _float32():
            verifier = Verifier(model, x, batch_size=self._rows(model, x))
            clean = verifier.logits(x).cpu()
            check_classes(largest, clean)
            workers = Workers()
            # a random model gives each process other logits: all use what the first process saw
            seen = workers.gather(seen_on(verifier, x[:64], rand=rand))[0]
            flags += seen
            verdicts = Verdicts(~mistaken(clean, y.cpu()), [attack.name for attack in attacks])
            randomised = "randomised" in {flag.name for flag in seen}
            search, searched = search_model(model, x[:16].to(verifier.device), **self._options)
            half = "half-precision" in {flag.name for flag in flags}
            answers = Answers(clean, randomised=randomised, half=half)
            with self._journal(model, attacks, x, y, ids, answers, workers) as journal:
                ensemble = Ensemble(
                    search=search,
                    verifier=verifier,
                    x=x,
                    y=y,
                    ids=ids,
                    clean=clean,
                    threat=threat,
                    verdicts=verdicts,
                    random=rand or randomised,
                    workers=workers,
                    journal=journal,
                    progress=self.progress,
                )
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
        """Options of the search."""
        return {"fold": self.fold, "compile": self.compile, "autocast": self.autocast}

    def _rows(self, model: Model, x: Tensor) -> int:
        """Rows of a batch: `batch_size`, or as many as fit a CPU's cache or keep an accelerator busy."""
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
        going_on = self.resume or workers.rank > 0  # process 0 has just made it

        def begin() -> Journal:
            if workers.rank == 0:
                held.enter_context(locked(folder))
            return Journal(folder, identity, answers, shape, resume=going_on)

        with ExitStack() as held:
            yield held.enter_context(closing(workers.first(begin)))


def versions(device: torch.device) -> dict[str, str]:
    """Versions and device that the numbers may depend on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return {
        "python": platform.python_version(),
        "torch": version_of("torch"),
        "robustsabn": __version__,
        "device": f"{device.type}: {name}",
    }


@contextmanager
def _float32() -> Iterator[None]:
    """Full float32 and deterministic kernels on CUDA inside the block; settings are restored after it."""
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
