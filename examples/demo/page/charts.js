// Charts of the last two minutes on a canvas: lines over time, or bars of a count each second.
//
// Points carry the time at which they were measured, so what a reconnect brings late lands where it belongs. The
// shaded times are those in which there was no connection.

export const SPAN = 120_000;
const LABELS = 50; // pixels at the right for the scale

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
let colours = new Map();
export const forgetColours = () => (colours = new Map());
// A variable may hold light-dark(...), which only an element resolves.
function colour(name) {
  if (!colours.has(name)) {
    const probe = document.createElement("i");
    probe.style.color = css(name);
    document.body.append(probe);
    colours.set(name, getComputedStyle(probe).color);
    probe.remove();
  }
  return colours.get(name);
}

// The pointer is at one time for all charts.
export const pointer = { time: null };

export class Chart {
  // lines: [{colour: "--one", values: [[time, value], …], fill}]; scale(top) is the round number above the highest.
  constructor(canvas, { lines, scale, format, outages, bars = false }) {
    Object.assign(this, { canvas, lines, scale, format, outages, bars });
    const move = (event) => {
      const box = canvas.getBoundingClientRect();
      const share = (event.clientX - box.left) / (box.width - LABELS);
      pointer.time = share <= 1 ? Date.now() - SPAN * (1 - share) : null;
    };
    canvas.addEventListener("pointermove", move);
    canvas.addEventListener("pointerleave", () => (pointer.time = null));
  }

  trim(now) {
    for (const { values } of this.lines)
      while (values.length && values[0][0] < now - SPAN - 3000) values.shift();
  }

  // The value at a time: the newest one that is not after it, and not older than three seconds.
  at(line, time) {
    const { values } = line;
    for (let i = values.length - 1; i >= 0; i--)
      if (values[i][0] <= time) return time - values[i][0] < 3000 ? values[i][1] : undefined;
    return undefined;
  }

  draw(now) {
    const { canvas } = this;
    const ratio = devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
    if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
    const g = canvas.getContext("2d");
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, width, height);
    this.trim(now);
    const plot = { left: 0, right: width - LABELS, top: 6, bottom: height - 4 };
    const top = this.scale(Math.max(0, ...this.lines.flatMap(({ values }) => values.map(([, value]) => value))));
    const x = (time) => plot.right - ((now - time) / SPAN) * (plot.right - plot.left);
    const y = (value) => plot.bottom - (value / top) * (plot.bottom - plot.top);

    this.grid(g, plot, top, y);
    g.save();
    g.beginPath();
    g.rect(plot.left, 0, plot.right - plot.left, height);
    g.clip();
    this.shade(g, x, now, height);
    for (const line of this.lines) this.bars ? this.columns(g, line, x, y, plot) : this.line(g, line, x, y, plot);
    g.restore();
    if (pointer.time !== null) {
      g.fillStyle = colour("--dim");
      g.fillRect(x(pointer.time), plot.top, 1, plot.bottom - plot.top);
    }
  }

  grid(g, plot, top, y) {
    g.font = "11.5px Inter, system-ui, sans-serif";
    g.textBaseline = "middle";
    for (const share of [0, 0.5, 1]) {
      const at = Math.round(y(top * share)) + 0.5;
      g.strokeStyle = colour("--grid");
      g.lineWidth = 1;
      g.beginPath();
      g.moveTo(plot.left, at);
      g.lineTo(plot.right, at);
      g.stroke();
      g.fillStyle = colour("--dim");
      if (share) g.fillText(this.format(top * share), plot.right + 7, Math.max(at, 7));
    }
  }

  shade(g, x, now, height) {
    g.fillStyle = colour("--shade");
    for (const { from, to } of this.outages) {
      if ((to ?? now) < now - SPAN) continue;
      g.fillRect(x(from), 0, Math.max(3, x(to ?? now) - x(from)), height);
    }
  }

  line(g, { values, colour: name, fill }, x, y, plot) {
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
    const paint = g.createLinearGradient(0, plot.top, 0, plot.bottom);
    const tone = colour(name).replace(/^rgb\((.*)\)$/, "$1");
    paint.addColorStop(0, `rgba(${tone}, .26)`);
    paint.addColorStop(1, `rgba(${tone}, .02)`);
    g.fillStyle = paint;
    g.fill();
  }

  columns(g, { values, colour: name }, x, y, plot) {
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

// The round number at or above.
export function round(value, least) {
  const wanted = Math.max(value, least);
  const power = 10 ** Math.floor(Math.log10(wanted));
  for (const step of [1, 1.5, 2, 3, 4, 6, 8, 10]) if (step * power >= wanted) return step * power;
  return wanted;
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
