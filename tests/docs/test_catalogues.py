"""The catalogues: complete, compiled, true to the sources, and right in how they count."""

from __future__ import annotations

import configparser
import io
import re
from gettext import GNUTranslations
from pathlib import Path

import pytest
from babel import Locale
from babel.messages.catalog import Catalog, Message
from babel.messages.frontend import CommandLineInterface
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

import flask_otp
from flask_otp.languages import LANGUAGES, catalogue

ROOT = Path(__file__).parents[2]
FOLDER = Path(flask_otp.__file__).parent / "translations"
TRANSLATED = LANGUAGES[1:]
PLACEHOLDER = re.compile(r"%\(\w+\)s|\{\}")


def read(path: Path) -> Catalog:
    with path.open("rb") as file:
        return read_po(file)


def po_of(language: str) -> Path:
    return FOLDER / language / "LC_MESSAGES" / "flask_otp.po"


def texts(catalog: Catalog) -> set[str | tuple[str, ...]]:
    """What is to be translated: a pair where it is counted."""
    return {tuple(message.id) if message.pluralizable else str(message.id) for message in catalog if message.id}


def said(message: Message) -> list[str]:
    return list(message.string) if message.pluralizable else [str(message.string)]


def test_the_template_holds_what_the_sources_say_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the very command of docs/channels/languages.md."""
    monkeypatch.chdir(ROOT)
    command = re.search(
        r"^(pybabel extract .*?[^\\])\n", (ROOT / "docs/channels/languages.md").read_text(), re.M | re.S
    )
    assert command
    words = command[1].replace("\\\n", " ").replace("flask_otp/translations/flask_otp.pot", str(tmp_path / "new.pot"))
    CommandLineInterface().run([*words.split()[:1], "-q", *words.split()[1:]])
    assert texts(read(tmp_path / "new.pot")) == texts(read(FOLDER / "flask_otp.pot"))


def test_each_language_has_a_catalogue_and_each_catalogue_is_offered() -> None:
    assert {path.name for path in FOLDER.iterdir() if path.is_dir()} == set(TRANSLATED)


@pytest.mark.parametrize("language", TRANSLATED)
def test_no_text_is_missing_or_fuzzy_or_left_over(language: str) -> None:
    catalog = read(po_of(language))
    assert texts(catalog) == texts(read(FOLDER / "flask_otp.pot"))
    assert not catalog.obsolete
    for message in catalog:
        if message.id:
            assert not message.fuzzy, message.id
            assert all(text.strip() for text in said(message)), message.id


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_translation_has_the_placeholders_of_its_text(language: str) -> None:
    for message in read(po_of(language)):
        if not message.id:
            continue
        ids = list(message.id) if message.pluralizable else [str(message.id)]
        wanted = sorted(PLACEHOLDER.findall(ids[-1]))
        for text in said(message):
            found = sorted(PLACEHOLDER.findall(text))
            # The form for one, or for two, may say it in a word.
            assert found == wanted or (message.pluralizable and found == [p for p in wanted if p != "%(num)s"]), text
            assert "%" not in PLACEHOLDER.sub("", text)


@pytest.mark.parametrize("language", TRANSLATED)
def test_what_is_used_is_what_the_catalogue_compiles_to(language: str) -> None:
    compiled = io.BytesIO()
    write_mo(compiled, read(po_of(language)))
    compiled.seek(0)
    fresh, used = GNUTranslations(compiled), catalogue(language)
    assert isinstance(used, GNUTranslations)
    # But for the header, which names the version of Babel.
    without = [{key: text for key, text in vars(each)["_catalog"].items() if key} for each in (fresh, used)]
    assert without[0] == without[1]
    assert [fresh.ngettext("one", "many", n) for n in range(3)] == [used.ngettext("one", "many", n) for n in range(3)]


@pytest.mark.parametrize("language", TRANSLATED)
def test_it_counts_as_unicode_says_the_language_does(language: str) -> None:
    """Babel's own rule for Arabic has the form for 11 to 99 in another place than everybody else's."""
    count, rule = vars(catalogue(language))["plural"], Locale.parse(language).plural_form
    numbers = range(1, 200)
    pairs = {(count(number), rule(number)) for number in numbers}
    assert len(pairs) == len({form for form, _ in pairs}) == len({name for _, name in pairs})
    if language == "ar":
        assert [count(number) for number in (0, 1, 2, 6, 11, 100)] == [0, 1, 2, 3, 4, 5]


def test_the_compiled_catalogues_are_shipped() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    patterns = setup["options.package_data"]["flask_otp"].split(", ")
    shipped = {path for pattern in patterns for path in FOLDER.parent.glob(pattern)}
    assert {po_of(language).with_suffix(".mo") for language in TRANSLATED} <= shipped
