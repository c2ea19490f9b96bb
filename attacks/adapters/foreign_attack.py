"""One attack of another library, as a function of (model, x, y)."""

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from robustsabn.attacks.adapters.libraries import LIBRARIES, Setting, find, options_of, version_of
from robustsabn.attacks.adapters.network import Network, undisturbed
from robustsabn.attacks.adapters.tally import Tally, admissible
from robustsabn.attacks.autoattack.flags import in_train_mode
from robustsabn.attacks.counts import positive, seed_of
from robustsabn.attacks.model.inputs import check_batch, check_threat, ordinary
from robustsabn.attacks.model.logits import Model
from robustsabn.attacks.report import Report
from robustsabn.attacks.threat import ThreatModel
from robustsabn.errors import InputError, RobustsabnError
from robustsabn.text import one_line, quote

__all__ = ["ForeignAttack", "foreign", "foreign_report"]


def foreign(
    spec: str, threat: ThreatModel, options: Mapping[str, Any] | None = None, *, seed: int = 0
) -> "ForeignAttack":
    """The attack "library:Class" of advertorch, foolbox or torchattacks, for the threat model `threat`.

    eps, norm, bounds and the number of classes come from `threat` and the model; `options` are other
    arguments of the class, such as {"steps": 40}. Raises InputError for an unknown spec, class or option, and
    for a class made for another norm; MissingExtraError where the library is not installed."""
    return ForeignAttack(spec, threat, dict(options or {}), seed)


class ForeignAttack:
    """An attack of another library, see `foreign`; all images that it returns are inside the ball and the
    box.

    `outside` counts the images that the library returned outside of them; the clean image replaces these.
    """

    def __init__(self, spec: str, threat: ThreatModel, options: dict[str, Any], seed: int) -> None:
        check_threat(threat)
        name, colon, kind = spec.partition(":") if isinstance(spec, str) else ("", "", "")
        if not colon or name not in LIBRARIES:
            known = ", ".join(f"{library}:CLASS" for library in LIBRARIES)
            raise InputError(f"attack {quote(spec)} is unknown; allowed are {known}")
        if isinstance(threat.eps, Tensor):
            raise InputError("attacks of other libraries take one eps for all images; give a number")
        self.name, self.threat, self.options, self.seed = spec, threat, options, seed_of(seed)
        self.library = LIBRARIES[name]
        self.kind = find(self.library, kind, threat)
        allowed = options_of(self.library, self.kind)
        if unknown := [option for option in options if option not in allowed]:
            raise InputError(
                f"{spec} takes no option {quote(unknown[0])}; it takes {', '.join(allowed) or 'none'}"
            )
        self.calls = self.outside = 0

    @torch.inference_mode(False)
    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        """Adversarial images (N, ...) for x (N, ...) with labels y (N,), detached.

        Random states, modules, gradients and the trace function are the same afterwards.
        Raises InputError where the library fails.
        """
        check_batch(model, x, y)
        self.threat.fit(x)
        x, y = ordinary(x), ordinary(y)
        network = model if isinstance(model, Network) else Network(model, x)
        x_adv, outside = admissible(self._run(network, x, y), x, self.threat)
        self.outside += outside
        return x_adv

    def _run(self, network: Network, x: Tensor, y: Tensor) -> Tensor:
        seed, self.calls = (self.seed + 1000003 * self.calls) % 2**31, self.calls + 1
        with undisturbed(network, x.device, seed):
            with torch.no_grad():
                classes = network(x[:1]).shape[1]
            setting = Setting(
                cls=self.kind,
                network=network,
                threat=self.threat,
                classes=classes,
                options=self.options,
                seed=seed,
            )
            try:
                return torch.as_tensor(self.library.run(setting, x.clone(), y.clone()))
            except (RobustsabnError, MemoryError, torch.OutOfMemoryError):
                raise
            except Exception as error:
                raise InputError(f"{self.name} failed: {one_line(error)}") from error


@torch.inference_mode(False)
def foreign_report(
    attack: ForeignAttack,
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    ids: Tensor | None = None,
    batch_size: int = 250,
) -> Report:
    """Verdicts of `attack` on images x (N, ...) with labels y (N,), in batches; misclassified ones are
    skipped.

    `ids` (N,) number the samples. Every success is verified with the model in float32.
    """
    flags = in_train_mode(model)
    (batch_size,) = positive(batch_size=batch_size)
    tally = Tally(Network(model, x), x, y, attack.threat, batch_size)
    x, y = tally.x, tally.y
    began = time.perf_counter()
    rows = tally.robust.nonzero()[:, 0]
    attack.outside = 0
    parts = [attack(tally.network, x[part], y[part]) for part in torch.split(rows, batch_size) if len(part)]
    x_adv = torch.cat(parts) if parts else x[rows]
    tally.take(attack.name, rows, x_adv, time.perf_counter() - began)
    tally.outside += attack.outside
    options = " ".join(f"{key}={value}" for key, value in attack.options.items())
    return tally.report(
        engine=attack.library.name,
        version=f"{attack.name.partition(':')[2]} {options}".strip(),
        seed=attack.seed,
        ids=ids,
        versions={attack.library.name: version_of(attack.library)},
        flags=tuple(flags),
    )
