"""What a mock model's directory says: sizes, and the name its weights are drawn from."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from loops_core.errors import CheckpointError, UnsupportedError

MIXER: Final = "mixer"
LM_HEAD: Final = "lm_head"


class ModelConfig(BaseModel):
    """The fields of config.json.

    Attributes:
        model_type: tells mock models from others.
        name: the weights are a function of it.
        vocab_size: number of tokens.
        hidden_size: width of a position.
        window: how many tokens a position sees, itself included.
        max_position_embeddings: most positions of a sequence.
    """

    model_config = ConfigDict(frozen=True)

    model_type: Literal["loops_mock"] = "loops_mock"
    name: str
    vocab_size: PositiveInt = 256
    hidden_size: PositiveInt = 16
    window: PositiveInt = 8
    max_position_embeddings: PositiveInt = 2048

    @classmethod
    def load(cls, model_dir: Path) -> Self:
        """Return the config of a model directory.

        Raises:
            UnsupportedError: the model is not a mock model.
            CheckpointError: config.json is missing or damaged.
        """
        path = model_dir / "config.json"
        try:
            text = path.read_bytes()
            model_type = _AnyConfig.model_validate_json(text).model_type
            if model_type == "loops_mock":
                return cls.model_validate_json(text)
        except (OSError, ValidationError) as error:
            raise CheckpointError(f"{path} is not a model's config: {error}") from error
        raise UnsupportedError(
            f"model {str(model_dir)!r} has model_type {model_type!r}; expected 'loops_mock', the "
            "only one of the mock backend; use a base_model such as 'mock-tiny'",
            field="base_model",
        )

    def sites(self) -> dict[str, tuple[int, int]]:
        """Return the places an adapter can change, with their widths (in, out)."""
        return {
            MIXER: (self.hidden_size, self.hidden_size),
            LM_HEAD: (self.hidden_size, self.vocab_size),
        }


class _AnyConfig(BaseModel):
    model_type: str | None = None
