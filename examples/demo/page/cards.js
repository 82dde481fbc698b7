// The cards that show text: the job, the log file, the room and the notifications. Everything that comes from outside
// goes onto the page as text, never as HTML.
import { bytes, paint } from "/newswire-chart.js";

export const $ = (id) => document.getElementById(id);

export function element(name, className, ...content) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...content);
  return made;
}

export const clock = (time) => new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

// A list that stays at its end unless somebody has scrolled up to read.
function append(list, row, limit) {
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(row);
  while (list.childElementCount > limit) list.firstChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

export function toast(text, kind = "") {
  const shown = element("p", kind, text);
  $("toasts").append(shown);
  while ($("toasts").childElementCount > 2) $("toasts").firstChild.remove();
  setTimeout(() => shown.remove(), 5000);
}

export function notice(text, kind, time) {
  $("notices").prepend(element("li", kind, text, element("time", "", clock(time))));
  while ($("notices").childElementCount > 60) $("notices").lastChild.remove();
}

export class Job {
  constructor() {
    this.began = null; // [job, time, bytes] of the first report seen of this job
  }

  progress({ job, done, total, files, of, file }) {
    if (this.began?.[0] !== job) this.began = [job, performance.now(), done];
    const spent = (performance.now() - this.began[1]) / 1000;
    const speed = (done - this.began[2]) / spent;
    $("job-bar").max = total;
    $("job-bar").value = done;
    $("job-percent").textContent = `${Math.floor((done / total) * 100)} %`;
    $("job-eta").textContent =
      `${bytes(done)} of ${bytes(total)}` + (spent > 1 && speed > 0 ? ` · ${Math.ceil((total - done) / speed)} s left` : "");
    $("job-file").textContent = `${files} of ${of} files · ${file}`;
  }

  finished({ t, file, files, total, packed, seconds, sha256 }) {
    $("job-bar").max = $("job-bar").value = total;
    $("job-percent").textContent = "100 %";
    $("job-eta").textContent = "done";
    $("job-file").textContent = `${file} is written`;
    const hash = element("td", "", sha256.slice(0, 8));
    hash.title = sha256;
    const cells = [clock(t), files, `${Math.round((packed / total) * 100)} %`, `${seconds} s`].map((text) => element("td", "", String(text)));
    $("job-results").prepend(element("tr", "", ...cells, hash));
    while ($("job-results").childElementCount > 3) $("job-results").lastChild.remove();
    notice(`Packed ${files} files, ${bytes(total)} into ${bytes(packed)}`, "good", t);
  }
}

const REQUEST = /^(\S+) (\S+) (\S+) (\d{3}) (.*)$/;

export function logLine({ line }) {
  const parts = REQUEST.exec(line);
  const row = element("li");
  row.title = line;
  if (parts) {
    const [, time, method, target, status, rest] = parts;
    const [path, query] = target.split(/(?=\?)/, 2);
    const kind = status < 300 ? "ok" : status < 400 ? "moved" : "failed";
    row.append(
      element("span", "time", time), " ", element("span", kind, status), " ", element("b", "", method), ` ${path} `,
      element("span", "rest", query ? `?… ${rest}` : rest),
    );
  } else row.append(line);
  append($("log"), row, 300);
}

// A name of each tab's own, so that two tabs are two people: a tab holds a lock on the name that it was given. What
// somebody has typed is theirs to keep, for as long as the tab lives.
const NAMES = ["Ada", "Grace", "Alan", "Barbara", "Edsger", "Radia", "Linus", "Hedy", "Donald", "Frances", "Ken", "Shafi"];
async function nameOfThisTab() {
  const mine = sessionStorage.getItem("name");
  const drawn = NAMES.toSorted(() => Math.random() - 0.5);
  const numbered = `Guest ${Math.floor(Math.random() * 900 + 100)}`;
  for (const name of [...(mine ? [mine] : []), ...drawn]) if (await take(name)) return name;
  return numbered; // there are more tabs than names
}
function take(name) {
  if (!navigator.locks) return Promise.resolve(true); // a page that came over plain HTTP from another machine
  return new Promise((done) => {
    const held = (lock) => {
      done(lock !== null);
      return lock && new Promise(() => {}); // for as long as the page lives
    };
    navigator.locks.request(`name ${name}`, { ifAvailable: true }, held).catch(() => done(true));
  });
}

// What somebody says is on the page at once, pale until it comes back on the stream. A POST that failed may have been
// stored: it is sent again only when a live stream has not brought it.
export class Room {
  constructor(feed) {
    this.feed = feed;
    this.pending = new Map();
    const form = $("say");
    const { name: who, text: words } = form.elements;
    nameOfThisTab().then((name) => {
      who.value ||= name;
      sessionStorage.setItem("name", who.value);
    });
    who.addEventListener("change", () => sessionStorage.setItem("name", who.value.trim()));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const name = who.value.trim();
      const text = words.value.trim();
      if (!name || !text) return;
      words.value = "";
      this.say({ name, text, key: crypto.randomUUID(), t: Date.now() });
    });
  }

  say(message) {
    const row = this.row(message);
    row.classList.add("pending");
    this.pending.set(message.key, { row, message });
    append($("room"), row, 300);
    $("room").scrollTop = $("room").scrollHeight;
    this.send(message);
  }

  async send(message) {
    try {
      const answer = await fetch("/channels/room?event=say", { method: "POST", body: JSON.stringify(message) });
      if (answer.ok || answer.status < 500) return;
    } catch {
      // the server is away; whether it took the message shows when the stream is back
    }
    setTimeout(() => this.again(message), 1000);
  }

  again(message) {
    if (!this.pending.has(message.key)) return;
    if (this.feed.state === "live") this.send(message);
    else setTimeout(() => this.again(message), 500);
  }

  said(message) {
    const pending = this.pending.get(message.key);
    this.pending.delete(message.key);
    if (!pending) return append($("room"), this.row(message), 300);
    pending.row.classList.remove("pending");
    $("room").append(pending.row); // the log's order is everybody's
  }

  row({ name = "somebody", text = "", t }) {
    const who = element("b", "", String(name));
    paint(who, String(name));
    return element("li", "", ...(t ? [element("time", "", clock(t).slice(0, 5))] : []), who, " ", String(text));
  }
}
