"""Comparisons with other systems, and single questions; `tzd bench` measures what everyone pays."""
