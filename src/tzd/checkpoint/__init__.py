"""Checkpoints: folders of safetensors and JSON, written atomically, checked when read, and never executed."""

from tzd.checkpoint.read import Checkpoint, check_weights, read_checkpoint
from tzd.checkpoint.run_folder import RunFolder
from tzd.checkpoint.single_file import check_export, write_npz
from tzd.checkpoint.write import write_checkpoint

__all__ = [
    "Checkpoint",
    "RunFolder",
    "check_export",
    "check_weights",
    "read_checkpoint",
    "write_checkpoint",
    "write_npz",
]
