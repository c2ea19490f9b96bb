"""The images of a run, and the extra images in its batches."""

from accelerate import Accelerator

from robustsabn.data import Data, ImageSet, load, load_extra
from robustsabn.trainers.adversarial.config import TrainConfig

__all__ = ["load_data", "load_extra_data"]


def load_data(accelerator: Accelerator, config: TrainConfig) -> Data:
    """Load the data set of a run; one process downloads it for all."""
    # split and subset do not depend on the seed, so seeds are compared on the same images
    with accelerator.main_process_first():
        return load(
            config.data, validation=config.validation.images, n=config.images, download=config.download
        )


def load_extra_data(
    accelerator: Accelerator, config: TrainConfig, data: Data, notes: list[str]
) -> tuple[ImageSet, int] | None:
    """Load the extra images of a run; returns them and their number in each batch.

    Remarks on them are appended to `notes`.
    """
    if config.extra is None:
        return None
    with accelerator.main_process_first():
        images = load_extra(config.extra.data, data, download=config.download, notes=notes)
    return images, config.extra.count(config.batch_size)
