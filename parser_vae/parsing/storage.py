"""A model as tensors and JSON, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parser_vae.errors import ModelFolderError
from parser_vae.parsing.decoder import DecoderSettings
from parser_vae.parsing.encoder import EncoderSettings
from parser_vae.parsing.model import ParserModel
from parser_vae.parsing.vocabulary import Vocabulary


def model_tensors(model: ParserModel) -> dict[str, Tensor]:
    """Return everything a model folder stores as tensors: weights, vectors and, as UTF-8 JSON, the strings."""
    strings = {"vocabulary": model.vocabulary.to_json(), "vector_words": model.vector_words}
    packed = torch.frombuffer(bytearray(json.dumps(strings, ensure_ascii=False).encode()), dtype=torch.uint8)
    tensors = {f"weights.{name}": tensor for name, tensor in model.state_dict().items()} | {"strings": packed}
    if model.encoder.embedding.vectors is not None:
        tensors["vectors"] = model.encoder.embedding.vectors
    return tensors


def model_manifest(model: ParserModel) -> dict[str, Any]:
    """Return what a manifest must say for ``restore`` to rebuild the model."""
    return {
        "kind": "parser",
        "structure": model.family,
        "encoder": model.encoder.settings.model_dump(mode="json"),
        "decoder": model.decoder.settings.model_dump(mode="json"),
    }


def restore(tensors: Mapping[str, Tensor], manifest: Mapping[str, Any], folder: Path) -> ParserModel:
    """Return the model of these tensors and manifest, read from ``folder``.

    Raises:
        ModelFolderError: They are not those of a parser, or do not fit together.
    """
    try:
        strings = json.loads(bytes(tensors["strings"].numpy()).decode())
        model = ParserModel(
            EncoderSettings.model_validate(manifest["encoder"]),
            DecoderSettings.model_validate(manifest["decoder"]),
            Vocabulary.from_json(strings["vocabulary"]),
            strings["vector_words"],
            tensors.get("vectors"),
            manifest["structure"],
        )
        prefix = "weights."
        model.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelFolderError(
            f"{folder}: does not fit together ({str(error).splitlines()[0]}); train the model again"
        ) from None
    return model
