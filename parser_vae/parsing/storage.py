"""A model as tensors and JSON, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parser_vae.errors import ModelFolderError
from parser_vae.parsing.encoder import EncoderSettings
from parser_vae.parsing.model import ParserModel
from parser_vae.parsing.tree_decoder import DecoderSettings
from parser_vae.parsing.vocabulary import UNKNOWN, Vocabulary


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


def extend_with_target(model: ParserModel, sentences: Sequence[Sequence[str]]) -> ParserModel:
    """Return a copy of the model that also knows the words of raw target sentences.

    A new word starts with the unknown word's embedding, so scores do not change. In the language model the new classes
    share the probability of "every other word" evenly, so that no other word's probability changes.
    """
    vocabulary = model.vocabulary.extend(sentences)
    extended = ParserModel(
        model.encoder.settings,
        model.decoder.settings,
        vocabulary,
        model.vector_words,
        model.encoder.embedding.vectors,
        model.family,
    )
    weights = dict(model.state_dict())
    name = "encoder.embedding.words.weight"
    new = len(vocabulary.words) - len(model.vocabulary.words)
    weights[name] = torch.cat([weights[name], weights[name][UNKNOWN].expand(new, -1)])
    if "decoder.words.weight" in weights:
        name = "decoder.words.weight"
        weights[name] = torch.cat([weights[name], weights[name][UNKNOWN].expand(new, -1)])
    # tags and word classes are the source's: a target word without a vector shares the class of unknown words
    generates_forms = model.decoder.settings.generates == "forms"
    new = len(vocabulary.decoder_words) - len(model.vocabulary.decoder_words) if generates_forms else 0
    weight, bias = weights["decoder.output.weight"], weights["decoder.output.bias"].clone()
    bias[UNKNOWN] -= math.log(new + 1)
    weights["decoder.output.weight"] = torch.cat([weight, weight[UNKNOWN].expand(new, -1)])
    weights["decoder.output.bias"] = torch.cat([bias, bias[UNKNOWN].expand(new)])
    extended.load_state_dict(weights)
    return extended
