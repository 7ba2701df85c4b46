"""transformers on torch, eager or compiled; and the same elimination written in plain torch."""

import functools
import os

import torch
import transformers
import worker

torch.set_num_threads(os.cpu_count())


@functools.cache
def weights(dtype: str, num_layers: int):
    torch.manual_seed(0)
    config = transformers.BertConfig(num_hidden_layers=num_layers, attn_implementation="sdpa")
    model = transformers.BertForSequenceClassification(config).eval()
    return model.to(getattr(torch, dtype))


def build(variant: dict, shape: dict):
    model = weights(variant["dtype"], shape["layers"])
    torch.manual_seed(0)
    ids = torch.randint(1000, 30000, (shape["batch"], shape["length"]))
    mask = torch.ones_like(ids)

    def dense(ids, mask):
        return model(input_ids=ids, attention_mask=mask).logits

    call = functools.partial(pruned, model, variant["counts"]) if variant["counts"] else dense
    if variant["compiled"]:
        torch._dynamo.reset()
        call = torch.compile(call)

    def run():
        with torch.inference_mode():
            return call(ids, mask).float().numpy()

    return run


def pruned(model, counts: list[int], ids, mask):
    """BERT whose layer l hands on counts[l] word-vectors, those that receive the most attention."""
    bert = model.bert
    x = bert.embeddings(input_ids=ids)
    hidden = ~mask.bool()
    for layer, count in zip(bert.encoder.layer, counts, strict=True):
        own, batch, length = layer.attention.self, *x.shape[:2]
        q, k, v = (
            part(x).view(batch, length, own.num_attention_heads, -1).transpose(1, 2)
            for part in (own.query, own.key, own.value)
        )
        logits = (q @ k.transpose(2, 3)).float() * q.shape[-1] ** -0.5
        probs = logits.masked_fill(hidden[:, None, None], torch.finfo(logits.dtype).min).softmax(-1)
        if count < length:
            scores = (probs.mean(1) * ~hidden[:, :, None]).sum(1)
            scores[:, 0] = torch.inf  # CLS
            scores = scores.masked_fill(hidden, -torch.inf)
            keep = scores.topk(count).indices.sort().values
            x = x.gather(1, keep[..., None].expand(-1, -1, x.shape[2]))
            rows = keep[:, None, :, None].expand(-1, probs.shape[1], -1, length)
            probs, hidden = probs.gather(2, rows), hidden.gather(1, keep)
        heads = (probs.to(v.dtype) @ v).transpose(1, 2).reshape(x.shape)
        x = layer.attention.output(heads, x)
        x = layer.output(layer.intermediate(x), x)
    return model.classifier(bert.pooler(x))


if __name__ == "__main__":
    worker.serve(build)
