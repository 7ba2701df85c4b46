"""Folders as Qwen3-Embedding and Qwen3-Reranker are published: their embeddings and scores."""

import json
import shutil

import numpy as np
import pytest
import tiny
import tiny_text
from safetensors.numpy import load_file, save_file
from tokenizers import processors
from torch_models import with_drawn_weights

import latadj_jax
from latadj_jax.data.train_tokenizer import END_OF_TEXT, train_tokenizer
from latadj_jax.families.pooling import NormalizeStep
from latadj_jax.tasks.ranking import scores

QUERY_PROMPT = (
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
)
TEXTS = ["the old king lived near the river", "a small house", "many who was seen by the stone ."]


def tokenizer():
    """A byte-level BPE that knows "yes" and "no", and ends each text as Qwen3-Embedding's does."""
    found = train_tokenizer(tiny_text.story(0) + "yes\nno\n" * 50, 320)
    assert {"yes", "no"} <= {*found.get_vocab()}
    found.padding_side = "left"
    found.pad_token = END_OF_TEXT
    return found


def ending(found):
    end = processors.TemplateProcessing(
        single=f"$A {END_OF_TEXT}", pair=f"$A $B {END_OF_TEXT}",
        special_tokens=[(END_OF_TEXT, found.eos_token_id)],
    )  # fmt: skip
    found.backend_tokenizer.post_processor = end
    return found


def write_json(file, content):
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))


def language_model(folder, tied=True):
    """A random Qwen3ForCausalLM, saved with its tokenizer; returned as torch has it."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    config = tiny.hf_config(
        "qwen3", "lm", vocab_size=336, max_position_embeddings=512, tie_word_embeddings=tied,
        eos_token_id=0, num_hidden_layers=1,
    )  # fmt: skip
    config = transformers.AutoConfig.for_model(**config)
    model = with_drawn_weights(transformers.AutoModelForCausalLM.from_config(config))
    model.model.norm.weight.data *= 0.2  # else it is certain of everything
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return model.eval()


@pytest.fixture
def embedder(tmp_path):
    """As Qwen/Qwen3-Embedding-0.6B lies on the hub: of a language model, but its tensors have no
    prefix; git keeps no folder for Normalize."""
    folder = tmp_path / "embedder"
    language_model(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    ending(tokenizer()).save_pretrained(folder)
    kinds = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    write_json(folder / "modules.json", [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(kinds)
    ])  # fmt: skip
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens",
             "weightedmean_tokens", "lasttoken")  # fmt: skip
    write_json(folder / "1_Pooling" / "config.json", {
        "word_embedding_dimension": 32,
        **{f"pooling_mode_{mode}": mode == "lasttoken" for mode in modes},
        "include_prompt": True,
    })  # fmt: skip
    write_json(folder / "config_sentence_transformers.json", {
        "prompts": {"query": QUERY_PROMPT, "document": ""},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
    })  # fmt: skip
    return folder


@pytest.mark.parametrize("whose", ["as published", "as version 6 saves it", "as saved here"])
def test_embeddings_are_those_of_sentence_transformers(embedder, whose, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    theirs = sentence_transformers.SentenceTransformer(str(embedder), device="cpu")
    expected = {prompt: theirs.encode(TEXTS, prompt_name=prompt) for prompt in ("query", None)}
    if whose == "as version 6 saves it":
        theirs.save_pretrained(str(tmp_path / "again"))
        embedder = tmp_path / "again"
    model, params = latadj_jax.from_pretrained(embedder)
    found = latadj_jax.load_tokenizer(str(embedder))
    if whose == "as saved here":
        latadj_jax.save_pretrained(tmp_path / "again", model, params, found)
        theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "again"), device="cpu")
        np.testing.assert_allclose(theirs.encode(TEXTS), expected[None], rtol=0, atol=1e-4)
        model, params = latadj_jax.from_pretrained(tmp_path / "again")
        found = latadj_jax.load_tokenizer(str(tmp_path / "again"))
    spec = model.config.embedding
    assert (model.task, spec.modes, spec.steps) == (
        "embedding", ("lasttoken",), (NormalizeStep(),)
    )  # fmt: skip
    assert dict(spec.prompts) == {"query": QUERY_PROMPT, "document": ""}
    assert not model.reads_all  # the last token alone, which is never removed
    assert found("a king")["input_ids"][-1] == found.eos_token_id
    engine = latadj_jax.Engine(model, params, found, buckets=(128,), batch_sizes=(1,))
    with engine.warmup(repeats=1):
        for prompt, wanted in expected.items():
            vectors = engine(TEXTS, prompt=prompt, alpha=None)
            np.testing.assert_allclose(vectors, wanted, rtol=0, atol=1e-4)
    assert np.abs(expected["query"] - expected[None]).max() > 1e-2


# Qwen3-Reranker: "yes" or "no". How a pair is written out is the model card's; its query ends in a
# line break, so that the tokens of the two parts, side by side, are those of the whole.

PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and "
    'the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n"
)
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
INSTRUCT = "Given a web search query, retrieve relevant passages that answer the query"


def of_query(query):
    return f"{PREFIX}<Instruct>: {INSTRUCT}\n<Query>: {query}\n"


def of_document(document):
    return f"<Document>: {document}{SUFFIX}"


def model_cards_scores(theirs, found, query, documents):
    """Softmax of the logits of "no" and "yes" after the last token, as the model card has it."""
    import torch

    vocab, answers = found.get_vocab(), []
    for document in documents:
        text = of_query(query) + of_document(document)
        ids = found(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = theirs(ids).logits[0, -1]
        answers.append(logits[[vocab["no"], vocab["yes"]]].softmax(dim=0)[1].item())
    return np.array(answers)


def ranked_here(folder, query, documents):
    model, params = latadj_jax.from_pretrained(folder, "ranking")
    found = latadj_jax.load_tokenizer(str(folder))
    engine = latadj_jax.Engine(model, params, found, buckets=(512,), batch_sizes=(1,))
    with engine.warmup(repeats=1):
        ranked = engine.rank(of_query(query), [of_document(d) for d in documents])
    return np.array([r.score for r in sorted(ranked, key=lambda r: r.index)])


@pytest.mark.parametrize("tied", [True, False])
def test_a_language_model_ranks_by_yes_and_no(tied, tmp_path, caplog):
    """As it is published, and as its conversion to a classifier, which is what is saved here."""
    theirs = language_model(tmp_path / "lm", tied)
    query, documents = "who lived near the river ?", TEXTS
    expected = model_cards_scores(theirs, tokenizer(), query, documents)
    assert np.ptp(expected) > 0.01
    found = ranked_here(tmp_path / "lm", query, documents)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert "ranked by its logit of 'yes' less that of 'no'" in caplog.text

    model, params = latadj_jax.from_pretrained(tmp_path / "lm", "ranking")
    seq_cls = tmp_path / "seq-cls"
    latadj_jax.save_pretrained(seq_cls, model, params, tokenizer())
    config = json.loads((seq_cls / "config.json").read_text())
    assert config["architectures"] == ["Qwen3ForSequenceClassification"]
    assert load_file(seq_cls / "model.safetensors")["score.weight"].shape == (1, 32)
    assert latadj_jax.from_pretrained(seq_cls)[0].task == "ranking"
    again = ranked_here(seq_cls, query, documents)
    np.testing.assert_allclose(again, expected, rtol=0, atol=1e-4)
    sentence_transformers = pytest.importorskip("sentence_transformers")
    back = sentence_transformers.CrossEncoder(str(seq_cls), device="cpu")
    pairs = [(of_query(query), of_document(document)) for document in documents]
    np.testing.assert_allclose(back.predict(pairs), expected, rtol=0, atol=1e-4)


def logit_score(folder, **config):
    kinds = (("", "base.modules.Transformer"), ("1_LogitScore", "cross_encoder.modules.LogitScore"))
    write_json(folder / "modules.json", [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.{kind}"}
        for n, (path, kind) in enumerate(kinds)
    ])  # fmt: skip
    write_json(folder / "1_LogitScore" / "config.json", config)
    return folder


@pytest.mark.parametrize("false", [11, None])
def test_the_tokens_of_a_logit_score_are_those_that_it_names(false, tmp_path):
    """And such a folder is a ranker, though its architecture is a language model's."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    language_model(tmp_path)
    theirs = sentence_transformers.CrossEncoder(str(tmp_path), device="cpu")
    theirs[-1].true_token_id, theirs[-1].false_token_id = 7, false
    theirs.save_pretrained(str(tmp_path / "saved"))
    pairs = [("the king ", text) for text in TEXTS]
    for folder in (
        tmp_path / "saved", logit_score(tmp_path, true_token_id=7, false_token_id=false)
    ):  # fmt: skip
        model, params = latadj_jax.from_pretrained(folder)
        assert model.task == "ranking"
        found = latadj_jax.load_tokenizer(str(folder))
        engine = latadj_jax.Engine(model, params, found, buckets=(64,), batch_sizes=(1,))
        with engine.warmup(repeats=1):
            logits = engine(pairs)
        expected = theirs.predict(pairs)
        np.testing.assert_allclose(scores(model.config, logits)[:, 0], expected, atol=1e-4)


# A chat template that writes pairs out, as published rerankers have it.
TEMPLATE = (
    "{% set q = messages | selectattr('role', 'eq', 'query') | map(attribute='content') | first %}"
    "{% set d = messages | selectattr('role', 'eq', 'document') | map(attribute='content') | first"
    " %}<|im_start|>user\n<Query>: {{ q }}\n<Document>: {{ d }}<|im_end|>\n<|im_start|>assistant:"
)


def templated(folder, template=TEMPLATE):
    found = tokenizer()
    found.chat_template = template
    found.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("whose", ["as published", "as version 6 saves it", "as saved here"])
def test_pairs_are_written_out_by_the_chat_template(whose, tmp_path):
    """Tokens, scores and what is cut, as CrossEncoder has them; engine.rank and pairs alike."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    language_model(tmp_path / "m")
    ids = tokenizer().get_vocab()
    folder = logit_score(
        templated(tmp_path / "m"), true_token_id=ids["yes"], false_token_id=ids["no"]
    )  # fmt: skip
    theirs = sentence_transformers.CrossEncoder(str(folder), device="cpu")
    query, documents = TEXTS[0], [*TEXTS[1:], "the old stone " * 60]
    pairs = [(query, document) for document in documents]
    theirs.max_seq_length = 128  # cuts the last
    expected = theirs.predict(pairs)
    if whose == "as version 6 saves it":
        theirs.save_pretrained(str(tmp_path / "again"))
        folder = tmp_path / "again"
    model, params = latadj_jax.from_pretrained(folder)
    found = latadj_jax.load_tokenizer(str(folder))
    if whose == "as saved here":
        latadj_jax.save_pretrained(tmp_path / "again", model, params, found)
        model, params = latadj_jax.from_pretrained(tmp_path / "again")
        found = latadj_jax.load_tokenizer(str(tmp_path / "again"))
    assert model.task == "ranking"
    engine = latadj_jax.Engine(
        model, params, found, buckets=(128,), batch_sizes=(1,), truncate=True
    ).warmup(repeats=1)
    ranked = sorted(engine.rank(query, documents), key=lambda r: r.index)
    np.testing.assert_allclose([r.score for r in ranked], expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(scores(model.config, engine(pairs))[:, 0], expected, atol=1e-4)
    tokens = found(query, documents[-1], truncation=True, max_length=128)["input_ids"]
    assert len(tokens) == 128
    assert found.decode(tokens).endswith("<|im_end|>\n<|im_start|>assistant:")
    assert found.decode(found("a king")["input_ids"]) == "a king"  # one text is as it was


def test_which_templates_write_pairs_out(tmp_path):
    """Those that name both roles, or that a file says; of a ranker alone."""
    chat = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    language_model(tmp_path)
    assert _is_plain(templated(tmp_path))  # a language model
    logit_score(tmp_path, true_token_id=7)
    assert not _is_plain(tmp_path)
    assert _is_plain(templated(tmp_path, chat))
    write_json(tmp_path / "sentence_bert_config.json", {"modality_config": {"text": {}}})
    assert _is_plain(templated(tmp_path))
    write_json(tmp_path / "sentence_bert_config.json", {"modality_config": {"message": {}}})
    assert not _is_plain(templated(tmp_path, chat))
    with pytest.raises(ValueError, match="does not write out a pair of query and document"):
        _is_plain(templated(tmp_path, "{{ messages[0].content }}"))
    with pytest.raises(ValueError, match="the chat template cannot be used"):
        _is_plain(templated(tmp_path, "{{ raise_exception('no') }}"))


def _is_plain(folder) -> bool:
    found = latadj_jax.load_tokenizer(str(folder))
    return found("a king", "a stone")["input_ids"] == tokenizer()("a king", "a stone")["input_ids"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"true_token_id": "yes"}, "true_token_id and false_token_id must be ids"),
        ({"true_token_id": 7, "false_token_id": 400}, "not all among the vocabulary's 336"),
        ({"true_token_id": 7, "module_input_name": "mine"}, "LogitScore of 'mine' is not impl"),
    ],
)
def test_a_logit_score_that_cannot_be_used_is_one_sentence(config, message, tmp_path):
    language_model(tmp_path)
    with pytest.raises(ValueError, match=message):
        latadj_jax.from_pretrained(logit_score(tmp_path, **config))


def test_a_vocabulary_without_them_gives_a_new_head(tmp_path, caplog):
    language_model(tmp_path)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / file).unlink()
    _, params = latadj_jax.from_pretrained(tmp_path, "ranking")
    assert "Drawn anew, as the checkpoint lacks them: score.weight" in caplog.text
    assert params["classifier"]["kernel"].shape == (32, 1)
    other, _ = latadj_jax.from_pretrained(logit_score(tmp_path, true_token_id=7), "lm")
    assert other.task == "lm"  # named, it is what was asked for
    shutil.rmtree(tmp_path / "1_LogitScore")
    with pytest.raises(ValueError, match=r"1_LogitScore/config\.json is not"):
        latadj_jax.from_pretrained(tmp_path)
