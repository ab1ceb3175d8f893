"""Models, tokenizers and their settings from folders and from the Hugging Face hub, without running their code.

A folder may name Python files of its own (``auto_map``), and transformers would ask on the terminal whether to run
them; here it is refused. What is damaged is named by its file. Not here: what is done with the model.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from ..envs.json_files import read_json, read_text
from .forward import first_line

VALUE_MODEL_FILE: Final = "value_model.json"
JSON_FILES: Final = (
    *("config.json", "generation_config.json", "model.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
)
_NOUNS: Final = {"AutoModelForCausalLM": "causal language model", "AutoTokenizer": "tokenizer"}
_CURE: Final = "copy or download the folder again, or save the model anew"


def pretrained(kind: Any, source: str | Path, **options: Any) -> Any:
    """``kind.from_pretrained(source, **options)``, of a class of transformers.

    Raises ``FileNotFoundError`` where neither a folder nor the hub has it, ``ValueError`` where it is damaged, of
    another kind, without all its weights (transformers would draw the others at random), or comes with code of its own.
    """
    folder = Path(source)
    noun = _NOUNS.get(kind.__name__, "model")
    if folder.is_dir():
        check_files(folder)
    has_weights = kind.__name__.startswith("AutoModel")
    info = {"output_loading_info": True} if has_weights else {}
    try:
        found = kind.from_pretrained(str(source), trust_remote_code=False, **options, **info)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise ValueError(
                f"{str(source)!r} comes with Python code of its own (auto_map), which is never run here; take a model "
                "whose architecture transformers has, or load it yourself and pass LanguageModel(model, tokenizer)"
            ) from None
        if isinstance(error, OSError) and not folder.is_dir():
            raise FileNotFoundError(
                f"no model {str(source)!r}: it is no folder here, and the hub did not give it ({first_line(error)}). "
                "Without a network give the path of a downloaded folder; with one, check the id, and log in if the "
                "model is gated"
            ) from error
        raise ValueError(
            f"{str(source)!r} is not a {noun} that transformers {transformers.__version__} can load: "
            f"{type(error).__name__}: {first_line(error)}; {_CURE}"
        ) from error
    if not has_weights:
        return found
    model, loading = found
    if missing := sorted(loading["missing_keys"]):
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise ValueError(
            f"{str(source)!r} is no whole {noun}: it lacks the weights {missing[0]}{more}, which would be random; "
            f"give a model of this kind, or {_CURE}"
        )
    return model


def check_files(folder: Path) -> None:
    """Raises ``ValueError`` naming the first file of a model's folder that cannot be read at all."""
    for name in JSON_FILES:
        if (folder / name).is_file() and not isinstance(read_json(folder / name, _CURE), dict):
            raise ValueError(f"{folder / name}: expected a JSON object; {_CURE}")
    for path in folder.glob("*.jinja"):
        read_text(path, _CURE)
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "pt"):
                pass
        except SafetensorError as error:
            raise ValueError(f"{path}: damaged or cut off ({error}); {_CURE}") from None


def saved_settings(path: Path, kinds: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
    """The settings in the JSON file ``path``. Raises ``ValueError`` for a name that is not in ``kinds`` and for a value
    of another type."""
    settings = read_json(path, _CURE)
    if not isinstance(settings, dict):
        raise ValueError(f"{path}: {type(settings).__name__} where an object is expected; {_CURE}")
    for name, value in settings.items():
        if name not in kinds:
            raise ValueError(
                f"{path}: unknown setting {name!r} (known: {', '.join(kinds)}); a newer version may have written it: "
                "update branchwise, or remove the entry"
            )
        if not isinstance(value, kinds[name]) or isinstance(value, bool):
            raise ValueError(f"{path}: {name}={value!r:.60} is {type(value).__name__}; correct the entry, or remove it")
    return settings


def load_weights(module: torch.nn.Module, path: Path, device: torch.device) -> None:
    """Fill ``module`` from a safetensors file. Raises ``ValueError`` where the file is damaged or of another module."""
    try:
        module.load_state_dict(load_file(path, device=str(device)))
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path}: damaged, cut off, or of another model ({first_line(error)}); {_CURE}") from None
