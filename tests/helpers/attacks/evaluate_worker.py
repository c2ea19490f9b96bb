"""One evaluation in a process of its own."""

import os
import sys
import time
from pathlib import Path

import torch

from robustsabn.attacks import AutoAttack, ProgressEvent
from tests.helpers.attacks.autoattack_case import THREAT, Wrapped, quick
from tests.helpers.attacks.networks import conv_case

__all__ = ["COLUMNS", "evaluate"]

COLUMNS = ("ids", "clean", "robust", "broken_by", "target", "iteration", "x_adv")


def evaluate(out: Path, resume: bool, how: str) -> None:
    """Attack a small network (`quick`, `slow` or `random`); print progress, and write the report."""
    slow, random = how == "slow", how == "random"
    torch.set_num_threads(1)
    if "RANK" in os.environ:
        torch.distributed.init_process_group("gloo")

    def tell(event: ProgressEvent) -> None:
        print(event.index, event.left, flush=True)
        if os.environ.get("RANK") == "0":
            with (out / "told.txt").open("a") as file:
                file.write(f"{event.index} {event.left} {event.robust}\n")
        time.sleep(0.05 * slow)

    model, x, y = conv_case(count=90)
    if random:  # other draws in every process
        torch.manual_seed(int(os.environ.get("RANK", "0")))
        model = Wrapped(model, lambda z, _: z + 0.3 * z.std() * torch.randn_like(z)).eval()
    attack = AutoAttack(
        THREAT, version="custom", attacks=quick(), batch_size=16, folder=out, resume=resume, progress=tell
    )
    report = attack(model, x, y)
    if random:
        torch.save({name: getattr(report, name) for name in COLUMNS}, out / f"{os.environ['RANK']}.pt")
    elif not slow:  # a second evaluation by the same processes shares its work anew
        again = AutoAttack(THREAT, version="custom", attacks=quick(), batch_size=16)(model, x, y)
        assert again.same_verdicts(report)
    if int(os.environ.get("RANK", "0")) == 0:
        torch.save({name: getattr(report, name) for name in COLUMNS}, out / "report.pt")
        report.to_json(out / "report.json")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    evaluate(Path(sys.argv[1]), resume=False, how="slow")
