"""docs/api.md is what its script makes of the docstrings, and holds every public name with what it does."""

import re

import portrait4d
from scripts.make_api_page import CONSTANTS, DEEPER, PAGE, page

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_page_is_what_the_docstrings_say() -> None:
    assert page() == TEXT, "run scripts/make_api_page.py"


def test_every_public_name_has_an_entry_with_a_text() -> None:
    entries = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", TEXT, flags=re.MULTILINE | re.DOTALL))
    expected = {*portrait4d._HOMES, *(place.rpartition(".")[2] for place in DEEPER)}
    assert expected | {"Constants"} == set(entries) and set(portrait4d.__all__) == {*portrait4d._HOMES, *CONSTANTS}
    for name in expected:
        said = re.sub(r"```.*?```", "", entries[name], flags=re.DOTALL)
        assert re.search(r"[A-Z`][\w`]+ [^.]{10,}\.", said), name
    for name in CONSTANTS:
        assert f"`{name}`" in entries["Constants"]


def test_methods_and_options_are_there_with_their_words() -> None:
    """One of each kind: a method, a property, a class method, a field, an inherited field."""
    for words in (
        "pose(changes: Mapping[str, Values] | None = None, /, **named: Values) -> NDArray[np.uint8]",
        "`warnings: tuple[str, ...]`",
        "@classmethod\nfrom_keyframes(",
        "- `yaw_limit: float | None = ",
        "- `landmarks: NDArray",
    ):
        assert words in TEXT, words
