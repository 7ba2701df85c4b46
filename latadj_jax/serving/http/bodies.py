"""The bodies of requests. What a field must be is its description: errors say it, and /docs does.

What is not known is ignored: clients send fields that only other servers have.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0)]
TEXTS = "a text, or a list of texts"
Ids = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]


class Body(BaseModel):
    """What every body may have beside its own: how fast it is to be served."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    alpha: Positive | Literal["dense"] | None = Field(
        None, description='a number greater than 0 that the server has, or "dense"'
    )
    speedup: Positive | None = Field(None, description="a number greater than 0: over dense")
    latency_ms: Positive | None = Field(
        None, description="a number greater than 0: milliseconds from its arrival"
    )


class Cut(Body):
    truncate: bool | None = Field(None, description="true or false: whether long texts are cut")


class Embed(Cut):
    """text-embeddings-inference's."""

    inputs: str | list[str] | Ids | list[Ids] = Field(description=f"{TEXTS}, or token ids of them")
    normalize: bool = Field(True, description="true or false: whether vectors have length 1")
    prompt_name: str | None = Field(None, description="the name of one of the model's prompts")


class Embeddings(Cut):
    """OpenAI's."""

    input: str | list[str] | Ids | list[Ids] = Field(description=f"{TEXTS}, or token ids of them")
    model: str | None = Field(None, description="a name, which is not looked at")
    encoding_format: Literal["float", "base64"] = Field("float", description="float or base64")
    dimensions: int | None = Field(None, description="the width of the model's vectors")


class Rerank(Cut):
    """text-embeddings-inference's."""

    query: str = Field(description="a text")
    texts: list[str] = Field(description="a list of texts")
    raw_scores: bool = Field(False, description="true or false: logits, not probabilities")
    return_text: bool = Field(False, description="true or false")


class Document(BaseModel):
    model_config = ConfigDict(strict=True)
    text: str


class RerankDocuments(Cut):
    """Cohere's and Jina's."""

    query: str = Field(description="a text")
    documents: list[str | Document] = Field(description='a list of texts, or of {"text": ...}')
    top_n: int | None = Field(None, ge=1, description="an integer of at least 1")
    return_documents: bool | None = Field(None, description="true or false")
    model: str | None = Field(None, description="a name, which is not looked at")


class Predict(Cut):
    """text-embeddings-inference's."""

    inputs: str | list[str] | list[list[str]] = Field(
        description="a text, a pair of texts, or a list of lists of one or two texts"
    )
    raw_scores: bool = Field(False, description="true or false: logits, not probabilities")


class Tag(Cut):
    inputs: str | list[str | list[str]] = Field(description=f"{TEXTS}, or of lists of words")
    aggregation: str = Field("simple", description="one of none, simple, first, average and max")


class Answer(Body):
    question: str = Field(description="a text")
    context: str = Field(description="a text")
    top_k: int = Field(1, ge=1, le=100, description="an integer of 1 to 100")
    no_answer: bool = Field(False, description="true or false: whether there may be none")
