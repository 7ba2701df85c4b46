"""Settings of the data: where examples come from, and how they are cut."""

import dataclasses

from latadj_jax.checks import need, need_not_negative
from latadj_jax.errors import SettingsError


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """Where examples come from: from `path` if it is set, else from the hub."""

    # ---- a data set of the hub
    hub: str = ""  # id of the data set, e.g. "nyu-mll/glue"
    hub_config: str = ""  # its configuration, e.g. "sst2"
    train_split: str = "train"  # the split to train on
    eval_splits: tuple[str, ...] = ("validation",)  # the splits to evaluate on
    # ---- which columns
    text_columns: tuple[str, ...] = ("text",)  # the column of the text, or two columns of a pair
    # The column of the label; for "seq2seq" that of the target text. "" = there are no labels: a
    # teacher answers instead.
    label_column: str = "label"
    # A fine-tuned model whose dense answers are learned; labels are then used for evaluation only.
    # "" = none, or, where there are no labels, model.source. See training/jobs/teacher.py.
    teacher: str = ""
    # ---- local files, in place of the hub
    path: str = ""  # a folder, a file, or "package:NAME/file"
    # The training file in a folder. A text file named by its column (train.en for column "en") has
    # one row per line, and the other column in a file beside it (train.de).
    train_file: str = "train.tsv"
    eval_files: tuple[str, ...] = ("dev.tsv",)  # the evaluation files in a folder
    # Columns in local files, if they differ from text_columns; "3" is column 3, from 0.
    local_text_columns: tuple[str, ...] = ()
    local_label_column: str = ""  # column in local files, if it differs from label_column
    local_header: bool = True  # whether the first line of a file names its columns
    local_quoting: bool = False  # whether fields may be quoted, as in CSV (.csv files always may)
    eval_fraction: float = 0.1  # share of a single file that is held out, in the shares of labels
    # ---- any data
    labels: tuple[str, ...] = ()  # their names, in the order of their ids; () = from the data
    label_separator: str = ","  # what stands between several labels of one text
    max_length: int = 128  # longest text, in tokens
    max_target_length: int = 128  # longest target text of "seq2seq", in tokens
    truncate: bool = False  # whether longer texts are cut instead of refused
    # For "question-answering": tokens that two windows of a context share, at most half of those
    # that the question leaves to the context.
    stride: int = 128
    buckets: tuple[int, ...] = ()  # padded lengths; () = 16, 24, 32, 48, ... max_length
    max_train_examples: int = 0  # use so many examples; 0 = all
    max_eval_examples: int = 0  # use so many examples; 0 = all

    @property
    def labelled_by(self) -> str:
        """The column of labels; "" where there is none."""
        return (self.path and self.local_label_column) or self.label_column

    def check(self) -> None:
        """Raises SettingsError for a value that cannot work."""
        if not (self.hub or self.path):
            raise SettingsError(
                "config.data names no data: set config.data.path to a file or folder, or "
                "config.data.hub to a data set id."
            )
        columns, local = self.text_columns, self.local_text_columns
        need(len(columns) in (1, 2), "data.text_columns", columns, "one or two columns")
        need(len(local) <= 2, "data.local_text_columns", local, "0 to 2")
        share = self.eval_fraction
        need(0 < share < 1, "data.eval_fraction", share, "between 0 and 1")
        labels = self.labels
        need(len(set(labels)) == len(labels), "data.labels", labels, "all different")
        need(len(labels) != 1, "data.labels", labels, "two names or more, or () to read them")
        need(bool(self.label_separator), "data.label_separator", "", "what stands between labels")
        need(bool(self.eval_files), "data.eval_files", self.eval_files, "one file or more")
        need(bool(self.eval_splits), "data.eval_splits", self.eval_splits, "one split or more")
        longest, target = self.max_length, self.max_target_length
        need(longest >= 3, "data.max_length", longest, "at least 3")
        need(target >= 2, "data.max_target_length", target, "at least 2")
        fit = all(isinstance(bucket, int) and 0 < bucket <= longest for bucket in self.buckets)
        rule = f"lengths from 1 to data.max_length ({longest})"
        need(fit, "data.buckets", self.buckets, rule)
        need_not_negative("data.stride", self.stride)
        need_not_negative("data.max_train_examples", self.max_train_examples)
        need_not_negative("data.max_eval_examples", self.max_eval_examples)
