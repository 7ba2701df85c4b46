"""Stand-ins for the libraries of the page in a browser, which say what they are given."""

from pathlib import Path

import numpy as np

# Logits of three labels: how many tokens, the sum of their ids, and 100 times alpha; by ten.
RUNTIME = """
export const env = {wasm: {}};
export class Tensor { constructor(type, data, dims) { Object.assign(this, {type, data, dims}); } }
export const InferenceSession = {create: async (file, {externalData: [{path, data}]}) => {
  if (path !== "weights.bin" || !data.length) throw new Error("no weights");
  const alpha = Number(/alpha(.+).onnx/.exec(file)?.[1] ?? 0);
  const run = async feeds => {
    const {dims: [count, length], type} = feeds.input_ids;
    if (!file.startsWith(`length${length}_`) || type !== "int64") throw new Error(file);
    const rows = Array.from({length: count}, (_, row) => {
      const of = name => feeds[name].data.slice(row * length, (row + 1) * length);
      const sum = name => Array.from(of(name), Number).reduce((total, one) => total + one, 0);
      return [sum("attention_mask"), sum("input_ids"), 100 * alpha].map(x => x / 10);
    });
    const tensor = {data: Float32Array.from(rows.flat()), dims: [count, 3]};
    return new Proxy({}, {get: () => tensor});
  };
  return {run, release: async () => {}};
}};
"""
# A token for each word, whose id is how long it is, between 1 and 2.
TOKENIZER = """
export class Tokenizer {
  encode(text, {text_pair}) {
    const lengths = part => part.split(" ").map(word => word.length);
    const ids = [1, ...lengths(text), 2, ...(text_pair ? [...lengths(text_pair), 2] : [])];
    return {ids, token_type_ids: ids.map(() => 0)};
  }
}
"""
FILES = {
    "onnxruntime-web/dist/ort.wasm.bundle.min.mjs": RUNTIME,
    "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm": "none",
    "@huggingface/tokenizers/dist/tokenizers.min.mjs": TOKENIZER,
    "@huggingface/tokenizers/LICENSE": "none",
}


def node_modules(folder: Path) -> Path:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def logits(text: str, pair: str | None, longest: int, alpha: float | None) -> np.ndarray:
    """What the runtime above gives [3]; what is too long is cut before its last token."""
    ids = [1, *map(len, text.split()), 2]
    if pair:
        ids += [*map(len, pair.split()), 2]
    if len(ids) > longest:
        ids = [*ids[: longest - 1], ids[-1]]
    return np.array([len(ids), sum(ids), 100 * (alpha or 0)]) / 10
