"""Settings of the data: where examples come from, and how they are cut."""

import dataclasses


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
    # A fine-tuned model whose dense answers are learned, see teacher.py; labels are for evaluation
    # only then. "" = nobody, or where there are no labels at all model.source itself.
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
    max_length: int = 128  # tokens
    max_target_length: int = 128  # tokens, of "seq2seq"
    truncate: bool = False  # whether a text longer than that is cut, or refused
    buckets: tuple[int, ...] = ()  # padded lengths; () = 16, 24, 32, 48, ... max_length
    max_train_examples: int = 0  # 0 = all
    max_eval_examples: int = 0

    @property
    def labelled_by(self) -> str:
        """The column of labels; "" where there is none."""
        return (self.path and self.local_label_column) or self.label_column
