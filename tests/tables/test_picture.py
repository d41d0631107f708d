"""The picture in the guide "Analysing runs" is the one that its code makes."""

import re
from pathlib import Path


GUIDES = Path(__file__).parent.parent.parent / "docs" / "guides"


def test_the_picture_is_that_of_the_guide() -> None:
    """The committed picture has the title, the label and the models that the guide's code draws (tests/test_docs.py
    runs it); it is text, without scripts and without a date.
    """
    guide, picture = (GUIDES / "analysing-runs.md").read_text(), (GUIDES / "pass-rates.svg").read_text()
    code = guide[guide.index("from matplotlib.figure") :]
    for name in ("ylabel", "title"):
        found = re.search(rf'{name}="([^"]+)"', code)
        assert found is not None
        assert f">{found[1]}</text>" in picture
    assert "gpt-4.1-mini</text>" in picture
    assert "<script" not in picture
    assert "<dc:date>" not in picture
    assert 'savefig("pass-rates.svg"' in code
    assert "](pass-rates.svg)" in guide
