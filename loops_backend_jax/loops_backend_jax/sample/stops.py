"""Where a sequence ends: at the model's own ids, at the caller's ids, at the caller's strings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from loops_backend_jax.sample.text import TextDecoder
from loops_core.errors import CheckpointError

CONFIG_FILES: Final = ("config.json", "generation_config.json")


class StringStop(NamedTuple):
    """A stop string that was found.

    Attributes:
        num_tokens: how many tokens there are up to the stop string. A token that holds both its
            beginning and text before it counts.
        text: what stands before it, without special tokens.
    """

    num_tokens: int
    text: str


def end_of_sequence_ids(model_dir: Path) -> frozenset[int]:
    """Return the ids that end a sequence by the model's own word, of both configuration files.

    Raises:
        CheckpointError: a file is damaged, or its `eos_token_id` is no id and no list of ids.
    """
    ids: set[int] = set()
    for name in CONFIG_FILES:
        path = model_dir / name
        if not path.is_file():
            continue
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CheckpointError(f"{path} is not JSON: {error}; copy the model again") from error
        found = raw.get("eos_token_id") if isinstance(raw, dict) else None
        found = [] if found is None else found if isinstance(found, list) else [found]
        for token in found:
            if isinstance(token, bool) or not isinstance(token, int):
                raise CheckpointError(f"{path}: eos_token_id holds {token!r}; expected integers")
            ids.add(token)
    return frozenset(ids)


def find_string_stop(
    tokens: Sequence[int], stop_strings: Sequence[str], decoder: TextDecoder
) -> StringStop | None:
    """Return where the first stop string ends the tokens, or None.

    The text is searched as a whole, special tokens by name, so a stop string may begin in one token
    and end in another. First is the string that ends first; of several that end there the longest.
    So it does not matter how many tokens are looked at together.
    """
    text = decoder.decode(tokens, special=True)
    ends = [(at + len(stop), -len(stop)) for stop in stop_strings if (at := text.find(stop)) >= 0]
    if not ends:
        return None
    end, negative_length = min(ends)
    head = text[: end + negative_length]
    num_tokens = _shortest_cover(tokens, head, decoder)
    kept = tokens[:num_tokens]
    overhang = len(decoder.decode(kept, special=True)) - len(head)
    clean = decoder.decode(kept, special=False)
    # The overhang is the last token's; where that is a special token, it left nothing in `clean`.
    before = len(decoder.decode(kept[:-1], special=False))
    return StringStop(num_tokens, clean[: max(len(clean) - overhang, before)])


def _shortest_cover(tokens: Sequence[int], head: str, decoder: TextDecoder) -> int:
    """Return how many tokens it takes until their text begins with `head`."""
    fewest, enough = 0, len(tokens)
    while fewest < enough:
        middle = (fewest + enough) // 2
        if decoder.decode(tokens[:middle], special=True).startswith(head):
            enough = middle
        else:
            fewest = middle + 1
    return fewest
