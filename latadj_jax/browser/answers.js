// Bars of what a graph gives. Each function takes the rows (one for each text), the labels and the
// texts, and gives bars: {name, number, share}, share being how long a bar is, 0 to 1.

const sigmoid = x => 1 / (1 + Math.exp(-x));
const percent = share => `${(100 * share).toFixed(1)} %`;

function softmax(row) {
  const most = Math.max(...row), weights = Array.from(row, x => Math.exp(x - most));
  const total = weights.reduce((sum, x) => sum + x, 0);
  return weights.map(x => x / total);
}

const ofLabels = (labels, shares) =>
  labels.map((name, n) => ({name, number: shares[n], share: shares[n], shown: percent(shares[n])}));

function cosine(a, b) {
  let ab = 0, aa = 0, bb = 0;
  for (let n = 0; n < a.length; n++) { ab += a[n] * b[n]; aa += a[n] * a[n]; bb += b[n] * b[n]; }
  return ab / Math.sqrt(aa * bb);
}

function ranked(activation) {
  return (rows, labels, texts) => rows
    .map(([logit], n) => ({name: texts[n][1], logit, number: activation(logit),
                           share: sigmoid(logit), shown: activation(logit).toFixed(4)}))
    .sort((a, b) => b.logit - a.logit);
}

export const ANSWERS = {
  softmax: ([row], labels) => ofLabels(labels, softmax(row)),
  sigmoid: ([row], labels) => ofLabels(labels, Array.from(row, sigmoid)),
  values: ([row], labels) =>
    labels.map((name, n) => ({name, number: row[n], share: sigmoid(row[n]), shown: row[n].toFixed(4)})),
  cosine: ([first, ...others], labels, texts) => others.map((row, n) => {
    const number = cosine(first, row);
    return {name: texts[n + 1][0], number, share: Math.max(0, number), shown: number.toFixed(4)};
  }),
  rankSigmoid: ranked(sigmoid),
  rankIdentity: ranked(x => x),
  rankTanh: ranked(Math.tanh),
  rankSoftmax: ranked(() => 1),  // of one score
};
