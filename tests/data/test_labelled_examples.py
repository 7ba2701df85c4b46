import dataclasses
import json
import logging as std_logging

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from latadj_jax.data.labelled_examples import Examples, load_examples
from latadj_jax.data.settings import DataSettings
from latadj_jax.errors import DataError
from latadj_jax.tasks.classification import CLASSIFICATION
from latadj_jax.tasks.regression import REGRESSION
from latadj_jax.tasks.seq2seq import SEQ2SEQ


def write(path, content: str | bytes):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def folder(tmp_path, train, dev="text\tlabel\nfine\t1\n"):
    write(tmp_path / "train.tsv", train)
    write(tmp_path / "dev.tsv", dev)
    return str(tmp_path)


def train_of(path, task=CLASSIFICATION, **settings):
    return load_examples(DataSettings(path=path, **settings), task)[0]


# ---- reading ------------------------------------------------------------------------------------


def test_tsv_keeps_line_separators_and_lone_quotes_of_a_text(tmp_path):
    train = 'text\tlabel\nnext\x85line\u2028here\t1\n" lone quote\t0\r\nit\'s "so" \t1'
    examples = train_of(folder(tmp_path, "\ufeff" + train))  # a BOM is no part of a column name
    assert examples.texts == [("next\x85line\u2028here",), ('" lone quote',), ('it\'s "so" ',)]
    np.testing.assert_array_equal(examples.labels, [1, 0, 1])
    assert examples.labels.dtype == np.int32


def test_crlf_is_no_part_of_a_text(tmp_path):
    train = "label\ttext\r\n1\ta\r\n\r\n0\tb\r\n"
    assert train_of(folder(tmp_path, train)).texts == [("a",), ("b",)]


def test_quoted_tsv(tmp_path):
    train = 'text\tlabel\n"a ""quoted""\ttab\nand line"\t1\nplain\t0\n'
    examples = train_of(folder(tmp_path, train), local_quoting=True)
    assert examples.texts == [('a "quoted"\ttab\nand line',), ("plain",)]


def test_csv_is_quoted_and_crlf(tmp_path):
    write(tmp_path / "train.csv", 'label,text\r\nx,"a, b\x85\r\nc"\r\n\r\ny,d\r\n')
    write(tmp_path / "dev.csv", "text,label\na,x\n")
    train, evals, names = load_examples(
        DataSettings(path=str(tmp_path), train_file="train.csv", eval_files=("dev.csv",)),
        CLASSIFICATION,
    )
    assert train.texts == [("a, b\x85\r\nc",), ("d",)]
    assert evals["dev"].texts == [("a",)]  # each file has its own order of columns
    assert names == ("x", "y")


def test_a_long_document_in_a_csv_of_capital_letters(tmp_path):
    long = "word, " * 40_000
    path = write(
        tmp_path / "LONG.CSV", "text,label\n" + "".join(f'"{long}{n}",{n % 2}\n' for n in range(10))
    )
    train, evals, _ = load_examples(DataSettings(path=path, eval_fraction=0.4), CLASSIFICATION)
    assert sorted(train.texts + evals["test"].texts) == [(f"{long}{n}",) for n in range(10)]


def test_json_lines(tmp_path):
    rows = [{"text": "a\x85b", "label": 1}, {"text": "cut \ud83d", "label": 0.0}]
    ascii_lines = "\n".join(json.dumps(row) for row in rows)
    write(tmp_path / "train.jsonl", ascii_lines + "\n\n")
    write(tmp_path / "dev.jsonl", json.dumps(rows[0], ensure_ascii=False))
    files = {"train_file": "train.jsonl", "eval_files": ("dev.jsonl",)}
    train, evals, _ = load_examples(DataSettings(path=str(tmp_path), **files), CLASSIFICATION)
    assert train.texts == [("a\x85b",), ("cut \ufffd",)]  # half an emoji cannot be tokenized
    np.testing.assert_array_equal(train.labels, [1, 0])
    assert evals["dev"].texts == [("a\x85b",)]


def test_no_header_and_pairs(tmp_path):
    path = folder(tmp_path, "id\t1\tleft\t\nid\t0\t\tright\n", "id\t1\ta\tb\n")
    train, evals, _ = load_examples(
        DataSettings(
            path=path,
            local_header=False,
            local_text_columns=("2", "3"),
            local_label_column="1",
        ),
        CLASSIFICATION,
    )
    assert train.texts == [("left", ""), ("", "right")]  # one empty side of a pair is kept
    assert evals["dev"].texts == [("a", "b")]


def test_broken_bytes_are_replaced_and_counted(tmp_path, caplog):
    path = folder(tmp_path, b"text\tlabel\ncaf\xe9 \xef\xbf\xbd\t1\n\xff\t0\n")
    with caplog.at_level(std_logging.WARNING, logger="absl"):
        assert train_of(path).texts == [("caf\ufffd \ufffd",), ("\ufffd",)]
    assert "2 broken characters" in caplog.text  # not the U+FFFD that the file already held


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("body\tlabel\na\t1\n", r"train\.tsv has no column 'text'; it has: body, label\."),
        ("text\tlabel\na\t1\nb\t1\tc\n", r"train\.tsv, row 3: 3 fields, not 2"),
        ("text\tlabel\na\t1\n \t1\n", r"row 3: the text is empty"),
        ("text\tlabel\n", "holds no examples"),
        ("", "holds no examples"),
        ("text\tlabel\na\t1\n\nb\t\n", "row 4: the label is empty"),
        ("text\tlabel\na\t1\nb\t1\n", "every label is '1'"),
        ("text\tlabel\na\t1\n".encode("utf-16"), "is UTF-16"),
    ],
)
def test_a_broken_file_names_the_place(tmp_path, train, message):
    with pytest.raises(DataError, match=message):
        train_of(folder(tmp_path, train))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", 'text,label\na,1\n"never closed,0\nb,1\nc,0\n', r"a\.csv, row 3: unexpected end"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": \n', "row 2: not JSON"),
        ("a.jsonl", "[1]\n", "row 1: not a JSON object"),
        ("a.jsonl", '{"text": "a", "labels": 1}\n', "no column 'label'; it has: text, labels"),
        ("a.jsonl", '{"text": null, "label": 1}\n', "row 1: a text is not a string"),
        ("a.jsonl", '{"text": "a", "label": ["x"]}\n', r"row 1: label \['x'\] is not one value"),
        ("a.csv", "text,text,label\na,b,1\n", "more than one column 'text'"),
        ("a.xlsx", "", r"must end in \.tsv, \.csv, \.json or \.jsonl"),
    ],
)
def test_a_broken_single_file_names_the_place(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message):
        train_of(write(tmp_path / name, content))


def test_a_missing_file_or_folder_is_named(tmp_path, monkeypatch):
    folder(tmp_path, "text\tlabel\na\t1\n")
    with pytest.raises(DataError, match=r"has no file 'val\.tsv'; it has: dev\.tsv, train\.tsv"):
        train_of(str(tmp_path), eval_files=("val.tsv",))
    monkeypatch.chdir(tmp_path)
    for path in ("./nowhere", "nowhere"):
        with pytest.raises(ValueError, match=r"no such folder|no folder or file"):
            train_of(path)


def test_one_text_in_each_line(tmp_path):
    """Blank lines are skipped; without a teacher there is nothing to learn from."""
    file = tmp_path / "texts.txt"
    file.write_text("".join(f"text {n}\r\n\n" for n in range(20)))
    data = DataSettings(path=str(file), label_column="", labels=("no", "yes"))
    train, evals, _ = load_examples(data, CLASSIFICATION)
    assert sorted(train.texts + evals["test"].texts) == sorted((f"text {n}",) for n in range(20))
    for task in (CLASSIFICATION, SEQ2SEQ):
        with pytest.raises(DataError, match=f"{task.name} needs labels, but"):
            load_examples(dataclasses.replace(data, labels=()), task)


# ---- labels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["positive", "1", "1.0", " positive "])
def test_names_and_ids_are_the_same_label(tmp_path, label):
    path = folder(tmp_path, f"text\tlabel\na\t{label}\nb\tnegative\n")
    assert train_of(path, labels=("negative", "positive")).labels.tolist() == [1, 0]


def test_label_names_are_read_from_the_training_data(tmp_path):
    path = folder(tmp_path, "text\tlabel\na\t10\nb\t9\nc\t9\n", "text\tlabel\na\t10\n")
    train, evals, names = load_examples(DataSettings(path=path), CLASSIFICATION)
    assert names == ("9", "10")  # numbers in numeric order
    assert train.labels.tolist() == [1, 0, 0]
    assert evals["dev"].labels.tolist() == [1]


def test_labels_that_are_read_alike_as_numbers_stay_apart(tmp_path):
    labels = ["01", "1", "1e2", "100", "1225432198765432832", "1225432198765432833", "2.0", "2"]
    rows = "".join(f"t{n}\t{label}\n" for n, label in enumerate(labels))
    train, _, names = load_examples(
        DataSettings(path=folder(tmp_path, f"text\tlabel\n{rows}", "text\tlabel\na\t1\n")),
        CLASSIFICATION,
    )
    assert set(names) == {*labels} - {"2.0"}
    assert [names[i] for i in train.labels] == [*labels[:-2], "2", "2"]


def test_true_and_false_are_the_classes_of_that_name_and_else_ids(tmp_path):
    rows = [f'{{"text": "text {n}", "label": {str(n % 2 == 0).lower()}}}\n' for n in range(40)]
    path = write(tmp_path / "a.jsonl", "".join(rows))
    for labels, of_true in (
        (("True", "False"), 0),
        (("false", "true"), 1),
        (("no", "yes"), 1),
        ((), 1),
    ):
        train = train_of(path, labels=labels)
        assert len(train) == 36
        for (text,), y in pairs_of(train):
            assert y == (of_true if int(text.split()[1]) % 2 == 0 else 1 - of_true), labels


def test_labels_of_which_one_is_no_number_are_sorted_as_texts(tmp_path):
    rows = "".join(f"t{n}\t{label}\n" for n, label in enumerate(["2", "nan", "10", "1"]))
    path = folder(tmp_path, f"text\tlabel\n{rows}", "text\tlabel\na\t1\n")
    assert load_examples(DataSettings(path=path), CLASSIFICATION)[2] == ("1", "10", "2", "nan")


def test_numbers_that_are_names_are_never_ids(tmp_path):
    path = folder(tmp_path, "text\tlabel\na\t0\nb\t1\n")
    with pytest.raises(DataError, match=r"row 2: label '0' is not one of 1 \(0\), 2 \(1\)"):
        train_of(path, labels=("1", "2"))


@pytest.mark.parametrize("label", ["2", "-1", "neutral", "", "0.5"])
def test_a_label_outside_names_row_value_and_what_is_allowed(tmp_path, label):
    path = folder(tmp_path, "text\tlabel\na\t1\nb\t0\n", f"text\tlabel\na\t1\nb\t{label}\n")
    message = rf"dev\.tsv, row 3: label '{label}' is not one of negative \(0\), positive \(1\)"
    with pytest.raises(DataError, match=message):
        train_of(path, labels=("negative", "positive"))


def test_regression(tmp_path):
    path = folder(tmp_path, "text\tlabel\na\t2.5\nb\t-1\n")
    train, evals, names = load_examples(DataSettings(path=path), REGRESSION)
    assert (train.labels.dtype, names) == (np.float32, ())
    assert train.labels.tolist() == [2.5, -1.0]
    assert evals["dev"].labels.tolist() == [1.0]


@pytest.mark.parametrize("label", ["nan", "inf", "", "high"])
def test_a_target_that_is_no_number_raises(tmp_path, label):
    path = folder(tmp_path, f"text\tlabel\na\t2.5\nb\t{label}\n")
    with pytest.raises(DataError, match=f"row 3: label '{label}' is not a finite number"):
        train_of(path, REGRESSION)


# ---- one file, and subsets ----------------------------------------------------------------------


def single(tmp_path, rows, **settings):
    lines = "".join(f"{body}\t{label}\n" for body, label in rows)
    path = write(tmp_path / "all.tsv", "text\tlabel\n" + lines)
    return load_examples(
        DataSettings(path=path, **settings), CLASSIFICATION, seed=settings.get("seed", 0)
    )


def pairs_of(examples):
    return set(zip(examples.texts, examples.labels.tolist(), strict=True))


ROWS = [(f"text {i}", "rare" if i % 5 == 0 else "often") for i in range(100)]


def test_one_file_is_split_in_the_shares_of_the_labels(tmp_path):
    train, evals, names = single(tmp_path, ROWS, eval_fraction=0.2)
    assert (names, list(evals)) == (("often", "rare"), ["test"])
    assert np.bincount(evals["test"].labels).tolist() == [16, 4]
    assert np.bincount(train.labels).tolist() == [64, 16]
    assert len(pairs_of(train) | pairs_of(evals["test"])) == 100


def test_the_split_depends_on_the_rows_only(tmp_path):
    path = write(tmp_path / "a.tsv", "text\tlabel\n" + "".join(f"{t}\t{n}\n" for t, n in ROWS))
    data = DataSettings(path=path)
    first, second = (load_examples(data, CLASSIFICATION, seed)[1]["test"] for seed in (0, 1))
    assert first.texts == second.texts
    _, backwards, _ = single(tmp_path, ROWS[::-1])
    assert pairs_of(backwards["test"]) == pairs_of(first)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a b", "A  B", "a b ", "c", "C", "d", "e"]), st.sampled_from("xy")
        ),
        min_size=10,
        max_size=40,
    ),
    st.sampled_from([0.1, 0.5, 0.9]),
)
def test_no_text_is_on_both_sides_of_the_split(tmp_path, rows, fraction):
    rows += [("only x", "x"), ("only y", "y"), ("more x", "x"), ("more y", "y")]
    train, evals, _ = single(tmp_path, rows, eval_fraction=fraction)
    sides = [
        {" ".join(t.lower().split()) for (t,) in part.texts} for part in (train, evals["test"])
    ]
    assert not sides[0] & sides[1]
    assert len(train) + len(evals["test"]) == len(rows)


def test_a_swapped_pair_is_the_same_pair(tmp_path):
    rows = [(f"{i}", f"other {i}") for i in range(10)]
    lines = [f"{a}\t{b}\t{i % 2}\n" for i, (a, b) in enumerate(rows)]
    lines += [f"{b}\t{a}\t{i % 2}\n" for i, (a, b) in enumerate(rows)]
    path = write(tmp_path / "a.tsv", "a\tb\tlabel\n" + "".join(lines))
    data = DataSettings(path=path, text_columns=("a", "b"), eval_fraction=0.5)
    train, evals, _ = load_examples(data, CLASSIFICATION)
    assert not {frozenset(t) for t in train.texts} & {frozenset(t) for t in evals["test"].texts}


def test_many_small_classes_are_held_out_from_too(tmp_path):
    rows = [(f"text {n} {label}", f"class{label}") for label in range(30) for n in range(5)]
    train, evals, _ = single(tmp_path, rows)
    assert (len(train), len(evals["test"])) == (135, 15)
    assert np.bincount(train.labels).min() == 4


def test_too_few_rows_to_split(tmp_path):
    with pytest.raises(DataError, match="too few to hold out"):
        single(tmp_path, [("a", "x"), ("b", "y")])


def test_subsets_are_drawn_and_stay_the_same(tmp_path):
    # Labels that alternate: every second example would give one label only.
    rows = "text\tlabel\n" + "".join(f"t{i}\t{i % 2}\n" for i in range(100))
    path = folder(tmp_path, rows, rows)
    data = DataSettings(path=path, max_train_examples=50, max_eval_examples=50)
    (train0, evals0, _), (train1, evals1, _) = (
        load_examples(data, CLASSIFICATION, s) for s in (0, 1)
    )
    assert len(train0) == len(evals0["dev"]) == 50
    assert train0.texts == load_examples(data, CLASSIFICATION, 0)[0].texts
    assert train0.texts != train1.texts
    assert evals0["dev"].texts == evals1["dev"].texts  # whatever the seed
    assert len(set(evals0["dev"].texts)) == 50
    assert 10 < evals0["dev"].labels.sum() < 40
    np.testing.assert_array_equal(train0.labels, [int(t[1:]) % 2 for (t,) in train0.texts])


def test_a_limit_above_the_size_takes_all(tmp_path):
    path = folder(tmp_path, "text\tlabel\na\t1\nb\t0\n")
    assert len(train_of(path, max_train_examples=5)) == 2


def test_subset_of_examples():
    part = Examples([("a",), ("b",), ("c",)], np.float32([1, 2, 3])).subset([2, 0])
    assert part.texts == [("c",), ("a",)]
    np.testing.assert_array_equal(part.labels, np.float32([3, 1]))
    assert len(part.subset([])) == 0


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_array_is_read_however_it_is_printed(indent, tmp_path):
    rows = [{"text": f"text\n{n}", "label": n % 2} for n in range(20)]
    path = write(tmp_path / "rows.json", "\n" + json.dumps(rows, indent=indent) + "\n")
    train, evals, _ = load_examples(DataSettings(path=path, eval_fraction=0.4), CLASSIFICATION)
    assert sorted(train.texts + evals["test"].texts) == sorted((row["text"],) for row in rows)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"text": "a", "label": 0}, 1]', r"a\.json, row 2: not a JSON object"),
        ('[{"text": "a", "label": 0},\n{"label": 1}]', r"a\.json, row 2, has no column 'text'"),
        ('[{"text": "a", "label": 0},', r"a\.json: not JSON \(Expecting value"),
        ('{\n "data": [\n {"text": "a"}\n ]\n}', r"a\.json is one JSON object; needed is an ar"),
        ('{"text": "a", "label": 0}\n{"text"', r"a\.json, row 2: not JSON"),
        ('["a b", 0]\n["c d", 1]', r"a\.json, row 1: not a JSON object"),
        ('[{"text": "a"}]\n[{"text": "b"}]', r"a\.json, row 1: not a JSON object"),
        ("[]", r"a\.json holds no examples"),
        ("[" * 100_000, r"a\.json: not JSON \("),
    ],
)
def test_broken_json_names_the_place(content, message, tmp_path):
    path = write(tmp_path / "a.json", content)
    with pytest.raises(DataError, match=message):
        load_examples(DataSettings(path=path), CLASSIFICATION)
