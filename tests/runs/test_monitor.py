"""What a run writes for TensorBoard."""

from pathlib import Path


def test_tensorboard_holds_scalars_of_each_route_and_pictures(ended_once: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(ended_once / "tb"))
    events.Reload()
    tags = events.Tags()
    assert {"train/clean_loss", "train/adv_loss", "train/lr", "train/images_per_second"} <= set(
        tags["scalars"]
    )
    assert {"validation/clean/clean", "validation/clean/adv", "validation/robust/adv/adv"} <= set(
        tags["scalars"]
    )
    assert tags["images"] == ["images/clean adversarial difference"]
