"""The MLX engine: Apple silicon, and processors under Linux."""
