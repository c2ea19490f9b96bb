"""`robustsabn info`: versions and devices for a bug report."""

import argparse
import platform
import sys

__all__ = ["HELP", "configure", "run"]

HELP = "print versions, devices, and the optional packages that are installed"

REQUIRED = (
    "torch",
    "torchvision",
    "accelerate",
    "tensorboard",
    "safetensors",
    "numpy",
    "PyYAML",
    "scikit-learn",
    "rich",
    "matplotlib",
)
OPTIONAL = {
    "timm": "timm",
    "onnx": "onnx",
    "onnxscript": "onnx",
    "onnxruntime": "onnx",
    "advertorch": "advertorch",
    "foolbox": "foolbox",
    "torchattacks": "torchattacks",
    "pyautoattack": "pyautoattack",
    "torchmetrics": "gan",
    "torch-fidelity": "fidelity",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """The command has no arguments."""


def run(args: argparse.Namespace) -> None:
    """Print one line `name  value` for each."""
    import torch
    from rich.text import Text

    from robustsabn import __version__
    from robustsabn.report.console import output
    from robustsabn.report.following import following

    lines = {"robustsabn": __version__, "python": sys.version.split()[0], "system": platform.platform()}
    lines |= {name: _version(name) or "missing" for name in REQUIRED}
    lines["cpu threads"] = str(torch.get_num_threads())
    for i in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(i)
        name = torch.cuda.get_device_name(i)
        lines[f"cuda:{i}"] = (
            f"{name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free, CUDA {torch.version.cuda}"
        )
    if not torch.cuda.is_available():
        lines["cuda"] = "no device" if torch.version.cuda else "not in this build of torch"
    for name, extra in OPTIONAL.items():
        lines[name] = _version(name) or f"not installed (pip install 'robustsabn[{extra}]')"
    width, console = max(map(len, lines)), output()
    for name, value in lines.items():
        console.print(Text(f"{name:{width}}  ", style="bold"), Text(value), sep="")
    console.print(following("recipes"), markup=False)


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None
