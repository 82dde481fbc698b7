// What a model writes is Markdown: headings, lists, quotes, code, bold and italics. It is drawn with nodes and their
// text, never as HTML, so whatever the model writes can't be more than text. What is unfinished, as an answer that still
// comes is, is drawn as far as it is clear: a fence that is not closed yet is code.
//
// `marks` are [place in the text, node]: where something that is not the model's is put in between.

const make = (tag, ...content) => {
  const made = document.createElement(tag);
  made.append(...content);
  return made;
};

// Draws into `body`. Blocks that are as they were stay, so that what is selected stays so, and long answers stay cheap.
export function draw(body, text, marks = []) {
  const wanted = blocks(text);
  if (!wanted.length && marks.length) wanted.push({ kind: "text", from: 0, to: 0, draw: () => make("p") });
  wanted.forEach((block, i) => {
    const [first, next] = [i ? block.from : 0, wanted[i + 1]?.from ?? Infinity];
    const inside = marks.filter(([at]) => at >= first && at < next);
    const key = `${block.kind} ${block.from} ${inside.map(([at]) => at)} ${text.slice(block.from, block.to)}`;
    const there = body.children[i];
    if (there?.drawn === key) return;
    const inline = new Inline(inside);
    const made = block.draw(inline);
    const last = made.matches("ul, ol, div") ? ([...made.querySelectorAll("li")].at(-1) ?? made) : (made.querySelector("p, code") ?? made);
    last.append(...inline.rest()); // marks that no character was left for
    made.drawn = key;
    if (there) there.replaceWith(made);
    else body.append(made);
  });
  while (body.children.length > wanted.length) body.lastChild.remove();
}

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`]*?)\s*$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const QUOTE = /^ {0,3}> ?/;
const RULE = /^ {0,3}([-*_])(\s*\1){2,}\s*$/;

// The text in lines, each with its place.
function* linesOf(text) {
  let at = 0;
  for (const line of text.split("\n")) {
    yield { line, at };
    at += line.length + 1;
  }
}

function blocks(text) {
  const lines = [...linesOf(text)];
  const found = [];
  const end = (i) => (i < lines.length ? lines[i].at : text.length);
  for (let i = 0; i < lines.length; ) {
    const { line, at } = lines[i];
    const first = i;
    const add = (kind, drawing) => found.push({ kind, from: at, to: end(i), draw: drawing });
    let match;
    if (!line.trim()) {
      i++;
    } else if ((match = FENCE.exec(line))) {
      const [, fence, language] = match;
      for (i++; i < lines.length && !new RegExp(`^ {0,3}${fence[0]}{${fence.length},}\\s*$`).test(lines[i].line); ) i++;
      const inside = lines.slice(first + 1, i);
      if (i < lines.length) i++;
      add("code", (inline) => code(inside, language, inline));
    } else if ((match = HEADING.exec(line))) {
      const [, signs, words] = match;
      i++;
      add("heading", (inline) => make(`h${Math.min(signs.length + 2, 6)}`, ...inline.draw(words, at + line.indexOf(words, signs.length))));
    } else if (RULE.test(line)) {
      i++;
      add("rule", () => make("div", make("hr")));
    } else if (QUOTE.test(line)) {
      while (i < lines.length && QUOTE.test(lines[i].line)) i++;
      const inside = lines.slice(first, i).map((each) => cut(each, QUOTE.exec(each.line)[0].length));
      add("quote", (inline) => make("blockquote", make("p", ...flow(inside, inline))));
    } else if (ITEM.test(line)) {
      // A list goes on over an empty line; an indented line belongs to the item above it.
      const goesOn = (line) => ITEM.test(line) || /^\s{2,}\S/.test(line);
      while (i < lines.length && (goesOn(lines[i].line) || (!lines[i].line.trim() && goesOn(lines[i + 1]?.line ?? "")))) i++;
      const inside = lines.slice(first, i);
      add("list", (inline) => list(inside, inline));
    } else {
      while (i < lines.length && lines[i].line.trim() && (i === first || !starts(lines[i].line))) i++;
      const inside = lines.slice(first, i);
      add("text", (inline) => make("p", ...flow(inside, inline)));
    }
  }
  return found;
}

const starts = (line) => FENCE.test(line) || HEADING.test(line) || QUOTE.test(line) || ITEM.test(line) || RULE.test(line);
const cut = ({ line, at }, count) => ({ line: line.slice(count), at: at + count });

// Lines of one paragraph: a break in the text is a break on the page, as models mean it.
function flow(lines, inline) {
  const text = lines.map(({ line }) => line).join("\n");
  const places = lines.flatMap(({ line, at }) => Array.from({ length: line.length + 1 }, (_, i) => at + i));
  return inline.draw(text, (i) => places[i] ?? Infinity);
}

function code(lines, language, inline) {
  const inside = make("code");
  for (const [i, { line, at }] of lines.entries()) inside.append(...inline.plain(i < lines.length - 1 ? `${line}\n` : line, at));
  const block = make("pre", inside);
  if (language) block.dataset.language = language.slice(0, 80);
  block.tabIndex = 0;
  return block;
}

function list(lines, inline) {
  const items = []; // {indent, ordered, start, lines}
  for (const each of lines) {
    const match = ITEM.exec(each.line);
    if (match) items.push({ indent: match[1].length, ordered: /\d/.test(match[2]), start: parseInt(match[2]), lines: [cut(each, each.line.length - match[3].length)] });
    else if (each.line.trim()) items.at(-1).lines.push(cut(each, each.line.length - each.line.trimStart().length));
  }
  let i = 0;
  const level = (indent) => {
    const made = make(items[i].ordered ? "ol" : "ul");
    if (items[i].ordered && items[i].start !== 1) made.start = items[i].start;
    const { ordered } = items[i];
    while (i < items.length && items[i].indent >= indent && (items[i].indent > indent || items[i].ordered === ordered)) {
      if (items[i].indent > indent + 1 && made.lastChild) made.lastChild.append(level(items[i].indent));
      else made.append(make("li", ...flow(items[i++].lines, inline)));
    }
    return made;
  };
  const made = level(items[0].indent);
  const more = [];
  while (i < items.length) more.push(level(items[i].indent));
  return more.length ? make("div", made, ...more) : made;
}

const SIGNS = /(`+)([^]*?[^`])\1(?!`)|\*\*(?=\S)([^]*?\S)\*\*|__(?=\S)([^]*?\S)__|(?<![*\w])\*(?=[^\s*])([^]*?[^\s*])\*(?!\*)|(?<![_\w])_(?=[^\s_])([^]*?[^\s_])_(?![\w_])|\[([^\][\n]+)\]\((https?:\/\/[^\s()<>]+)\)|\\([\\`*_{}[\]()#+\-.!>~|])/;

// The words of one block, in order, with the marks put in between.
class Inline {
  constructor(marks) {
    this.marks = [...marks];
  }

  // Nodes of a text whose characters are at `place`: the first one's, or a function of the index.
  draw(text, place, from = 0) {
    const at = typeof place === "function" ? place : (i) => place + i;
    const match = SIGNS.exec(text);
    if (!match) return this.plain(text, at, from);
    const [whole, ticks, ticked, bold, bold2, slanted, slanted2, words, address, escaped] = match;
    const begins = from + match.index;
    const made = [...this.plain(text.slice(0, match.index), at, from)];
    const inner = (part) => this.draw(part, at, begins + whole.indexOf(part, ticks ? ticks.length : 1));
    if (ticks) made.push(make("code", ...this.plain(ticked.replace(/^ (.*) $/s, "$1"), at, begins + ticks.length)));
    else if (bold ?? bold2) made.push(make("strong", ...inner(bold ?? bold2)));
    else if (slanted ?? slanted2) made.push(make("em", ...inner(slanted ?? slanted2)));
    else if (address) made.push(Object.assign(make("a", ...inner(words)), { href: address, target: "_blank", rel: "noopener noreferrer" }));
    else made.push(...this.plain(escaped, at, begins + 1));
    return [...made, ...this.draw(text.slice(match.index + whole.length), at, begins + whole.length)];
  }

  plain(text, place, from = 0) {
    const at = typeof place === "function" ? place : (i) => place + i;
    const made = [];
    let done = 0;
    for (let i = 0; i < text.length && this.marks.length; i++) {
      if (at(from + i) < this.marks[0][0]) continue;
      made.push(text.slice(done, i), this.marks.shift()[1]);
      done = i--;
    }
    return [...made, text.slice(done)].filter((part) => part !== "");
  }

  // What has not been put anywhere.
  rest() {
    return this.marks.splice(0).map(([, node]) => node);
  }
}
