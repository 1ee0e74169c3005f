// A campaign's scores: one metric beside the loss at large, and every other metric in small below it.

import { h, LineChart, short } from "./charts.js";
import { card, css } from "./pieces.js";
import { scoreLabel, scoreText } from "./text.js";

const LARGE = 290, SMALL = 104;

/** A line of a chart's legend. */
const legend = (colour, text) => h("span", {}, h("span", { class: "swatch", css: { background: css(colour) } }), text);

export class Scores {
  constructor() {
    this.byTime = true;
    this.shown = null; // the metric at large; null for the first
    this.last = [[], {}];
    const holder = h("div");
    this.choice = h("select", { "aria-label": "Metric", hidden: true, onchange: () => this.choose(this.choice.value) });
    this.axis = h("span", { class: "tabs" }, [true, false].map((time) => h("button",
      { type: "button", "aria-pressed": String(time === this.byTime), onclick: () => this.turn(time) },
      time ? "over time" : "over merged updates")));
    this.small = h("div", { class: "multiples" });
    this.charts = new Map(); // of the small ones, by metric
    this.card = card("Scores", "", "twothirds", holder, this.small);
    this.card.heading.append(h("span", { class: "tools" }, this.choice, this.axis));
    this.element = this.card.element;
    this.element.id = "scores";
    this.chart = new LineChart(holder, { label: "Metric and loss of evaluated versions", height: LARGE });
  }

  turn(byTime) {
    this.byTime = byTime;
    for (const [place, each] of [...this.axis.children].entries()) each.setAttribute("aria-pressed", String((place === 0) === byTime));
    this.draw(...this.last);
  }

  choose(name) {
    this.shown = name;
    this.draw(...this.last);
  }

  /** Evaluations as [seconds, version, merged, loss, accuracy, metrics by name]; what is known of the campaign now. */
  draw(evaluations, now) {
    this.last = [evaluations, now];
    const found = (now.scores ?? []).filter((score) => score.name !== "loss"), names = found.map((score) => score.name);
    const chosen = found.find((score) => score.name === this.shown) ?? found[0], name = chosen?.name ?? "";
    if (names.join() !== [...this.choice.options].map((option) => option.value).join()) {
      this.choice.replaceChildren(...found.map((score) => h("option", { value: score.name }, scoreLabel(score))));
    }
    this.choice.hidden = names.length < 2;
    this.choice.value = name;
    const at = (e) => (this.byTime ? e[0] : e[2]);
    const bound = (metric) => now.targets?.find((target) => target.metric === metric)?.bound;
    this.chart.draw(evaluations.map((e) => [at(e), e[5][name] ?? null, e[3]]), {
      time: this.byTime, names: [name.replaceAll("_", " "), "loss"], colours: [css("--blue"), css("--orange")],
      formats: [(v) => scoreText(name, v), short], axes: [(v) => scoreText(name, v, 0), short],
      targets: [bound(name), bound("loss")], nothing: "not evaluated yet",
    });
    const loss = evaluations.some((e) => e[3] !== null) ? legend("--orange", "loss ↓") : null;
    this.card.small.replaceChildren(...[chosen ? legend("--blue", scoreLabel(chosen)) : null, " \u2002", loss].filter(Boolean));
    this.drawSmall(found.filter((score) => score !== chosen), evaluations.map((e) => [at(e), e[5]]), bound);
  }

  drawSmall(scores, rows, bound) {
    const wanted = scores.map((score) => score.name);
    if (wanted.join() !== [...this.charts.keys()].join()) {
      this.charts = new Map(scores.map((score) => [score.name, this.thumbnail(score)]));
      this.small.replaceChildren(...[...this.charts.values()].map((each) => each.element));
    }
    for (const score of scores) {
      const { chart, value } = this.charts.get(score.name), text = (v) => scoreText(score.name, v);
      value.textContent = ` ${text(score.final)}, best ${text(score.best)}`;
      chart.draw(rows.map(([x, metrics]) => [x, metrics[score.name] ?? null, null]), {
        time: this.byTime, names: [score.name.replaceAll("_", " "), ""], colours: [css("--blue"), ""], count: 3,
        formats: [text, short], axes: [(v) => scoreText(score.name, v, 0), short], targets: [bound(score.name)], nothing: "one evaluation so far",
      });
    }
  }

  thumbnail(score) {
    const holder = h("div"), value = h("span", { class: "quiet" });
    const name = h("button", { type: "button", title: "show it at large", onclick: () => this.choose(score.name) }, scoreLabel(score));
    const chart = new LineChart(holder, { label: `${score.name.replaceAll("_", " ")} of evaluated versions`, height: SMALL });
    return { element: h("div", { class: "thumbnail", "data-metric": score.name }, name, value, holder), chart, value };
  }
}
