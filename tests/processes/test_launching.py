"""What a launcher says in the environment: wrong variables are refused before a process waits for others."""

import pytest

from robustsabn.errors import ConfigError
from robustsabn.trainers.processes.distributed import accelerator
from robustsabn.trainers.processes.launching import check_environment

TWO = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    "environment",
    [{}, TWO, {"MASTER_PORT": "29500"}, {"WORLD_SIZE": "1"}, {"ACCELERATE_USE_FSDP": "false"}],
)
def test_right_ones_pass(environment: dict[str, str]) -> None:
    check_environment(environment)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"RANK": "abc"}, "RANK is 'abc'; it must be a whole number from 0"),
        ({"RANK": "2"}, "RANK is 2 and WORLD_SIZE 2; ranks go from 0 to 1"),
        ({"RANK": "-1"}, "RANK is '-1'"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0'; it must be a whole number from 1"),
        ({"WORLD_SIZE": "9" * 99}, r"WORLD_SIZE is '9+\.\.\.9+'"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK is 'x'"),
        ({"MASTER_PORT": "-1"}, "MASTER_PORT is '-1'"),
        ({"MASTER_PORT": "70000"}, "ports go from 1 to 65535"),
        ({"MASTER_PORT": ""}, "MASTER_PORT is ''"),
        ({"MASTER_ADDR": ""}, "MASTER_ADDR is not set"),
        ({"MASTER_ADDR": "no such host"}, "there is no such host"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "set up for DeepSpeed"),
        ({"ACCELERATE_USE_FSDP": "1"}, "set up for FSDP"),
        ({"ACCELERATE_USE_MEGATRON_LM": "yes"}, "set up for Megatron-LM"),
    ],
)
def test_wrong_ones_are_refused(change: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_environment({**TWO, **change})


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_missing_ones_are_named(name: str) -> None:
    with pytest.raises(ConfigError, match=f"WORLD_SIZE is 2 and {name} is not set"):
        check_environment({key: value for key, value in TWO.items() if key != name})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ACCELERATE_DYNAMO_BACKEND", "x", "cannot start .*correct or unset ACCELERATE_DYNAMO_BACKEND"),
        ("ACCELERATE_TORCH_DEVICE", "nowhere", "cannot start .*correct or unset ACCELERATE_TORCH_DEVICE"),
        ("ACCELERATE_TORCH_DEVICE", "meta", "device is cpu, but ACCELERATE_TORCH_DEVICE selects meta"),
    ],
)
def test_what_accelerate_cannot_start_with_is_named(
    name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        accelerator(cpu=True)
    monkeypatch.delenv(name)
    assert accelerator(cpu=True).device.type == "cpu"
