"""How the page looks: fonts of the system, colours for light and dark, and one style sheet."""

from importlib.resources import files

import gradio as gr

STYLE = (files("limner.studio") / "style.css").read_text(encoding="utf-8")
ICON = (files("limner.studio") / "icon.svg").read_text(encoding="utf-8")


def theme() -> gr.themes.Base:
    """Quiet greys and one colour. Plain names are fonts of the system, which nobody has to be asked for."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.stone,
        radius_size=gr.themes.sizes.radius_md,
        font=["ui-sans-serif", "system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(
        body_background_fill="#faf9f6",
        body_background_fill_dark="#171614",
        body_text_color="#1f1d1a",
        body_text_color_dark="#ece9e3",
        body_text_color_subdued="#57534e",
        body_text_color_subdued_dark="#b5afa6",
        block_background_fill="#ffffff",
        block_background_fill_dark="#211f1c",
        block_border_color="#e3dfd7",
        block_border_color_dark="#3a3631",
        block_label_text_color="#44403c",
        block_label_text_color_dark="#d6d1c8",
        block_info_text_color="#57534e",
        block_info_text_color_dark="#b5afa6",
        block_title_text_color="#292524",
        block_title_text_color_dark="#e7e3dc",
        input_placeholder_color="#6b655e",
        input_placeholder_color_dark="#a39c92",
        checkbox_label_background_fill="#ffffff",
        checkbox_label_background_fill_dark="#2a2724",
        checkbox_label_border_color="#d6d1c8",
        checkbox_label_border_color_dark="#4a453f",
        checkbox_label_border_width="1px",
        checkbox_label_background_fill_selected="#e4f3f0",
        checkbox_label_background_fill_selected_dark="#12403b",
        checkbox_label_border_color_selected="#0f766e",
        checkbox_label_border_color_selected_dark="#2dd4bf",
        checkbox_background_color_selected="#0f766e",
        checkbox_background_color_selected_dark="#2dd4bf",
        input_background_fill="#ffffff",
        input_background_fill_dark="#191816",
        input_border_color="#cfc9bf",
        input_border_color_dark="#4a453f",
        input_border_width="1px",
        slider_color="#0f766e",
        slider_color_dark="#2dd4bf",
        button_primary_background_fill="#0f766e",
        button_primary_background_fill_hover="#115e59",
        button_primary_background_fill_dark="#2dd4bf",
        button_primary_background_fill_hover_dark="#5eead4",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#0b2a27",
        button_secondary_text_color="#292524",
        button_secondary_text_color_dark="#ece9e3",
        button_cancel_background_fill="#ffffff",
        button_cancel_background_fill_hover="#fdf0ee",
        button_cancel_background_fill_dark="#2a2724",
        button_cancel_background_fill_hover_dark="#3b2523",
        button_cancel_border_color="#d8b4ae",
        button_cancel_border_color_dark="#7a4b45",
        button_cancel_text_color="#9f1d10",
        button_cancel_text_color_dark="#fca59b",
    )
