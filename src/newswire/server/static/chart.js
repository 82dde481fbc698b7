// Charts on canvas: one that moves, and sparklines. They draw numbers they are given and know nothing of where those
// come from.

const SPAN = 120; // seconds shown
const still = matchMedia("(prefers-reduced-motion: reduce)");

function colours() {
  const style = getComputedStyle(document.documentElement);
  return name => style.getPropertyValue(name).trim();
}

// A canvas in CSS pixels, sharp on every screen.
function prepare(canvas) {
  const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const g = canvas.getContext("2d");
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, width, height);
  return [g, width, height];
}

// 1, 2 or 5 times a power of ten, at least `value`.
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map(step => step * power).find(step => step >= value * 0.999);
}

export function short(value) {
  const unit = value >= 999_500 ? [1e6, "M"] : value >= 10_000 ? [1e3, "k"] : null;
  if (!unit) return Math.round(value).toLocaleString("en");
  const scaled = value / unit[0];
  return Number(scaled.toFixed(scaled < 100 ? 1 : 0)) + unit[1];
}

// Straight lines: a curve would show numbers that never were.
function line(g, points) {
  points.forEach((point, i) => i ? g.lineTo(point.x, point.y) : g.moveTo(point.x, point.y));
}

export class MovingChart {
  #canvas; #samples = []; #top = 10; #hover = null; #onHover; #frame = 0;

  constructor(canvas, onHover) {
    this.#canvas = canvas;
    this.#onHover = onHover;
    canvas.addEventListener("pointermove", event => { this.#hover = event.offsetX; this.#draw(); });
    canvas.addEventListener("pointerleave", () => { this.#hover = null; onHover(null); this.#draw(); });
    new ResizeObserver(() => this.#draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
    document.addEventListener("visibilitychange", () => this.#run());
    this.#run();
  }

  add(value, time = performance.now()) {
    this.#samples.push({ time, value });
    const oldest = time - (SPAN + 5) * 1000;
    while (this.#samples.length && this.#samples[0].time < oldest) this.#samples.shift();
    if (still.matches || document.hidden) this.#draw();
  }

  // Between samples the chart glides, so that it moves as time does.
  #run() {
    cancelAnimationFrame(this.#frame);
    if (document.hidden || still.matches) return;
    const glide = () => { this.#draw(); this.#frame = requestAnimationFrame(glide); };
    glide();
  }

  #draw() {
    const [g, width, height] = prepare(this.#canvas), colour = colours();
    const left = 46, right = width - 14, top = 16, bottom = height - 24;
    // One sample behind, so that the newest line comes in whole instead of popping up.
    const now = (still.matches ? this.#samples.at(-1)?.time ?? 0 : performance.now() - 1000);
    const highest = ceiling(Math.max(4, ...this.#samples.map(sample => sample.value)) * 1.08);
    this.#top += (highest - this.#top) * (still.matches ? 1 : 0.12);
    if (Math.abs(this.#top - highest) < highest / 500) this.#top = highest;
    const x = time => right - (now - time) / 1000 / SPAN * (right - left);
    const y = value => bottom - value / this.#top * (bottom - top);

    g.font = "11px " + getComputedStyle(document.body).fontFamily;
    g.lineWidth = 1;
    g.strokeStyle = colour("--line");
    g.fillStyle = colour("--dim");
    g.textBaseline = "middle";
    g.textAlign = "right";
    const steps = highest / 10 ** Math.floor(Math.log10(highest)) === 5 ? 5 : 4;
    for (let i = 0; i <= steps; i++) {
      const value = highest / steps * i, level = Math.round(y(value)) + 0.5;
      if (level < top - 6) continue;
      g.beginPath(); g.moveTo(left, level); g.lineTo(right, level); g.stroke();
      if (i % 2 === 0 || steps === 4) g.fillText(short(value), left - 8, level);
    }
    g.textAlign = "center";
    for (let ago = 0; ago <= SPAN; ago += 30) {
      const label = ago === 0 ? "now" : ago === 120 ? "2 min" : ago + " s";
      g.textAlign = ago === 0 ? "right" : ago === SPAN ? "left" : "center";
      g.fillText(label, right - ago / SPAN * (right - left), height - 10);
    }
    const points = this.#samples.map(sample => ({ ...sample, x: x(sample.time), y: y(sample.value) }));
    if (points.length < 2) return;
    g.save();
    g.beginPath(); g.rect(left, 0, right - left + 1, height); g.clip();
    g.beginPath(); line(g, points);
    g.strokeStyle = colour("--accent"); g.lineWidth = 2; g.lineJoin = "round"; g.stroke();
    g.lineTo(points.at(-1).x, bottom); g.lineTo(points[0].x, bottom); g.closePath();
    const fill = g.createLinearGradient(0, top, 0, bottom);
    fill.addColorStop(0, colour("--fill")); fill.addColorStop(1, "transparent");
    g.fillStyle = fill; g.fill();
    if (this.#hover !== null) this.#point(g, points, top, bottom, colour);
    g.restore();
  }

  #point(g, points, top, bottom, colour) {
    const distance = point => Math.abs(point.x - this.#hover);
    const near = points.reduce((best, point) => distance(point) < distance(best) ? point : best);
    g.strokeStyle = colour("--dim"); g.lineWidth = 1;
    g.beginPath(); g.moveTo(near.x, top); g.lineTo(near.x, bottom); g.stroke();
    g.fillStyle = colour("--card"); g.strokeStyle = colour("--accent"); g.lineWidth = 2;
    g.beginPath(); g.arc(near.x, near.y, 4, 0, 7); g.fill(); g.stroke();
    this.#onHover({ value: near.value, ago: Math.round((performance.now() - near.time) / 1000) });
  }
}

export function sparkline(canvas, values) {
  const [g, width, height] = prepare(canvas), colour = colours();
  if (values.length < 2) return;
  const top = Math.max(1, ...values), step = width / 59;
  const points = values.map((value, i) => ({
    x: width - (values.length - 1 - i) * step, y: height - 2 - value / top * (height - 6),
  }));
  g.beginPath(); line(g, points);
  g.strokeStyle = colour("--calm"); g.lineWidth = 1.6; g.stroke();
  g.lineTo(width, height); g.lineTo(points[0].x, height); g.closePath();
  g.fillStyle = colour("--calm-fill"); g.fill();
}
