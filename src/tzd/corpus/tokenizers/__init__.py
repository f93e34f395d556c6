"""The kinds of tokenizers: one module each, which defines `KIND`. A new kind is a new module here."""
