"""Checks the environment variables of a launcher before the processes wait for each other."""

import os
import socket
from collections.abc import Mapping

from robustsabn.errors import ConfigError
from robustsabn.text import quote

__all__ = ["check_environment"]

_SHARDED = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}
_OTHERS = {"MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK"}
"""Variables that MPI sets instead of LOCAL_RANK."""
_LEAST = {"RANK": 0, "LOCAL_RANK": -1, "WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1, "MASTER_PORT": 0}
_REMEDY = "start processes by `accelerate launch` or torchrun, or unset it to run a single one"


def check_environment(environment: Mapping[str, str] = os.environ) -> None:
    """Raise ConfigError for variables with which the processes would fail or wait forever.

    This includes launchers that shard parameters.
    """
    for name, what in _SHARDED.items():
        if environment.get(name, "").strip().lower() in ("1", "true", "yes", "on", "t", "y"):
            raise ConfigError(
                f"accelerate is set up for {what} ({name}); attacks need whole parameters on every process: "
                "choose multi-GPU without it in `accelerate config`"
            )
    values = {
        name: _whole(name, environment[name], least) for name, least in _LEAST.items() if name in environment
    }
    world, rank = values.get("WORLD_SIZE", 1), values.get("RANK", 0)
    if rank >= world and "RANK" in values:
        raise ConfigError(f"RANK is {rank} and WORLD_SIZE {world}; ranks go from 0 to {world - 1}; {_REMEDY}")
    if values.get("MASTER_PORT", 0) > 65535:
        raise ConfigError(f"MASTER_PORT is {values['MASTER_PORT']}; ports go from 1 to 65535")
    if world > 1:
        if "LOCAL_RANK" not in environment and not _OTHERS & environment.keys():
            raise ConfigError(f"WORLD_SIZE is {world} and LOCAL_RANK is not set; {_REMEDY}")
        for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
            if not environment.get(name):
                raise ConfigError(f"WORLD_SIZE is {world} and {name} is not set; {_REMEDY}")
        _check_host(environment["MASTER_ADDR"])


def _whole(name: str, text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value < 2**31:
        raise ConfigError(f"{name} is {quote(text)}; it must be a whole number from {least}; {_REMEDY}")
    return value


def _check_host(name: str) -> None:
    try:
        socket.getaddrinfo(name, None)
    except (OSError, UnicodeError):
        raise ConfigError(f"MASTER_ADDR is {quote(name)}, and there is no such host; {_REMEDY}") from None
