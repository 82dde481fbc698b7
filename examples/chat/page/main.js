// The chat: reads the conversation from the server, follows it, and asks.
//
// A page that shows a state first and changes afterwards must not miss what happens in between: the conversation comes
// with the cursor from which its channel is followed. An answer that goes on is read from its beginning, so a page that
// was loaded again shows what it had shown, and then what comes.
import { Stream, counts } from "./stream.js";
import { Turn, make } from "./turn.js";

const $ = (id) => document.getElementById(id);
const IDEAS = [
  "Tell me a story about a lighthouse keeper.",
  "Why is the sky blue?",
  "Write a letter from a cat to its human.",
  "How does a bicycle stay upright?",
];
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const random = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => (byte % 36).toString(36)).join("");

let chat = "";
let pid = null; // of the process that answered last
let questions = null; // the stream of the conversation
const turns = new Map(); // by the run's id
const pending = new Map(); // by the key of a question that the server has not answered yet
const streams = new Map(); // of the answers that go on, by the run's id
const states = new Map();
globalThis.chat = { turns, streams, counts, cursor: "" }; // for the curious, at the console

const actions = { again: (turn) => ask(turn.question) };

// Also while the server is away: whoever goes on with the answer is told.
async function stop(turn) {
  turn.stopping = true;
  turn.show();
  while (!turn.end) {
    const answer = await fetch(`runs/${turn.run}/stop`, { method: "POST" }).catch(() => null);
    if (answer && answer.status < 500) return;
    await pause(500);
  }
}

async function load() {
  const answer = await fetch(`chats/${chat}`);
  if (!answer.ok) throw new Error(answer.statusText);
  return answer.json();
}

// Shows a conversation as the server has it; what is on the page already stays.
function take(found) {
  pid = found.pid;
  $("process").textContent = `process ${pid}`;
  $("model").textContent = found.model
    ? `${found.model} answers, a model small enough to run beside you. What it says may be wrong; none of it gets lost.`
    : `There is no model here: ${found.missing}`;
  $("model").classList.toggle("missing", !found.model);
  for (const each of found.turns) {
    const turn = add(each);
    if (each.end && !turn.end) {
      close(turn);
      turn.fill(each);
    } else if (!each.end) {
      read(turn);
    }
  }
  changed();
}

function add({ run, question, key }) {
  if (turns.has(run)) return turns.get(run);
  const turn = pending.get(key) ?? new Turn(question, actions);
  pending.delete(key);
  turn.run = run;
  turns.set(run, turn);
  $("turns").append(turn.element); // in the order of the log, whatever was sent first
  turn.show();
  return turn;
}

function read(turn) {
  if (turn.end || streams.has(turn.run)) return;
  turn.clear();
  const stream = new Stream(`runs/${turn.run}`, {
    types: ["message", "speed", "takeover", "newswire.end", "newswire.gap"],
    onEvent(type, data) {
      if (type === "message") turn.write(data);
      else if (type === "speed") turn.tell(JSON.parse(data));
      else if (type === "takeover") tookOver(turn, JSON.parse(data));
      else if (type === "newswire.end") ended(turn, JSON.parse(data));
      else location.reload(); // the log is another one
      drawSoon();
    },
    onState: (state) => note(turn.run, state),
    onLost: async () => {
      await refresh();
      return !turn.end;
    },
  });
  streams.set(turn.run, stream);
  changed();
}

function tookOver(turn, told) {
  const away = turn.tookOver(told);
  const news = Date.now() - told.t < 10_000; // else this page reads it again
  if (news) toast(`Process ${told.pid} goes on with the answer${away ? `, after ${away.toFixed(1)} s` : ""}.`, "good");
}

function ended(turn, end) {
  const { result, ...rest } = end;
  if (result) turn.tell(result);
  turn.finish(rest);
  close(turn);
  say(`The answer is ${rest.reason}.`);
}

function close(turn) {
  streams.get(turn.run)?.close();
  streams.delete(turn.run);
  states.delete(turn.run);
  note();
  changed();
}

// Reads the conversation again, until that works.
async function refresh() {
  const asked = chat;
  for (;;) {
    try {
      const found = await load();
      if (asked === chat) take(found);
      return found;
    } catch {
      note("page", "dead");
      await pause(500);
    }
  }
}

function follow(cursor) {
  questions?.close();
  questions = new Stream(`chats/${chat}/questions`, {
    types: ["question", "newswire.gap"],
    cursor,
    onEvent(type, data) {
      if (type === "newswire.gap") return location.reload();
      read(add(JSON.parse(data)));
      scroll(true);
    },
    onState(state) {
      note("questions", state);
      if (state === "live" && questions?.opened) refresh(); // perhaps another process: it says which
    },
    onLost: async () => true,
  });
}

async function open() {
  for (const stream of streams.values()) stream.close();
  for (const each of [turns, pending, streams, states]) each.clear();
  questions?.close();
  questions = null;
  $("turns").replaceChildren();
  history.scrollRestoration = "manual"; // a page that was loaded again goes to the newest text
  chat = location.hash.slice(1);
  if (!/^[0-9a-z]{6,40}$/.test(chat)) {
    chat = (location.hash ? "" : localStorage.getItem("chat")) || random();
    history.replaceState(null, "", `#${chat}`);
  }
  localStorage.setItem("chat", chat);
  $("second").href = `#${chat}`;
  const asked = chat;
  const { cursor } = await refresh();
  if (asked !== chat) return;
  states.delete("page");
  globalThis.chat.cursor = cursor;
  follow(cursor);
  scroll(true);
}

async function ask(question) {
  const key = random();
  const turn = new Turn(question, actions);
  pending.set(key, turn);
  $("turns").append(turn.element);
  changed();
  scroll(true);
  const body = JSON.stringify({ question, key, takeover: $("takeover").checked });
  const headers = { "content-type": "application/json" };
  for (;;) {
    try {
      // The same key each time: a request whose answer was lost has started what it asked for.
      const answer = await fetch(`chats/${chat}/questions`, { method: "POST", body, headers, keepalive: true });
      const found = await answer.json().catch(() => ({}));
      if (answer.ok) return read(add({ run: found.id, question, key }));
      if (answer.status < 500) {
        pending.delete(key);
        turn.finish({ reason: "failed", error: { message: answer.statusText } });
        return changed();
      }
    } catch {
      // the server is away
    }
    await pause(500);
  }
}

// -- what is shown

let shown = "";
function note(name, state) {
  if (state) states.set(name, state);
  const all = [...states.values()];
  const state_ = all.includes("dead") ? "dead" : all.includes("connecting") ? "connecting" : "live";
  $("state").dataset.state = state_;
  $("state").textContent = { dead: "the server is away", connecting: "connecting", live: "live" }[state_];
  $("kill").disabled = state_ === "dead";
  if (state_ === "dead" && shown === "live") toast(pid ? `The server is dead: process ${pid}.` : "The server is dead.", "bad");
  shown = state_;
  drawSoon();
}

function changed() {
  const busy = streams.size > 0 || pending.size > 0;
  $("empty").hidden = turns.size + pending.size > 0;
  $("send").hidden = busy;
  $("stop").hidden = !busy;
  $("stop").disabled = streams.size === 0;
  drawSoon();
}

let drawing = false;
function drawSoon() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    for (const run of streams.keys()) turns.get(run).show();
    $("numbers").textContent = `${counts.events.toLocaleString()} events · ${counts.reconnects} reconnect${counts.reconnects === 1 ? "" : "s"}`;
  });
}

// The view follows the newest text, whatever makes the page longer, until a person scrolls up; it follows again once the
// person is back at the end. An answer that grows moves nothing up, so nothing but a person makes `scrollTop` smaller.
let follows = true;
let top = 0;
function scroll(down) {
  follows = down;
  if (down && $("empty").hidden) $("scroll").scrollTop = $("scroll").scrollHeight;
  top = $("scroll").scrollTop;
  $("newest").hidden = follows || !$("empty").hidden;
}
$("scroll").addEventListener("scroll", () => {
  const { scrollTop, clientHeight, scrollHeight } = $("scroll");
  if (scrollTop + clientHeight > scrollHeight - 40) follows = true;
  else if (scrollTop < top - 1) follows = false;
  top = scrollTop;
  $("newest").hidden = follows || !$("empty").hidden;
});
const longer = new ResizeObserver(() => scroll(follows));
longer.observe($("turns"));
longer.observe($("scroll"));
$("newest").addEventListener("click", () => scroll(true));

function toast(text, kind) {
  const line = make("p", kind, text);
  $("toasts").append(line);
  while ($("toasts").childElementCount > 2) $("toasts").firstChild.remove();
  setTimeout(() => line.remove(), 5000);
}

function say(text) {
  $("spoken").textContent = text;
}

// -- what a person does

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = $("question").value.trim();
  if (!question || $("send").hidden) return;
  $("question").value = "";
  grow();
  ask(question);
});
$("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("ask").requestSubmit();
});
function grow() {
  $("question").style.height = "";
  $("question").style.height = `${Math.min($("question").scrollHeight + 2, 180)}px`;
}
$("question").addEventListener("input", grow);
function stopAll() {
  for (const run of streams.keys()) stop(turns.get(run));
}
$("stop").addEventListener("click", stopAll);
document.addEventListener("keydown", ({ key, isComposing }) => key === "Escape" && !isComposing && stopAll());
$("kill").addEventListener("click", () => {
  fetch("kill", { method: "POST", headers: { "x-demo": "kill" } }).catch(() => {}); // the streams say that it is dead
});
$("new").addEventListener("click", (event) => {
  event.preventDefault();
  location.hash = random();
});
addEventListener("hashchange", open);
for (const idea of IDEAS) {
  const button = make("button", "button idea", idea);
  button.addEventListener("click", () => ask(idea));
  $("ideas").append(button);
}

$("takeover").checked = sessionStorage.getItem("takeover") !== "no";
$("takeover").addEventListener("change", () => sessionStorage.setItem("takeover", $("takeover").checked ? "yes" : "no"));
open();
