// A question and its answer on the page. `text` is the answer exactly as the log has it; it is drawn as Markdown. What is
// not of the model (where another process went on, the figures, the end) is beside it, or drawn by the style sheet.
import { draw } from "./markdown.js";

export const make = (tag, className = "", text = "") => Object.assign(document.createElement(tag), { className, textContent: text });

const ENDS = {
  done: "done",
  stopped: "stopped",
  failed: "failed",
  interrupted: "interrupted: its server is gone",
  forgotten: "not kept any more",
};

export class Turn {
  // actions: {again(turn)}
  constructor(question, actions) {
    this.question = question;
    this.run = null;
    this.end = null;
    this.stopping = false;
    this.element = make("li", "turn");
    this.element.append(make("h2", "question", question));
    this.answer = make("article", "answer");
    this.answer.setAttribute("aria-label", "Answer");
    this.body = make("div", "text");
    this.foot = make("div", "foot");
    this.chip = make("span", "chip");
    this.numbers = make("span", "dim number");
    this.again = make("button", "button small", "Ask again");
    this.again.type = "button";
    this.again.addEventListener("click", () => actions.again(this));
    this.foot.append(this.chip, this.numbers, this.again);
    this.answer.append(this.body, this.foot);
    this.element.append(this.answer);
    this.clear();
  }

  // From the beginning, as a stream without a cursor tells it.
  clear() {
    this.text = "";
    this.tokens = 0;
    this.figures = {};
    this.away = 0; // seconds in which no process answered
    this.heard = null; // when the producer gave its last figures
    this.marks = []; // [place, node]: where another process went on
    this.body.replaceChildren();
    this.show();
  }

  // What the log has of an answer that has ended.
  fill({ text, end, figures, takeovers }) {
    this.clear();
    let from = 0;
    const letters = [...text]; // the server counts code points
    for (const { at, pid, away } of takeovers) {
      this.write(letters.slice(from, at).join(""));
      this.seam(pid, away);
      from = at;
    }
    this.write(letters.slice(from).join(""));
    this.tell(figures);
    this.tokens = figures.tokens ?? 0;
    this.finish(end);
  }

  write(text) {
    this.tokens++;
    this.text += text;
  }

  tookOver({ pid, t }) {
    const away = this.heard && t ? Math.round((t - this.heard) / 100) / 10 : null;
    this.seam(pid, away);
    return away;
  }

  seam(pid, away) {
    const mark = make("span", "seam");
    mark.dataset.words = `process ${pid} went on from here${away ? ` after ${away.toFixed(1)} s` : ""}`;
    mark.setAttribute("role", "note");
    mark.setAttribute("aria-label", mark.dataset.words);
    this.away += away ?? 0;
    this.marks.push([this.text.length, mark]);
  }

  tell({ t, ...figures }) {
    this.heard = t ?? this.heard;
    const { first } = this.figures;
    this.figures = { ...this.figures, ...figures, ...(first !== undefined && { first }) }; // the answer's first is the first
  }

  finish(end) {
    this.end = end;
    this.show();
  }

  show() {
    draw(this.body, this.text, this.marks.map(([at, node]) => [outside(this.text, at), node]));
    const going = this.text.length > (this.marks.at(-1)?.[0] ?? 0) ? "live" : "thinking";
    const state = this.end?.reason ?? (this.run ? going : "pending");
    this.element.dataset.state = state;
    this.answer.setAttribute("aria-busy", String(!this.end));
    this.chip.textContent = ENDS[state] ?? { live: "answering", thinking: "thinking", pending: "sending" }[state];
    if (this.stopping && !this.end) this.chip.textContent = "stopping";
    if (this.end?.error?.message) this.chip.textContent += `: ${this.end.error.message}`;
    const { first, rate } = this.figures;
    const away = this.away ? `, not counting ${this.away.toFixed(1)} s without a process` : "";
    const numbers = [
      this.tokens && state !== "forgotten" && `${this.tokens} token${this.tokens === 1 ? "" : "s"}`,
      first !== undefined && `first after ${first.toFixed(2)} s`,
      rate && `${rate.toFixed(0)} tokens/s${away}`,
    ];
    this.numbers.textContent = numbers.filter(Boolean).join(" · ");
    this.again.hidden = !this.end || state === "done" || state === "forgotten";
  }
}

// A mark in the middle of ** or ``` would hide that they belong together.
function outside(text, at) {
  while (at > 0 && at < text.length && /[*_`~#]/.test(text[at]) && text[at - 1] === text[at]) at++;
  return at;
}
