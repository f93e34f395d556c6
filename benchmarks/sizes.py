"""The model that is measured, `tiny`, and what it costs by its equations."""

from __future__ import annotations

LAYERS, HEADS, WIDTH, VOCABULARY, LENGTH, BATCH = 6, 6, 384, 66, 256, 16
PARAMETERS = LAYERS * 12 * WIDTH**2 + (2 * VOCABULARY + 1) * WIDTH

# Forward and backward: six operations per token and weight, and per layer two products of queries, keys and values.
FLOP_PER_TOKEN = 6 * PARAMETERS + 12 * LAYERS * LENGTH * WIDTH
TOKENS_PER_STEP = BATCH * LENGTH
