// Small charts in SVG: they follow the page's colours by CSS variables and answer to pointer and keyboard.

const NS = "http://www.w3.org/2000/svg";

/** An element: attributes, then children; strings become text, never markup. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(NS, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "css") for (const [key, v] of Object.entries(value)) element.style.setProperty(key, v);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** About `count` round values from low to high. */
export function ticks(low, high, count = 5) {
  const span = high - low || 1, raw = span / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((f) => f * power).find((candidate) => candidate >= raw * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-6; i++) found.push(+(i * step).toPrecision(12));
  return found;
}

/** Round steps for times: 1 s ... 1 d. */
export function timeTicks(high, count = 6) {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];
  const step = steps.find((each) => high / each <= count) ?? Math.ceil(high / count / 86400) * 86400;
  const found = [];
  for (let t = 0; t <= high; t += step) found.push(t);
  return found;
}

const two = (n) => String(n).padStart(2, "0");

export function clock(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60), hours = Math.floor(minutes / 60);
  if (hours >= 24) return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  return hours ? `${hours}:${two(minutes % 60)}:${two(Math.floor(seconds % 60))}` : `${minutes}:${two(Math.floor(seconds % 60))}`;
}

export function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 1e9) return `${+(value / 1e9).toPrecision(3)}G`;
  if (size >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`;
  if (size >= 1e4) return `${+(value / 1e3).toPrecision(3)}k`;
  return `${+value.toPrecision(4)}`;
}

/** The frame that all charts share: size, scales, axes, a cursor with a tip. */
class Frame {
  constructor(holder, { label, height = 210, left = 42, right = 12 }) {
    this.holder = holder;
    this.height = height;
    this.left = left;
    this.right = right;
    this.tip = h("div", { class: "tip", hidden: true });
    this.svg = s("svg", { height, role: "img", tabindex: "0", "aria-label": label });
    holder.classList.add("chart");
    holder.replaceChildren(this.svg, this.tip);
    this.at = null;
    this.svg.addEventListener("pointermove", (event) => this.point(event.clientX - this.svg.getBoundingClientRect().left));
    this.svg.addEventListener("pointerleave", () => this.leave());
    this.svg.addEventListener("blur", () => this.leave());
    this.svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step || !this.xs?.length) return;
      event.preventDefault();
      this.show(Math.max(0, Math.min(this.xs.length - 1, (this.at ?? this.xs.length - 1) + step)));
    });
    new ResizeObserver(() => { if (this.last && this.holder.clientWidth !== this.width) this.draw(...this.last); }).observe(holder);
  }

  scale(xMax, yMin, yMax) {
    this.width = this.holder.clientWidth || 600;
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    const inner = this.width - this.left - this.right, bottom = this.height - 22, span = yMax - yMin || 1;
    this.x = (v) => this.left + (v / (xMax || 1)) * inner;
    this.y = (v) => bottom - ((v - yMin) / span) * (bottom - 10);
    this.bottom = bottom;
  }

  axes(xMax, xFormat, xTicks, yTicks, yFormat) {
    const parts = [];
    for (const value of yTicks) {
      parts.push(s("line", { class: "gridline", x1: this.left, x2: this.width - this.right, y1: this.y(value), y2: this.y(value) }));
      parts.push(s("text", { x: this.left - 6, y: this.y(value) + 4, "text-anchor": "end" }, yFormat(value)));
    }
    for (const value of xTicks) {
      const x = this.x(value);
      let anchor = value === 0 ? "start" : "middle";
      if (x > this.width - 30) anchor = "end";
      parts.push(s("text", { x, y: this.height - 5, "text-anchor": anchor }, xFormat(value)));
    }
    parts.push(s("line", { class: "axis", x1: this.left, x2: this.width - this.right, y1: this.bottom, y2: this.bottom }));
    return parts;
  }

  point(x) {
    if (!this.xs?.length) return;
    let best = 0;
    for (let i = 1; i < this.xs.length; i++) if (Math.abs(this.xs[i] - x) < Math.abs(this.xs[best] - x)) best = i;
    this.show(best);
  }

  show(index) {
    this.at = index;
    const x = this.xs[index];
    this.cursorLine?.remove();
    this.cursorLine = s("line", { class: "cursor", x1: x, x2: x, y1: 8, y2: this.bottom });
    this.svg.append(this.cursorLine);
    this.tip.textContent = this.words(index);
    this.tip.hidden = false;
    const room = this.width - this.tip.offsetWidth - 4;
    this.tip.style.left = `${Math.max(0, Math.min(room, x + 10 > room ? x - this.tip.offsetWidth - 10 : x + 10))}px`;
  }

  leave() {
    this.at = null;
    this.cursorLine?.remove();
    this.tip.hidden = true;
  }

  finish(parts) {
    this.svg.replaceChildren(...parts);
    if (this.at !== null && this.at < (this.xs?.length ?? 0)) this.show(this.at);
  }

  nothing(words) {
    this.width = this.holder.clientWidth || 600;
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.xs = [];
    this.svg.replaceChildren(s("text", { x: this.width / 2, y: this.height / 2, "text-anchor": "middle" }, words));
  }
}

const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

/** One or two lines over a common x axis; the second has its own scale on the right. */
export class LineChart extends Frame {
  /** rows: [x, first | null, second | null]; options: xFormat, time, names, colours, formats, targets, area, nothing. */
  draw(rows, options) {
    this.last = [rows, options];
    const { time = true, names, colours, formats = [short, short], axes = formats, area = false, count: yCount = 5 } = options;
    if (rows.filter((row) => row[1] !== null || row[2] !== null).length < 2) return this.nothing(options.nothing ?? "nothing yet");
    const xMax = Math.max(options.xMax ?? 0, rows.at(-1)[0]);
    const has = [1, 2].map((k) => rows.some((row) => row[k] !== null && row[k] !== undefined));
    this.right = has[0] && has[1] ? 42 : 12;
    const range = (k) => {
      const values = rows.map((row) => row[k]).filter((v) => v !== null && v !== undefined);
      const low = Math.min(...values), high = Math.max(...values);
      return area || low < 0.35 * high ? [Math.min(0, low), high || 1] : [low - 0.06 * (high - low), high + 0.04 * (high - low) || 1];
    };
    const first = has[0] ? 1 : 2, other = has[0] && has[1] ? 2 : null;
    const [low, high] = range(first);
    this.scale(xMax, low, high);
    const xFormat = time ? clock : short;
    const count = Math.max(2, Math.min(6, Math.floor(this.width / 110)));
    const xTicks = time ? timeTicks(xMax, count) : ticks(0, xMax, count);
    const parts = this.axes(xMax, xFormat, xTicks, ticks(low, high, yCount), axes[first - 1]);
    const line = (k, y) => {
      // A number that is absent is a gap; one that stands between two of them is a dot.
      const pieces = [[]];
      for (const row of rows) {
        if (row[k] !== null && row[k] !== undefined) pieces.at(-1).push([this.x(row[0]), y(row[k])]);
        else if (pieces.at(-1).length) pieces.push([]);
      }
      for (const points of pieces.filter((each) => each.length)) {
        if (area) {
          const closed = `${path(points)}L${points.at(-1)[0]} ${this.bottom}L${points[0][0]} ${this.bottom}Z`;
          parts.push(s("path", { d: closed, fill: colours[k - 1], opacity: 0.18 }));
        }
        if (points.length === 1) parts.push(s("circle", { cx: points[0][0], cy: points[0][1], r: 2, fill: colours[k - 1] }));
        else parts.push(s("path", { d: path(points), fill: "none", stroke: colours[k - 1], "stroke-width": 1.8, "stroke-linejoin": "round" }));
      }
    };
    const target = (k, y, from, to) => {
      const value = options.targets?.[k - 1];
      if (value === undefined || value < from || value > to) return;
      parts.push(s("line", { class: "cursor", x1: this.left, x2: this.width - this.right, y1: y(value), y2: y(value) }));
      parts.push(s("text", { x: this.left + 4, y: y(value) - 4 }, `target ${names[k - 1]} ${formats[k - 1](value)}`));
    };
    if (other) {
      const [low2, high2] = range(other);
      const y2 = (v) => this.bottom - ((v - low2) / (high2 - low2 || 1)) * (this.bottom - 10);
      for (const value of ticks(low2, high2, 5)) {
        parts.push(s("text", { x: this.width - this.right + 6, y: y2(value) + 4 }, axes[1](value)));
      }
      target(2, y2, low2, high2);
      line(2, y2);
    }
    target(first, this.y, low, high);
    line(first, this.y);
    this.xs = rows.map((row) => this.x(row[0]));
    this.words = (i) => [
      time ? `at ${clock(rows[i][0])}` : `after ${short(rows[i][0])} updates`,
      ...[1, 2].filter((k) => has[k - 1]).map((k) => `${names[k - 1]} ${rows[i][k] === null ? "–" : formats[k - 1](rows[i][k])}`),
    ].join("\n");
    this.finish(parts);
  }
}

/** Shares of a column's total by bucket, darker for more: how a distribution moves over time. */
export class HeatMap extends Frame {
  /** columns: [x from, x to, counts]; labels: one per bucket, the lowest first. */
  draw(columns, options) {
    this.last = [columns, options];
    const { labels, colour, name } = options;
    if (!columns.length) return this.nothing("nothing yet");
    let used = 1;
    for (const [, , counts] of columns) counts.forEach((count, i) => { if (count) used = Math.max(used, i + 1); });
    used = Math.min(labels.length, Math.max(4, used));
    const xMax = columns.at(-1)[1];
    this.scale(xMax, 0, used);
    const every = used > 8 ? 2 : 1;
    const count = Math.max(2, Math.min(6, Math.floor(this.width / 110)));
    const parts = this.axes(xMax, clock, timeTicks(xMax, count), [], short);
    for (let i = 0; i < used; i += every) {
      parts.push(s("text", { x: this.left - 6, y: this.y(i + 0.5) + 4, "text-anchor": "end" }, labels[i]));
    }
    for (const [from, to, counts] of columns) {
      const total = counts.reduce((a, b) => a + b, 0);
      counts.slice(0, used).forEach((each, i) => {
        if (!each) return;
        parts.push(s("rect", {
          x: this.x(from), y: this.y(i + 1) + 0.5, width: Math.max(1, this.x(to) - this.x(from) - 0.5),
          height: Math.max(1, this.y(i) - this.y(i + 1) - 1), fill: colour, opacity: (0.12 + 0.88 * Math.sqrt(each / total)).toFixed(2),
        }));
      });
    }
    this.xs = columns.map(([from, to]) => this.x((from + to) / 2));
    this.words = (index) => {
      const counts = columns[index][2], total = counts.reduce((a, b) => a + b, 0);
      const lines = counts.map((each, i) => [each, labels[i]]).filter(([each]) => each).map(([each, label]) => `${name} ${label}: ${Math.round((100 * each) / total)} %`);
      return [`${clock(columns[index][0])} to ${clock(columns[index][1])}, ${total} updates`, ...lines].join("\n");
    };
    this.finish(parts);
  }
}

/** A sparkline of bars; null leaves a gap. */
export function spark(values, colour = "var(--blue)") {
  const high = Math.max(1e-9, ...values), width = 110 / Math.max(1, values.length);
  return s("svg", { class: "spark", viewBox: "0 0 110 20", "aria-hidden": "true", preserveAspectRatio: "none" },
    values.map((value, i) => value === null ? null : s("rect", {
      x: (i * width).toFixed(1), width: Math.max(0.8, width - 1).toFixed(1), y: (19 - (18 * value) / high).toFixed(1),
      height: (value ? Math.max(1.5, (18 * value) / high) : 0.8).toFixed(1), fill: value ? colour : "var(--line)",
    })));
}
