"""Write a plain network to a file, as safetensors, ONNX or torch.export, and check the file."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustsabn import __version__
from robustsabn.arguments import a_module, a_tensor
from robustsabn.errors import ConfigError, ConversionError, MissingExtraError
from robustsabn.files import make_folder, replacing
from robustsabn.paths import given_path
from robustsabn.text import one_line, quote

__all__ = ["FORMATS", "export"]

FORMATS = ("safetensors", "onnx", "pt2")

Net = Callable[[Tensor], Tensor]


def export(
    plain: nn.Module,
    path: str | Path,
    reference: Net,
    images: Tensor,
    *,
    format: str | None = None,
    fresh: nn.Module | None = None,
    notes: dict[str, Any] | None = None,
) -> float:
    """Write `plain`, a network without routes, to `path`; returns the largest difference to the logits of
    `reference`.

    The file is read again and run on all but the last of `images` (N, C, H, W), N >= 3. It is not kept if its
    logits differ by more than 1e-3 of the largest one.

    - format: one of FORMATS; by default the ending of `path`.
    - fresh: for safetensors, another instance of the architecture, which loads the file with `strict=True`.
    - notes: entries of the metadata; `onnxruntime` shows them as `session.get_modelmeta()`, and
      torch.export.load reads them from the extra file "metadata.json".

    ONNX and torch.export files take any batch size; the input is `images`, the output `logits`.
    Raises ConfigError for a wrong path or format, ConversionError if the file does not compute the same, and
    MissingExtraError without the ONNX packages.
    """
    path = given_path(path, "path", ConfigError)
    a_module("the network", plain, ConversionError)
    a_tensor("images", images, ConversionError)
    format = path.suffix.lstrip(".") if format is None else format
    if not isinstance(format, str) or format not in FORMATS:
        raise ConfigError(f"format {quote(format)} is unknown; allowed: {', '.join(FORMATS)}")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give the path of a file")
    if format == "onnx":
        _require_onnx()
    plain = plain.cpu().eval()
    expected = _expected(reference, images)
    make_folder(path.parent)
    # the exporters choose by the ending
    with replacing(path, f".{format}") as aside:
        written = _WRITERS[format](plain, aside, images, fresh, notes or {})
        with torch.no_grad():
            logits = written(images[:-1])
        if logits.shape != expected[:-1].shape:
            raise ConversionError(
                f"the {format} file gives logits {tuple(logits.shape)}, but the model gives "
                f"{tuple(expected[:-1].shape)}; the file was not written"
            )
        difference = float((logits - expected[:-1]).abs().max())
        if not difference <= 1e-3 * max(1.0, float(expected.abs().max())):
            raise ConversionError(
                f"the {format} file's logits differ by {difference:.3g} from the model's; the file was not "
                "written"
            )
    return difference


def _expected(reference: Net, images: Tensor) -> Tensor:
    """The model's logits for the images; ConversionError if it cannot take them."""
    shape = f"{images.dtype} {tuple(images.shape)}"
    if images.layout is not torch.strided or images.is_meta or images.ndim < 2 or len(images) < 3:
        raise ConversionError(f"images are {shape}; give at least three images as a dense tensor with values")
    try:
        with torch.no_grad():
            return reference(images)
    except Exception as error:  # a foreign forward may raise anything
        raise ConversionError(f"the model cannot take images of {shape}: {one_line(error)}") from error


def _safetensors(
    plain: nn.Module, path: Path, images: Tensor, fresh: nn.Module | None, notes: dict[str, Any]
) -> Net:
    from safetensors.torch import save

    from robustsabn.state_versions import load_state, read_state, version_notes

    own = plain.state_dict()
    state = {name: tensor.detach().clone().contiguous() for name, tensor in own.items()}
    metadata = {"format": "pt", "robustsabn": __version__} | {k: _text(v) for k, v in notes.items()}
    path.write_bytes(save(state, metadata | (version_notes(own) or {})))
    target = plain if fresh is None else fresh
    load_state(target, read_state(path))
    return target.eval()


def _onnx(
    plain: nn.Module, path: Path, images: Tensor, fresh: nn.Module | None, notes: dict[str, Any]
) -> Net:
    import onnxruntime

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they come from the exporter's dependencies
        torch.onnx.export(
            plain,
            (images,),
            str(path),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    _describe(path, notes)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(["logits"], {"images": x.numpy()})[0])


def _pt2(plain: nn.Module, path: Path, images: Tensor, fresh: nn.Module | None, notes: dict[str, Any]) -> Net:
    program = torch.export.export(plain, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    about = {"robustsabn": __version__, **notes}
    torch.export.save(program, str(path), extra_files={"metadata.json": json.dumps(about)})
    net: Net = torch.export.load(str(path)).module()
    return net


def _describe(path: Path, notes: dict[str, Any]) -> None:
    """Write the notes into the metadata of an ONNX file."""
    import onnx

    model = onnx.load(str(path))
    model.producer_name, model.producer_version = "robustsabn", __version__
    onnx.helper.set_model_props(model, {name: _text(value) for name, value in notes.items()})
    onnx.save(model, str(path))


_WRITERS = {"safetensors": _safetensors, "onnx": _onnx, "pt2": _pt2}


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"{error.name} is not installed, which ONNX files need; pip install 'robustsabn[onnx]'"
        ) from None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
