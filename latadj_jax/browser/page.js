// Runs the exported graphs on what stands in the fields, at the speed of the slider and dense.

import * as ort from "./libraries/onnxruntime.js";
import { Tokenizer } from "./libraries/tokenizers.js";
import { ANSWERS } from "./answers.js";

const MOST_SESSIONS = 4;  // each keeps a copy of the weights
const MOST_RUNS = 9, ENOUGH_MS = 500;  // of a timing
const byId = id => document.getElementById(id);
const json = async path => (await fetched(path)).json();

async function fetched(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path} cannot be read (${response.status})`);
  return response;
}

// ---- what is loaded once ------------------------------------------------------------------------

const [about, page] = await Promise.all([json("export.json"), json("page.json")]);
const described = await Promise.all([json("tokenizer.json"), json("tokenizer_config.json")]);
const tokenizer = new Tokenizer(...described);
const lengths = [...new Set(about.graphs.map(graph => graph.length))].sort((a, b) => a - b);
const longest = lengths.at(-1);
const alphas = about.graphs.filter(graph => graph.length === longest).map(graph => graph.alpha);
const weights = await download(about.weights);
if (crossOriginIsolated) ort.env.wasm.numThreads = Math.max(2, navigator.hardwareConcurrency >> 1);
ort.env.wasm.wasmPaths = {wasm: new URL("libraries/onnxruntime.wasm", location.href).href};

async function download(path) {
  const response = await fetched(path), size = Number(response.headers.get("content-length"));
  const parts = [], reader = response.body.getReader();
  for (let done = 0, part; (part = (await reader.read()).value);) {
    parts.push(part);
    done += part.length;
    byId("status").textContent =
      `Loading the model: ${(done / 1e6).toFixed(0)}${size ? ` of ${(size / 1e6).toFixed(0)}` : ""} MB`;
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

// ---- running ------------------------------------------------------------------------------------

const sessions = new Map();  // by file, that used last at the end

async function sessionOf(graph) {
  const session = sessions.get(graph.file) ?? await ort.InferenceSession.create(graph.file, {
    executionProviders: ["wasm"], externalData: [{path: about.weights, data: weights}],
  });
  sessions.delete(graph.file);
  sessions.set(graph.file, session);
  for (const [file, old] of [...sessions].slice(0, -MOST_SESSIONS)) {
    sessions.delete(file);
    await old.release();
  }
  return session;
}

// Each text a list of one or two strings; cut to the longest padded length, its last token kept.
function encoded(texts) {
  return texts.map(([text, pair]) => {
    const options = {text_pair: pair ?? null, return_token_type_ids: true};
    const {ids, token_type_ids} = tokenizer.encode(page.prompt + text, options);
    const cut = list => list.length > longest ? [...list.slice(0, longest - 1), list.at(-1)] : list;
    return {input_ids: cut(ids), token_type_ids: cut(token_type_ids), was: ids.length};
  });
}

function feedsOf(examples, length) {
  const feeds = {};
  for (const name of about.inputs) {
    const numbers = new BigInt64Array(examples.length * length);  // padded with 0
    examples.forEach((example, row) => example.input_ids.forEach((_, n) => {
      numbers[row * length + n] = BigInt(name === "attention_mask" ? 1 : example[name][n]);
    }));
    feeds[name] = new ort.Tensor("int64", numbers, [examples.length, length]);
  }
  return feeds;
}

// Of each graph the rows of its output, and the median milliseconds of runs in turns: what else the
// machine does meanwhile slows all of them.
async function run(graphs, feeds) {
  const runs = [];
  for (const graph of graphs) {
    const session = await sessionOf(graph), out = (await session.run(feeds))[about.outputs[0]];
    const [count, width] = out.dims;
    const rows = Array.from({length: count}, (_, n) => out.data.slice(n * width, (n + 1) * width));
    runs.push({session, rows, times: []});
  }
  const began = performance.now();
  do {
    for (const {session, times} of runs) {
      const start = performance.now();
      await session.run(feeds);
      times.push(performance.now() - start);
    }
  } while (runs[0].times.length < MOST_RUNS && performance.now() - began < ENOUGH_MS);
  return runs.map(({rows, times}) => ({rows, ms: times.sort((a, b) => a - b)[times.length >> 1]}));
}

// ---- showing ------------------------------------------------------------------------------------

function textsAsked() {
  const first = byId("first").value.trim();
  const others = byId("others").value.split("\n").map(line => line.trim()).filter(Boolean);
  if (!first || (page.others && !others.length)) return [];
  if (!page.others) return [[first]];
  return page.pairs ? others.map(one => [first, one]) : [[first], ...others.map(one => [one])];
}

async function show() {
  const texts = textsAsked(), alpha = alphas[byId("slider").value];
  if (!texts.length) return byId("answer").replaceChildren();
  const examples = encoded(texts), most = Math.max(...examples.map(one => one.input_ids.length));
  const length = lengths.find(one => one >= most);
  const graphAt = of => about.graphs.find(graph => graph.length === length && graph.alpha === of);
  const graph = graphAt(alpha), feeds = feedsOf(examples, length);
  byId("setting").textContent = alpha === null ? "dense"
    : `${graph.expected_speedup.toFixed(2)}x expected (alpha ${alpha.toPrecision(3)})`;
  const [dense, now = dense] = await run(alpha === null ? [graph] : [graphAt(null), graph], feeds);
  const bars = of => ANSWERS[page.answer](of.rows, about.labels, texts);
  const marks = new Map(bars(dense).map(bar => [bar.name, bar]));
  byId("answer").replaceChildren(...bars(now).map(bar => itemOf(bar, marks.get(bar.name))));
  byId("ms").textContent = `${now.ms.toFixed(1)} ms`;
  byId("dense-ms").textContent = `${dense.ms.toFixed(1)} ms`;
  byId("faster").textContent = `${(dense.ms / now.ms).toFixed(2)}x`;
  const longer = examples.filter(one => one.was > longest).length;
  const counted = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
  byId("notes").textContent = `${counted(texts.length, "text")} of up to ${most} tokens, padded to ` +
    `${length}, on ${counted(ort.env.wasm.numThreads || 1, "thread")}.` +
    (longer ? ` ${counted(longer, "text")} cut to ${longest} tokens.` : "");
}

function itemOf({name, number, share, shown}, mark) {
  const made = (parent, tag, text = "", className = "") => {
    const element = parent.appendChild(document.createElement(tag));
    element.textContent = text;
    if (className) element.className = className;
    return element;
  };
  const item = document.createElement("li"), line = made(item, "div", "", "name");
  Object.assign(item.dataset, {name, number, dense: mark.number});
  made(line, "span", name);
  made(line, "span", shown, "number");
  const track = made(item, "div", "", "track");
  made(track, "i").style.width = `${100 * share}%`;
  made(track, "u").style.left = `${100 * mark.share}%`;
  return item;
}

// One at a time; what changes meanwhile is shown after it.
let running = false, changed = false;
async function refresh() {
  changed = true;
  if (running) return;
  running = true;
  byId("main").classList.add("busy");
  while (changed) {
    changed = false;
    try {
      await show();
      byId("status").textContent = "";
    } catch (error) {
      byId("status").textContent = `It did not work: ${error.message}`;
    }
  }
  byId("main").classList.remove("busy");
  running = false;
}

// ---- the beginning ------------------------------------------------------------------------------

// What stands after # in the address, e.g. #at=2&first=a+text, comes before the examples.
const given = new URLSearchParams(location.hash.slice(1));
["first", "others"].forEach((id, n) => {
  byId(`${id}-name`).append(page[id]);
  byId(id).value = given.get(id) ?? page.examples[n] ?? "";
});
byId("others-label").hidden = !page.others;
byId("title").textContent = document.title = page.title;
byId("slider").max = alphas.length - 1;
byId("slider").value = given.get("at") ?? 1;
byId("main").hidden = false;
for (const id of ["first", "others", "slider"]) byId(id).addEventListener("input", refresh);
await refresh();
document.body.dataset.done = "";
