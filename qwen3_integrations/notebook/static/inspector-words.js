// The words of a document that also occur in the query.

const COMMON = new Set(
  "a an and are as at be but by can did do does for from had has have how i if in into is it its me my not of on or our so than that the their then there these they this to us was we were what when where which who why will with you your".split(" "),
);
const UNSPACED = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]/u;

/** A pattern for the query's words without common English words, each with up to three more letters; null if no word is left. */
function termPattern(query) {
  const words = [...new Intl.Segmenter(undefined, { granularity: "word" }).segment(query.toLowerCase())]
    .filter((part) => part.isWordLike)
    .map((part) => part.segment);
  const terms = [...new Set(words)].filter((word) => !COMMON.has(word)).sort((a, b) => b.length - a.length);
  const escaped = (word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const parts = terms.map((word) =>
    UNSPACED.test(word) ? escaped(word) : `(?<![\\p{L}\\p{N}])${escaped(word)}\\p{L}{0,3}(?![\\p{L}\\p{N}])`);
  return parts.length ? new RegExp(parts.join("|"), "giu") : null;
}

/** A pattern for searched words, anywhere. */
const wordPattern = (words) => new RegExp(words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).sort((a, b) => b.length - a.length).join("|"), "giu");

/** The text as strings and `mark` elements. */
function marked(text, pattern) {
  if (!pattern) return [text];
  const pieces = [];
  let from = 0;
  for (const found of text.matchAll(pattern)) {
    pieces.push(text.slice(from, found.index), h("mark", {}, found[0]));
    from = found.index + found[0].length;
  }
  return [...pieces, text.slice(from)];
}
