"""Settings of the data: where examples come from, and how they are cut."""

import dataclasses

from latadj_jax.checks import need, need_not_negative
from latadj_jax.errors import SettingsError


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """Where examples come from: `path` when it is set, the hub otherwise."""

    # the hub
    hub: str = ""  # data set id, e.g. "nyu-mll/glue"
    hub_config: str = ""  # e.g. "sst2"
    train_split: str = "train"
    eval_splits: tuple[str, ...] = ("validation",)
    text_columns: tuple[str, ...] = ("text",)  # one text, or two for a pair
    # Of "seq2seq" the target text. "" = there are none: a teacher answers instead.
    label_column: str = "label"
    # A fine-tuned model whose dense answers are learned, see training/jobs/teacher.py; labels are
    # for evaluation only then. "" = nobody, or, where there are no labels at all, model.source.
    teacher: str = ""
    # local files take the place of the hub
    path: str = ""  # a folder, one file, or "package:NAME/file"
    # A text file named by its column, train.en for column "en", has a row in each line, and those
    # of the other column in a file beside it, train.de.
    train_file: str = "train.tsv"
    eval_files: tuple[str, ...] = ("dev.tsv",)
    local_text_columns: tuple[str, ...] = ()  # () = as on the hub; "3" = column 3 (from 0)
    local_label_column: str = ""
    local_header: bool = True
    local_quoting: bool = False  # whether fields may be quoted, as in CSV (.csv always are)
    eval_fraction: float = 0.1  # of one single file, held out by a stratified split
    # both
    labels: tuple[str, ...] = ()  # names in the order of their ids; () = read from the data
    label_separator: str = ","  # between the labels of a text that may have several
    max_length: int = 128  # tokens
    max_target_length: int = 128  # tokens, of "seq2seq"
    truncate: bool = False  # whether a text longer than that is cut, or refused
    # Of "question-answering", tokens that two windows of a context share: at most half of those
    # that the question leaves to the context.
    stride: int = 128
    buckets: tuple[int, ...] = ()  # padded lengths; () = 16, 24, 32, 48, ... max_length
    max_train_examples: int = 0  # 0 = all
    max_eval_examples: int = 0

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
