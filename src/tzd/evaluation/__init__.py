"""Evaluation: how good, how varied and how original a text is, with errors. Nothing here trains or samples."""
