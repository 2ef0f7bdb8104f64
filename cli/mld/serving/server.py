"""The page of a run, served on an address of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import gradio as gr

from mld.inference.trained_run import TrainedRun
from mld.serving import html
from mld.serving.page import Page

MAX_UPLOAD_BYTES = 32 * 2**20
"""Largest file that may be uploaded."""
MAX_WAITING = 32
"""Requests that wait for the run's networks at most."""
MAX_SESSIONS = 100
"""Browsers whose samples are remembered at most."""


@contextmanager
def serving(run: TrainedRun, host: str, port: int | None) -> Iterator[str]:
    """Serve a run's page until the block ends; its address.

    Nothing is sent to another machine than the browser's, nor loaded from one. Uploaded files and
    archives lie in a temporary folder, which is deleted at the end. OSError if the port is in use.

    Args:
        host: the address to listen on.
        port: by default the first free one from 7860 on.
    """
    with TemporaryDirectory(prefix="mld-serve-") as folder, _uploads_in(folder):
        blocks = Page(run, Path(folder)).blocks.queue(max_size=MAX_WAITING)
        try:
            _, address, _ = blocks.launch(
                server_name=host,
                server_port=port,
                prevent_thread_lock=True,
                quiet=True,
                inline=False,
                share=False,
                show_error=False,
                max_file_size=MAX_UPLOAD_BYTES,
                state_session_capacity=MAX_SESSIONS,
                run_history=False,
                ssr_mode=False,
                footer_links=[],
                theme=_theme(),
                css=html.CSS,
            )
            yield address
        finally:
            blocks.close(verbose=False)


@contextmanager
def _uploads_in(folder: str) -> Iterator[None]:
    """Gradio stores what is uploaded in a folder, whose name it takes from the environment."""
    variable = "GRADIO_TEMP_DIR"
    before = os.environ.get(variable)
    os.environ[variable] = folder
    try:
        yield
    finally:
        os.environ.pop(variable)
        if before is not None:
            os.environ[variable] = before


def _theme() -> gr.Theme:
    """Colours of the reports, and fonts that every system has."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        font=["system-ui", "Segoe UI", "Roboto", "Liberation Sans", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(
        # Of sufficient contrast.
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        checkbox_background_color_selected="*primary_700",
        checkbox_border_color_selected="*primary_700",
    )
