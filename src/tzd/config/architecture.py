"""What every model type's settings say."""

from __future__ import annotations

from typing import Protocol

TOO_LARGE = 1 << 31  # for any setting that counts


class Architecture(Protocol):
    """What every model type's settings say, whatever else they do. Each is a frozen dataclass that checks itself."""

    @property
    def model_type(self) -> str:
        """Its name in `MODEL_CONFIGS`."""
        ...

    @property
    def vocab_size(self) -> int:
        """Number of tokens, V, and of the logits' columns."""
        ...

    @property
    def mask_id(self) -> int:
        """Id of [MASK]."""
        ...

    @property
    def block_size(self) -> int:
        """Longest sequence, L."""
        ...

    @property
    def time_steps(self) -> int:
        """Rows of the time embedding; 0 for a model that is not conditioned on time."""
        ...

    @property
    def n_embedding_rows(self) -> int:
        """Rows of the token embedding."""
        ...
