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
let questions = null; // the stream of the conversation
const turns = new Map(); // by the run's id
const pending = new Map(); // by the key of a question that the server has not answered yet
const streams = new Map(); // of the answers that go on, by the run's id
const states = new Map();
globalThis.chat = { turns, streams, counts, cursor: "" }; // for the curious, at the console

const actions = {
  // Also while the server is away: whoever goes on with the answer is told.
  async stop(turn) {
    turn.stopping = true;
    turn.show();
    while (!turn.end) {
      const answer = await fetch(`runs/${turn.run}/stop`, { method: "POST" }).catch(() => null);
      if (answer && answer.status < 500) return;
      await pause(500);
    }
  },
  again: (turn) => ask(turn.question),
};

async function load() {
  const answer = await fetch(`chats/${chat}`);
  if (!answer.ok) throw new Error(answer.statusText);
  return answer.json();
}

// Shows a conversation as the server has it; what is on the page already stays.
function take(found) {
  $("process").textContent = `process ${found.pid}`;
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

function tookOver(turn, { pid }) {
  turn.seam();
  $("process").textContent = `process ${pid}`;
  say(`Another process goes on with the answer.`);
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

function note(name, state) {
  if (state) states.set(name, state);
  const all = [...states.values()];
  const state_ = all.includes("dead") ? "dead" : all.includes("connecting") ? "connecting" : "live";
  $("state").dataset.state = state_;
  $("state").textContent = { dead: "the server is away", connecting: "connecting", live: "live" }[state_];
  $("kill").disabled = state_ === "dead";
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
let follows = true;
function drawSoon() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    for (const run of streams.keys()) turns.get(run).show();
    $("numbers").textContent = `${counts.events.toLocaleString()} events · ${counts.reconnects} reconnect${counts.reconnects === 1 ? "" : "s"}`;
    scroll(follows);
  });
}

function scroll(down) {
  follows = down;
  if (down && $("empty").hidden) $("scroll").scrollTop = $("scroll").scrollHeight;
}
// Whoever scrolls up reads; whoever comes back to the end wants to follow again.
$("scroll").addEventListener("scroll", () => {
  const { scrollTop, clientHeight, scrollHeight } = $("scroll");
  follows = scrollTop + clientHeight > scrollHeight - 40;
});

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
$("stop").addEventListener("click", () => {
  for (const run of streams.keys()) actions.stop(turns.get(run));
});
$("kill").addEventListener("click", () => {
  fetch("kill", { method: "POST", headers: { "x-demo": "kill" } }).catch(() => say("The server is dead."));
});
$("new").addEventListener("click", (event) => {
  event.preventDefault();
  location.hash = random();
});
addEventListener("hashchange", open);
for (const idea of IDEAS) {
  const button = make("button", "idea", idea);
  button.addEventListener("click", () => ask(idea));
  $("ideas").append(button);
}

const THEMES = { auto: ["◐", "as the system says"], light: ["☀", "light"], dark: ["☾", "dark"] };
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  [$("theme").textContent] = THEMES[theme];
  $("theme").title = `Colours: ${THEMES[theme][1]}`;
  $("theme").setAttribute("aria-label", $("theme").title);
  localStorage.setItem("theme", theme);
}
$("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  setTheme(names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length]);
});
setTheme(localStorage.getItem("theme") in THEMES ? localStorage.getItem("theme") : "auto");
$("takeover").checked = sessionStorage.getItem("takeover") !== "no";
$("takeover").addEventListener("change", () => sessionStorage.setItem("takeover", $("takeover").checked ? "yes" : "no"));
open();
