"""Projected gradient ascent: PGD and FGSM."""

from dataclasses import KW_ONLY, dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from robustsabn.arguments import LARGEST_FLOAT
from robustsabn.attacks.counts import positive, share_of
from robustsabn.attacks.habits import CALL, Attack, answered, answers
from robustsabn.attacks.losses import LOSSES, Loss, LossName, kl
from robustsabn.attacks.model.inputs import (
    check_batch,
    check_finite,
    check_generator,
    check_threat,
    check_values,
    ordinary,
    say_zero_gradients,
)
from robustsabn.attacks.model.logits import Gate, Model, gradient_scale
from robustsabn.attacks.model.mode import BatchNormMode, attack_mode, say_train_mode
from robustsabn.attacks.model.outputs import say_probabilities
from robustsabn.attacks.noise import Start
from robustsabn.attacks.pgd_loop import Batch, PgdLoop
from robustsabn.attacks.projections import Radius, radius_like
from robustsabn.attacks.threat import ThreatModel
from robustsabn.errors import InputError
from robustsabn.scalars import real
from robustsabn.text import quote

__all__ = ["FGSM", "PGD"]


@answers
@dataclass(frozen=True, eq=False)
class PGD(Attack):
    """Projected gradient ascent on the loss: x <- P(x + step_size * ascent(gradient)), `steps` times.

    `attack(model, x, y)` takes any callable that returns logits (N, K), images x (N, ...) inside the bounds
    and labels y (N,) int64. It returns adversarial images like x, detached. The model is left as it was,
    except for running statistics under bn_mode="train".

    - step_size: in image units and the norm of the threat model, 2.5 eps / steps by default; a tensor (N,)
      gives one per sample.
    - restarts: number of runs; later runs attack only the samples that are not yet misclassified.
    - start: see `ThreatModel.noise`. The argument `delta0` of a call, like x, replaces the first start.
    - loss: "ce", "margin", "dlr", "kl" (to the clean prediction; costs one forward more), or a function of
      (logits, y) that returns one value per sample, (N,), to maximise.
    - targeted: y are the classes to reach, with loss "ce", "margin" or a function, which is minimised.
    - bn_mode: see `attack_mode`. Without it the mode is "eval", and a model in train mode causes a warning.
    - keep: "best" returns the misclassified iterate of highest loss, or the iterate of highest loss if none
      is misclassified; the start counts, so this takes steps + 1 forwards. "last" returns the last iterate.
    - early_stop: a sample leaves the batch at its first misclassified iterate.
    - fraction: share of the coordinates that an L1 step moves.
    - generator: source of the random start; default is torch's own. A call may pass another one.
    - check: False skips the checks of values, which wait for the device once before and once after the loop.

    Where the label leads by 16 logits at the start, the gradient of the cross entropy rounds to zero. The
    lead is then subtracted first, which does not change which image has the higher loss. With `check`, a
    ZeroGradientWarning reports images whose gradient is zero for another reason.

    Raises InputError for unusable options, images, labels or logits. Source: Madry et al., ICLR 2018, section
    2.1; start="normal" and loss="kl": Zhang et al. (TRADES), ICML 2019.

    Example:

        >>> import torch
        >>> from robustsabn.attacks import PGD, ThreatModel
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 10)).eval()
        >>> x, y = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 3])
        >>> attack = PGD(ThreatModel("Linf", 8 / 255), steps=5, step_size=2 / 255)
        >>> x_adv = attack(model, x, y)
        >>> x_adv.shape, bool((x_adv - x).abs().max() <= 8 / 255 + 1e-6)
        (torch.Size([4, 3, 2, 2]), True)
    """

    threat: ThreatModel
    _: KW_ONLY
    steps: int = 10
    step_size: Radius | None = None
    restarts: int = 1
    start: Start = "uniform"
    loss: LossName | Loss = "ce"
    targeted: bool = False
    bn_mode: BatchNormMode | None = None
    keep: Literal["best", "last"] = "best"
    early_stop: bool = False
    fraction: float = 0.05
    generator: torch.Generator | None = None
    check: bool = True

    def __post_init__(self) -> None:
        check_threat(self.threat)
        loss = "ce" if callable(self.loss) else self.loss
        for name, value, allowed in (
            ("start", self.start, get_args(Start)),
            ("keep", self.keep, ("best", "last")),
            ("bn_mode", "eval" if self.bn_mode is None else self.bn_mode, get_args(BatchNormMode)),
            ("loss", loss, get_args(LossName)),
        ):
            if not isinstance(value, str) or value not in allowed:
                raise InputError(f"{name} is {quote(value)}; allowed are {', '.join(allowed)}")
        steps, restarts = positive(steps=self.steps, restarts=self.restarts)
        plain = {"steps": steps, "restarts": restarts, "fraction": share_of("fraction", self.fraction)}
        for name, number in {**plain, "step_size": self._checked_size()}.items():
            object.__setattr__(self, name, number)
        if self.targeted and loss in ("kl", "dlr"):  # the ratio can grow without nearing the target class
            raise InputError(f"loss={quote(loss)} does not lead to a target; use loss='margin' or 'ce'")
        if self.restarts > 1 and self.start == "none":
            raise InputError("restarts from start='none' repeat one run; use start='uniform' or restarts=1")
        if self.restarts > 1 and self.keep == "last":
            raise InputError(
                "keep='last' does not record which samples are misclassified; restarts need keep='best'"
            )
        if self.bn_mode in ("train", "frozen") and (self.restarts > 1 or self.early_stop):
            raise InputError(
                "restarts and early_stop remove samples from the batch whose statistics "
                f"bn_mode={self.bn_mode!r} uses; use bn_mode='eval', or neither restarts nor early_stop"
            )

    def _checked_size(self) -> Radius | None:
        value: object = self.step_size
        if isinstance(value, Tensor) and value.ndim:
            if value.ndim > 1 or not value.is_floating_point():
                raise InputError(
                    f"step_size is {value.dtype} {tuple(value.shape)}; give a number or floats (N,)"
                )
            return value
        size = real(value)
        if value is not None and size is None:
            raise InputError(
                f"step_size is {quote(value)}; give a number such as 2 / 255, or a floating tensor (N,)"
            )
        if size is not None and not (0 < size <= LARGEST_FLOAT or size == self.threat.eps_max == 0):
            raise InputError(f"step_size is {size}; give a number above 0, at most {LARGEST_FLOAT:.2g}")
        return size

    @answered(CALL)
    def __call__(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        *,
        delta0: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        check_batch(model, x, y, delta0, values=self.check)
        check_generator(generator or self.generator)
        threat = self.threat.fit(x)
        if self.loss == "kl" and self.start == "none" and delta0 is None:
            raise InputError(
                "loss='kl' has no gradient at the clean images; use start='normal' or give delta0"
            )
        if isinstance(self.step_size, Tensor) and self.step_size.ndim and self.step_size.shape != x.shape[:1]:
            raise InputError(
                f"step_size holds {self.step_size.numel()} values for {x.shape[0]} images; give one per image"
            )
        if self.bn_mode is None:
            say_train_mode(model, 4)
        with torch.inference_mode(False), torch.no_grad(), attack_mode(model, self.bn_mode or "eval"):
            if not x.shape[0]:
                return x.clone()
            return self._attack(model, ordinary(x), ordinary(y), threat, delta0, generator or self.generator)

    def _attack(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        threat: ThreatModel,
        delta0: Tensor | None,
        generator: torch.Generator | None,
    ) -> Tensor:
        logits_of = Gate(model, x, check_values(x, y, threat) if self.check else -1)
        loss = self.loss if callable(self.loss) else LOSSES.get(self.loss, kl)
        ascend = PgdLoop(
            logits_of=logits_of,
            loss=loss,
            targeted=self.targeted,
            steps=self.steps,
            keep_best=self.keep == "best",
            early_stop=self.early_stop,
            fraction=self.fraction,
            scale=gradient_scale(model, x),
            check=self.check,
        )
        size = threat.eps * 2.5 / self.steps if self.step_size is None else self.step_size
        goal = y
        if self.loss == "kl":
            with torch.enable_grad():  # autocast may reuse the weights cast here in a training forward
                goal = logits_of(x).detach().clone()
        batch = Batch(x=x, y=y, goal=goal, size=radius_like(size, x), threat=threat)
        x_adv = (
            threat.random_start(x, self.start, generator) if delta0 is None else threat.project(x + delta0, x)
        )
        best, trouble = ascend(batch, x_adv)
        for _ in range(self.restarts - 1):
            left = (~best.broken).nonzero()[:, 0]
            if not left.numel():
                break
            rest, held = batch.select(left), best.select(left)
            again, _ = ascend(rest, rest.threat.random_start(rest.x, self.start, generator))
            held.offer(again.x, again.loss, again.broken)
            best.write(left, held)
        if self.check:
            unusable, undefined, kind, flat = trouble.tolist()
            check_finite(unusable, undefined, x.shape[0])
            with attack_mode(model):
                say_probabilities(kind, logits_of, x, 5)
            say_zero_gradients(flat, x.shape[0], 5)
        return best.x


@answers
def FGSM(
    threat: ThreatModel,
    *,
    step_size: Radius | None = None,
    start: Start = "none",
    loss: LossName | Loss = "ce",
    targeted: bool = False,
    bn_mode: BatchNormMode | None = None,
    fraction: float = 0.05,
    generator: torch.Generator | None = None,
    check: bool = True,
) -> PGD:
    """The fast gradient sign method: PGD with one step of length eps, from the image itself.

    It costs one forward and one backward. start="uniform" with step_size=1.25 * eps is the variant of fast
    adversarial training. Options, shapes, units and errors are those of `PGD`.
    Source: Goodfellow et al., ICLR 2015, section 4; random start: Wong et al., ICLR 2020, section 4.1.

    Example:

        >>> import torch
        >>> from robustsabn.attacks import FGSM, ThreatModel
        >>> weight = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
        >>> attack = FGSM(ThreatModel("Linf", 0.25))
        >>> attack(lambda x: x @ weight, torch.tensor([[0.5, 0.5]]), torch.tensor([0]))
        tensor([[0.2500, 0.7500]])
    """
    check_threat(threat)
    return PGD(
        threat,
        steps=1,
        step_size=threat.eps if step_size is None else step_size,
        start=start,
        loss=loss,
        targeted=targeted,
        bn_mode=bn_mode,
        keep="last",
        fraction=fraction,
        generator=generator,
        check=check,
    )
