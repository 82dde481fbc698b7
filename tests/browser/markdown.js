// Evaluated in the chat's page: draws strings of what Markdown is made of, whole and letter by letter as they come, with
// two marks in each, and returns what went wrong.
(async () => {
  const { draw } = await import("/chat/markdown.js");
  const parts = ["a", "bc", " ", "\n", "\n\n", "*", "**", "_", "__", "`", "```", "```py\n", "# ", "- ", "1. ", "  - ", "> ",
    "---\n", "[", "](", "https://x.example/", "javascript:alert(1)", ")", "<img src=x onerror=alert(1)>", "\\", "é", "😀"];
  let seed = 20;
  const random = (below) => (seed = (seed * 48271) % 2147483647) % below;
  const letters = (text) => [...text.matchAll(/[\p{L}\p{N}\p{So}]/gu)].join("");
  const allowed = new Set("P H3 H4 H5 H6 UL OL LI STRONG EM CODE PRE BLOCKQUOTE DIV HR A MARK".split(" "));
  const wrong = [];
  for (let round = 0; round < 1500; round++) {
    const text = Array.from({ length: 1 + random(14) }, () => parts[random(parts.length)]).join("");
    const places = [random(text.length + 1), random(text.length + 1)].sort((one, other) => one - other);
    const [whole, bit] = [document.createElement("div"), document.createElement("div")];
    const marks = () => places.map((at) => [at, document.createElement("mark")]);
    draw(whole, text, marks());
    const own = marks();
    for (let end = 0; end <= text.length; end++) draw(bit, text.slice(0, end), end === text.length ? own : []);
    const nodes = [...whole.querySelectorAll("*")];
    if (whole.innerHTML !== bit.innerHTML) wrong.push(["not the same as it comes", text]);
    if (nodes.some(({ tagName }) => !allowed.has(tagName))) wrong.push(["another element", text]);
    if (nodes.some(({ href }) => href && !href.startsWith("https://x.example/"))) wrong.push(["another link", text]);
    if (whole.querySelectorAll("mark").length !== 2) wrong.push(["a mark is lost", text, whole.innerHTML]);
    // what may go: addresses, the language of a fence, the numbers of a list
    const written = letters(text.replace(/\]\(\S*/g, "").replace(/(?<=^|\n) {0,3}[`~]{3,}[^`\n]*/g, "").replace(/1\. /g, ""));
    const seen = letters(whole.textContent);
    let at = 0;
    for (const letter of written) {
      at = seen.indexOf(letter, at) + 1;
      if (at) continue;
      wrong.push(["a letter is lost", text, whole.innerHTML]);
      break;
    }
  }
  return wrong.slice(0, 5);
})()
