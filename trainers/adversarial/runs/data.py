"""The images of a run, and the further ones that every batch has some of."""

from accelerate import Accelerator

from robustsabn.data import Data, ImageSet, load, load_extra
from robustsabn.trainers.adversarial.config import TrainConfig

__all__ = ["load_data", "load_extra_data"]


def load_data(accelerator: Accelerator, config: TrainConfig) -> Data:
    """The data set of a run; one process downloads it for all."""
    # the split and the subset are those of the data set, not of the run: seeds are compared on the same
    # images
    with accelerator.main_process_first():
        return load(
            config.data, validation=config.validation.images, n=config.images, download=config.download
        )


def load_extra_data(
    accelerator: Accelerator, config: TrainConfig, data: Data, notes: list[str]
) -> tuple[ImageSet, int] | None:
    """The further images of a run and how many of them are in every batch; `notes` gets what there is to say
    of them.
    """
    if config.extra is None:
        return None
    with accelerator.main_process_first():
        images = load_extra(config.extra.data, data, download=config.download, notes=notes)
    return images, config.extra.count(config.batch_size)
