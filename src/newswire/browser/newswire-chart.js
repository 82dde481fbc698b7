// Charts over the last minutes on a canvas, for all pages of newswire: lines or bars, both axes labelled.
//
// They draw numbers that they are given, [time in milliseconds, value], and know nothing of where those come from: what
// a reconnect brings late lands where it belongs. The shaded times are those without a connection.

export const SPAN = 120_000; // milliseconds shown
const RIGHT = 54; // pixels at the right for the scale
const BELOW = 20; // and below for the time

let colours = new Map();
document.addEventListener("themechange", () => colours.clear());
// A variable may hold light-dark(...), which only an element resolves.
function colour(name) {
  if (!colours.has(name)) {
    const probe = document.createElement("i");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    colours.set(name, getComputedStyle(probe).color);
    probe.remove();
  }
  return colours.get(name);
}

// -- numbers for people

export function short(value) {
  const unit = value >= 999_500 ? [1e6, "M"] : value >= 10_000 ? [1e3, "k"] : null;
  if (!unit) return Math.round(value).toLocaleString("en");
  const scaled = value / unit[0];
  return Number(scaled.toFixed(scaled < 100 ? 1 : 0)) + unit[1];
}

export function bytes(value, digits = 1) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit && value < 100 ? Number(value.toFixed(digits)) : Math.round(value)} ${units[unit]}`;
}

// The hue of a name, the same on every page: with the class `named`, its colour is --own in both themes.
export function paint(node, name) {
  let hash = 2166136261;
  for (const character of name) hash = Math.imul(hash ^ character.codePointAt(0), 16777619);
  node.classList.add("named");
  node.style.setProperty("--hue", Math.round(((hash >>> 0) * 137.508) % 360));
}

// -- scales: of the lowest and the highest value, the numbers at the grid's lines, of which each has its label

function steps(from, to, least) {
  const wanted = Math.max((to - from) / 3, least);
  const power = 10 ** Math.floor(Math.log10(wanted) + 1e-9);
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= wanted * 0.999);
  const first = Math.floor(from / step + 1e-9);
  const last = Math.max(first + 1, Math.ceil(to / step - 1e-9));
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

// From 0; no step is smaller than `least`, so counts have no half steps.
export const fromZero = (least = 1) => (low, high) => steps(0, Math.max(high, least), least);
// Around the values: for what is large and changes little. The whole is at least `least` high.
export const around = (least) => (low, high) => {
  const more = Math.max(0, least - (high - low)) / 2;
  return steps(Math.max(0, low - more), high + more, least / 3);
};
export const percent = () => [0, 50, 100];

// The pointer is at one time for all charts of a page; null if it is at none.
export const pointer = { time: null };

// A canvas in CSS pixels, sharp on every screen.
function prepare(canvas) {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  const g = canvas.getContext("2d");
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, width, height);
  return [g, width, height];
}

export class Chart {
  // lines: [{colour: "--one", fill, values: [[time, value], …]}]; scale: see above; format(value) labels it.
  constructor(canvas, { lines, scale, format = short, outages = [], bars = false }) {
    Object.assign(this, { canvas, lines, scale, format, outages, bars });
    const move = (event) => {
      const box = canvas.getBoundingClientRect();
      const share = (event.clientX - box.left) / (box.width - RIGHT);
      pointer.time = share <= 1 ? Date.now() - SPAN * (1 - share) : null;
    };
    canvas.addEventListener("pointermove", move);
    canvas.addEventListener("pointerleave", () => (pointer.time = null));
  }

  // The newest value that is not after a time, and not older than three seconds.
  at(line, time) {
    const found = line.values.findLast(([when]) => when <= time);
    return found && time - found[0] < 3000 ? found[1] : undefined;
  }

  draw(now = Date.now()) {
    const [g, width, height] = prepare(this.canvas);
    for (const { values } of this.lines) while (values.length && values[0][0] < now - SPAN - 3000) values.shift();
    const plot = { left: 1, right: width - RIGHT, top: 8, bottom: height - BELOW };
    const all = this.lines.flatMap(({ values }) => values.map(([, value]) => value));
    const ticks = all.length ? this.scale(Math.min(...all), Math.max(...all)) : this.scale(0, 0);
    const [low, high] = [ticks[0], ticks.at(-1)];
    const x = (time) => plot.right - ((now - time) / SPAN) * (plot.right - plot.left);
    const y = (value) => plot.bottom - ((value - low) / (high - low)) * (plot.bottom - plot.top);

    g.font = `11.5px ${getComputedStyle(document.body).fontFamily}`;
    this.#grid(g, plot, ticks, y);
    this.#times(g, plot, height);
    g.save();
    g.beginPath();
    g.rect(plot.left, 0, plot.right - plot.left + 1, plot.bottom + 1);
    g.clip();
    g.fillStyle = colour("--shade");
    for (const { from, to } of this.outages) g.fillRect(x(from), 0, Math.max(3, x(to ?? now) - x(from)), plot.bottom);
    for (const line of this.lines) this.bars ? this.#columns(g, line, x, y, plot) : this.#line(g, line, x, y, plot);
    g.restore();
    if (pointer.time !== null && x(pointer.time) >= plot.left) {
      g.fillStyle = colour("--dim");
      g.fillRect(Math.round(x(pointer.time)), plot.top, 1, plot.bottom - plot.top);
    }
  }

  #grid(g, plot, ticks, y) {
    g.textBaseline = "middle";
    g.textAlign = "left";
    g.lineWidth = 1;
    for (const value of ticks) {
      const level = Math.round(y(value)) + 0.5;
      g.strokeStyle = colour("--grid");
      g.beginPath();
      g.moveTo(plot.left, level);
      g.lineTo(plot.right, level);
      g.stroke();
      g.fillStyle = colour("--dim");
      g.fillText(this.format(value), plot.right + 8, level);
    }
  }

  #times(g, plot, height) {
    const every = plot.right - plot.left < 420 ? 60_000 : 30_000;
    g.fillStyle = colour("--dim");
    for (let ago = 0; ago <= SPAN; ago += every) {
      const words = ago === 0 ? "now" : ago % 60_000 ? `${ago / 1000} s` : `${ago / 60_000} min`;
      g.textAlign = ago === 0 ? "right" : ago === SPAN ? "left" : "center";
      g.fillText(words, plot.right - (ago / SPAN) * (plot.right - plot.left), height - 7);
    }
  }

  // Straight: a curve would show numbers that never were.
  #line(g, { values, colour: name, fill }, x, y, plot) {
    if (values.length < 2) return;
    g.beginPath();
    values.forEach(([time, value], i) => (i ? g.lineTo(x(time), y(value)) : g.moveTo(x(time), y(value))));
    g.strokeStyle = colour(name);
    g.lineWidth = 1.8;
    g.lineJoin = "round";
    g.stroke();
    if (!fill) return;
    g.lineTo(x(values.at(-1)[0]), plot.bottom);
    g.lineTo(x(values[0][0]), plot.bottom);
    const tone = colour(name).replace(/^rgb\((.*)\)$/, "$1");
    const paint = g.createLinearGradient(0, plot.top, 0, plot.bottom);
    paint.addColorStop(0, `rgba(${tone}, .26)`);
    paint.addColorStop(1, `rgba(${tone}, .02)`);
    g.fillStyle = paint;
    g.fill();
  }

  // A bar for each second: its time is where the second begins.
  #columns(g, { values, colour: name }, x, y, plot) {
    g.fillStyle = colour(name);
    const wide = Math.max(1.5, x(1000) - x(0) - 1.5);
    for (const [time, value] of values) {
      if (!value) continue;
      g.beginPath();
      g.roundRect(x(time), y(value), wide, plot.bottom - y(value), [2, 2, 0, 0]);
      g.fill();
    }
  }
}

export function sparkline(canvas, values) {
  const [g, width, height] = prepare(canvas);
  if (values.length < 10) return;
  const top = Math.max(1, ...values);
  const step = width / 59;
  g.beginPath();
  values.forEach((value, i) => g.lineTo(width - (values.length - 1 - i) * step, height - 2 - (value / top) * (height - 6)));
  g.strokeStyle = colour("--two");
  g.lineWidth = 1.6;
  g.stroke();
}

const calm = matchMedia("(prefers-reduced-motion: reduce)");
// Calls draw(now) some 15 times a second while the page is seen; once a second for those who asked for less motion.
export function animate(draw) {
  let drawn = 0;
  const frame = (time) => {
    if (time - drawn >= (calm.matches ? 1000 : 66)) {
      drawn = time;
      draw(Date.now());
    }
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
  setInterval(() => document.hidden && draw(Date.now()), 10_000); // what is too old goes also while nobody looks
}
