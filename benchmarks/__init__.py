"""What Tiny Zero Diffusion costs, measured against a plain baseline on the same machine in the same run."""
