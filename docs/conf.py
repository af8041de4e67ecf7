"""Settings of Sphinx. `nox -s docs` builds the pages; a warning is a failure."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from flask_otp import __version__  # noqa: E402

project = "flask_otp"
author = "the flask_otp contributors"
release = version = __version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "sphinx_design"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"flask_otp {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_favicon = "_static/logo.svg"
html_copy_source = False
html_theme_options = {
    "light_logo": "logo.svg",
    "dark_logo": "logo.svg",
    # The colours of the extension's own pages.
    "light_css_variables": {
        "color-brand-primary": "#14594f",
        "color-brand-content": "#14594f",
        "color-brand-visited": "#5b4a86",
        "color-problematic": "#a3261c",
    },
    "dark_css_variables": {
        "color-brand-primary": "#7fcdbd",
        "color-brand-content": "#7fcdbd",
        "color-brand-visited": "#c3b3ee",
        "color-problematic": "#ffab9e",
    },
}
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
autodoc_typehints_format = "short"

suppress_warnings = ["misc.highlighting_failure"]  # examples of HTTP have "..." in them

#: Files outside docs/ that are pages of the site too. Here each of them has a stub, which gets the other file's text.
PAGES = {
    "CHANGELOG.md": "project/changelog",
    "CONTRIBUTING.md": "project/contributing",
    "SECURITY.md": "project/reporting",
    "benchmarks/README.md": "project/benchmarks",
}


def read(app: Sphinx, name: str, source: list[str]) -> None:
    """Give a stub its text, and let links lead to the pages of the site, wherever the text is from."""
    outside = {page: file for file, page in PAGES.items()}.get(name)
    text = (ROOT / outside).read_text(encoding="utf-8") if outside else source[0]
    folder = (ROOT / (outside or f"docs/{name}")).parent

    def moved(link: re.Match[str]) -> str:
        target = (folder / link[1]).resolve()
        if not target.is_relative_to(ROOT) or not target.exists():
            return link[0]  # Sphinx says what is wrong with it
        file = target.relative_to(ROOT).as_posix()
        page = PAGES.get(file)
        target = ROOT / "docs" / f"{page}.md" if page else target
        return f"]({os.path.relpath(target, (ROOT / 'docs' / name).parent)}"

    source[0] = re.sub(r"\]\((?![a-z]+:)([^)#\s]+)", moved, text)


def corner(app: Sphinx, name: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """The empty corner of a table is a cell and no heading, which a screen reader would announce."""
    if "body" in context:
        context["body"] = re.sub(r'<th class="head[^"]*"><p></p></th>', "<td></td>", context["body"])


def setup(app: Sphinx) -> None:
    app.connect("source-read", read)
    app.connect("html-page-context", corner)
