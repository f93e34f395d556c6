"""The named corpora: one module each, which defines `SOURCE`. A new corpus is a new module here."""
