"""How the page looks: the viewers' own colours, the system's own fonts, light or dark as the reader's system is."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from tzd.viewers.looks import THEMES

SANS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Cantarell", "Noto Sans", "sans-serif"]
MONO = ["ui-monospace", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"]
ACCENT = {"light": "#0f7640", "dark": "#7ed994"}  # sure text, as the viewers show it


def theme() -> gr.themes.Base:
    """Plain surfaces, thin lines, one accent."""
    light, dark = _colours("light"), _colours("dark")
    return gr.themes.Base(font=SANS, font_mono=MONO, radius_size="md", text_size="md").set(
        body_background_fill="#f6f7f9",
        body_background_fill_dark="#0b0d12",
        body_text_color=light["text"],
        body_text_color_dark=dark["text"],
        body_text_color_subdued=light["faint"],
        body_text_color_subdued_dark=dark["faint"],
        block_background_fill=light["ground"],
        block_background_fill_dark=dark["ground"],
        block_border_color="#e3e6eb",
        block_border_color_dark="#232838",
        border_color_primary="#e3e6eb",
        border_color_primary_dark="#232838",
        block_label_text_color=light["faint"],
        block_label_text_color_dark=dark["faint"],
        block_title_text_color=light["faint"],
        block_title_text_color_dark=dark["faint"],
        block_info_text_color=light["faint"],
        block_info_text_color_dark=dark["faint"],
        input_background_fill="#f6f7f9",
        input_background_fill_dark="#171b26",
        input_border_color="#e3e6eb",
        input_border_color_dark="#2a3042",
        input_border_color_focus=ACCENT["light"],
        input_border_color_focus_dark=ACCENT["dark"],
        slider_color=ACCENT["light"],
        slider_color_dark=ACCENT["dark"],
        color_accent=ACCENT["light"],
        button_primary_background_fill=ACCENT["light"],
        button_primary_background_fill_hover="#0b5e33",
        button_primary_text_color="#ffffff",
        button_primary_background_fill_dark=ACCENT["dark"],
        button_primary_background_fill_hover_dark="#9be6ae",
        button_primary_text_color_dark="#0b0d12",
        button_secondary_background_fill="#eceff3",
        button_secondary_background_fill_dark="#1d2230",
        button_secondary_text_color=light["text"],
        button_secondary_text_color_dark=dark["text"],
    )


def css() -> str:
    """What the theme cannot say."""
    light, dark = ACCENT["light"], ACCENT["dark"]
    accents = f":root{{--tzd-accent:{light}}}.dark{{--tzd-accent:{dark};--color-accent:{dark}}}\n"
    return accents + Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def _colours(theme: str) -> dict[str, str]:
    """Those of the viewers that a page needs, as styles write them."""
    chosen = THEMES[theme]
    named = {"text": chosen.text, "faint": chosen.faint, "ground": chosen.ground}
    return {name: "#{:02x}{:02x}{:02x}".format(*colour) for name, colour in named.items()}
