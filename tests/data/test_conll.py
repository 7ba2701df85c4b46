"""CoNLL's columns: texts of words and tags, as the files of shared tasks have them."""

import pytest

from latadj_jax.data.conll import FIRST, LAST, TaggedText, read_conll
from latadj_jax.errors import DataError


def texts(content: str, word=FIRST, tag=LAST) -> list[tuple[tuple, tuple | None]]:
    return [(text.words, text.tags) for text in read_conll("a.conll", content, word, tag)]


def test_a_blank_line_ends_a_text_and_may_hold_a_tab():
    """As in WNUT 2017; fails where such a line is taken for a word, or rows are counted anew."""
    found = read_conll("a.conll", "Empire\tB-loc\nState\tI-loc\n\t\n\n ok\tO\r\n", FIRST, LAST)
    assert found == [
        TaggedText(("Empire", "State"), ("B-loc", "I-loc"), (1, 2)),
        TaggedText(("ok",), ("O",), (5,)),
    ]


def test_four_columns_with_spaces_and_document_marks():
    """As in CoNLL 2003."""
    content = "-DOCSTART- -X- O O\n\nEU NNP I-NP B-ORG\nrejects VBZ  I-VP O\n"
    assert texts(content) == [(("EU", "rejects"), ("B-ORG", "O"))]
    assert texts(content, "1", "2") == [(("NNP", "VBZ"), ("I-NP", "I-VP"))]


def test_a_comment_has_not_the_columns_of_a_token():
    """As in MultiCoNER; "#" is a word of WNUT 2017, and tweets begin with it."""
    assert texts("# id 7f2\tdomain=train\nnew _ _ O\n# _ _ O\n\n# id 8\tdomain=train\ny _ _ O\n") \
        == [(("new", "#"), ("O", "O")), (("y",), ("O",))]  # fmt: skip
    assert texts("#\tO\n#tag\tO\n# sent_id = 1\nx\tB-a\n") == [
        (("#", "#tag", "x"), ("O", "O", "B-a"))
    ]
    assert texts("# \tO\n") == [(("#",), ("O",))]


def test_columns_by_their_names_in_the_first_line():
    content = "# a comment\nid\ttag\ttoken\n1\tB-a\tx\n2\tO\ty\n\n1\tO\tz\n"
    assert texts(content, "token", "tag") == [(("x", "y"), ("B-a", "O")), (("z",), ("O",))]
    assert texts(content, "token", "") == [(("x", "y"), None), (("z",), None)]


def test_a_word_may_be_a_strange_space_or_hold_one():
    """U+0085 ends no line, a no-break space is a word, and between tabs a word may hold a space."""
    assert texts("\u00a0 O\nx\u0085y B-a\n") == [(("\u00a0", "x\u0085y"), ("O", "B-a"))]
    assert texts("New York\tB-loc\n") == [(("New York",), ("B-loc",))]


def test_words_alone_are_read_without_tags():
    assert texts("a\nb\n\nc\n", tag="") == [(("a", "b"), None), (("c",), None)]
    assert texts("a\tO\nb\tO\n", tag="") == [(("a", "b"), None)]


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        ("a\tO\nb\n", (), r"a\.conll, row 2: 1 columns, not 2 as in row 1"),
        ("a O\n\nNew York O\n", (), r"row 3: 3 columns, not 2 as in row 1"),
        ("a\tO\n\tO\n", (), r"row 2: the word is empty; remove the row"),
        ("a\nb\n", (), r"a\.conll has words and no tags: it needs a second column, or a teacher's"),
        ("a\tO\n", ("0", "2"), r"no column '2'; it has: 0, 1\. Set config\.data\.local_text_colum"),
        ("a\tO\n", ("word", "tag"), r"a\.conll has no column 'word'; it has: a, O"),
    ],
)
def test_a_broken_file_names_the_place(content, columns, message):
    with pytest.raises(DataError, match=message):
        texts(content, *columns)


@pytest.mark.parametrize("content", ["", "\n\t\n", "-DOCSTART- -X- O O\n\n"])
def test_nothing_gives_nothing(content):
    assert texts(content) == []
