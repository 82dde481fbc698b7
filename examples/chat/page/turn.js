// A question and its answer on the page. The answer is plain text, exactly as the log has it: what is not of the model
// (where another process went on, the figures, the end) is beside the text, or drawn by the style sheet.

export const make = (tag, className = "", text = "") => Object.assign(document.createElement(tag), { className, textContent: text });

const ENDS = {
  done: "done",
  stopped: "stopped",
  failed: "failed",
  interrupted: "interrupted: its server is gone",
  forgotten: "not kept any more",
};

export class Turn {
  // actions: {stop(turn), again(turn)}
  constructor(question, actions) {
    this.question = question;
    this.run = null;
    this.end = null;
    this.stopping = false;
    this.tokens = 0;
    this.figures = {};
    this.parts = []; // the text nodes of the answer: another begins where another process went on
    this.element = make("li", "turn");
    this.element.append(make("h2", "question", question));
    this.answer = make("article", "answer");
    this.answer.setAttribute("aria-label", "Answer");
    this.body = make("div", "text");
    this.foot = make("p", "foot");
    this.chip = make("span", "chip");
    this.numbers = make("span", "dim");
    this.button = make("button", "small danger", "Stop");
    this.button.type = "button";
    this.button.addEventListener("click", () => (this.end ? actions.again(this) : actions.stop(this)));
    this.foot.append(this.chip, this.numbers, this.button);
    this.answer.append(this.body, this.foot);
    this.element.append(this.answer);
    this.clear();
  }

  get text() {
    return this.parts.map((part) => part.data).join("");
  }

  // From the beginning, as a stream without a cursor tells it.
  clear() {
    this.tokens = 0;
    this.figures = {};
    this.parts = [new Text()];
    this.body.replaceChildren(...this.parts);
    this.show();
  }

  // What the log has of an answer that has ended.
  fill({ text, end, figures, takeovers }) {
    this.clear();
    let from = 0;
    const letters = [...text]; // the server counts code points
    for (const at of takeovers) {
      this.write(letters.slice(from, at).join(""));
      this.seam();
      from = at;
    }
    this.write(letters.slice(from).join(""));
    this.tell(figures);
    this.tokens = figures.tokens ?? 0;
    this.finish(end);
  }

  write(text) {
    this.tokens++;
    this.parts.at(-1).appendData(text);
  }

  seam() {
    const mark = make("span", "seam");
    mark.title = "here another process went on";
    this.parts.push(new Text());
    this.body.append(mark, this.parts.at(-1));
  }

  tell(figures) {
    const { first } = this.figures;
    this.figures = { ...this.figures, ...figures, ...(first !== undefined && { first }) }; // the answer's first is the first
    this.show();
  }

  finish(end) {
    this.end = end;
    this.show();
  }

  show() {
    const state = this.end?.reason ?? (this.run ? (this.parts.at(-1).length ? "live" : "thinking") : "pending");
    this.element.dataset.state = state;
    this.answer.setAttribute("aria-busy", String(!this.end));
    this.chip.textContent = ENDS[state] ?? { live: "answering", thinking: "thinking", pending: "sending" }[state];
    if (this.stopping && !this.end) this.chip.textContent = "stopping";
    if (this.end?.error?.message) this.chip.textContent += `: ${this.end.error.message}`;
    const { first, rate } = this.figures;
    const numbers = [
      this.tokens && state !== "forgotten" && `${this.tokens} token${this.tokens === 1 ? "" : "s"}`,
      first !== undefined && `first after ${first.toFixed(2)} s`,
      rate && `${rate.toFixed(0)} tokens/s`,
    ];
    this.numbers.textContent = numbers.filter(Boolean).join(" · ");
    this.button.hidden = state === "pending" || state === "done" || state === "forgotten";
    this.button.textContent = this.end ? "Ask again" : "Stop";
    this.button.classList.toggle("danger", !this.end);
  }
}
