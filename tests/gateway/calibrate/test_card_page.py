"""A card as a picture and as a page: whole, escaped, and in need of nothing from elsewhere."""

import re
from pathlib import Path

import msgspec

from gateway.calibrate.card_page import draw_card, write_page
from gateway.decoding.card import GuardLaw, LengthPoint, Recommendation
from tests.gateway.calibrate.test_model_recommend import CARD, TELLING

FULL = msgspec.structs.replace(
    CARD,
    model="<script>",
    partial=TELLING,
    length=[LengthPoint(10.0, 0.0), LengthPoint(90.0, 1.0)],
    guard={"wea<b>pons": GuardLaw([0.0, 0.1, 1.0], 0.125)},
    recommendations=[Recommendation("gain=0.9", {"n": 12, "options": {"price": 1.5}}, "It gains <most>.")],
)


def test_the_page_has_all_and_asks_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.html"
    picture = draw_card(FULL)
    assert picture.startswith(b"\x89PNG")
    write_page(FULL, picture, path)
    page = path.read_text()
    assert re.findall(r'(?:src|href)="(.{22})', page) == ["data:image/png;base64,"]
    assert "<script>" not in page and "<b>" not in page and "<most>" not in page
    for words in ("0.75", "12.5%", "n: 12", "price: 1.5", "It gains &lt;most&gt;.", "policy@1 with reward@1"):
        assert words in page, words
    assert page.count("<tr>") == len(FULL.curve) + len(FULL.partial) + len(FULL.guard) + 3


def test_what_was_not_measured_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "m.html"
    write_page(CARD, draw_card(CARD), path)
    assert path.read_text().count("<table>") == 1
