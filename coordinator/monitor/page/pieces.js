// What all views are built of: pills, tables, cards, tiles, and the sentence about health.

import { h } from "./charts.js";
import { scoreLabel, scoreText } from "./text.js";

export const $ = (id) => document.getElementById(id);
export const css = (name) => `var(${name})`;
const STATE_CLASS = { running: "good", paused: "warn", interrupted: "warn", failed: "bad", finished: "info", stopped: "info" };
export const pill = (text, kind = "") => h("span", { class: `pill ${kind}` }, text);

export function table(columns) {
  const body = h("tbody");
  const head = h("tr", {}, columns.map(([name, kind]) => h("th", { scope: "col", class: kind }, name)));
  return { body, element: h("div", { class: "scroll" }, h("table", {}, h("thead", {}, head), body)) };
}
export const cell = (content, kind = "") => h("td", { class: kind }, content === null || content === undefined ? "–" : content);
export const scoreCell = (score) => h("span", { title: score.higher_is_better ? "better when higher" : "better when lower" },
  h("span", { class: "quiet" }, `${scoreLabel(score)} `), scoreText(score.name, score.final));
export const statePill = (row) => pill(row.state ? row.state + (row.stop_reason ? ` (${row.stop_reason})` : "") : "no word yet", STATE_CLASS[row.state] ?? "");
export const tile = (value, label, share) => h("div", { class: "tile" }, h("b", {}, value), h("span", {}, label),
  share === undefined ? null : h("div", { class: "meter" }, h("i", { css: { width: `${Math.min(100, 100 * share)}%` } })));

/** What the health card says of a campaign that has no fault. */
export function allIsWell(now, over) {
  if (over) return `It is over: ${now.state}${now.stop_reason ? ` (${now.stop_reason})` : ""}.`;
  return now.state === "paused" ? "Paused: no new tasks; late updates are still merged." : "Healthy: led, merging, the ledger adds up.";
}

export function card(title, note, kind, ...content) {
  const small = h("small", {}, note);
  const heading = h("h2", {}, title, small);
  return { element: h("section", { class: `card ${kind}`, "aria-label": title }, heading, ...content), heading, small };
}

export function showHealth(element, findings) {
  const worst = ["bad", "warn"].find((each) => findings.some(([, kind]) => kind === each)) ?? "good";
  element.className = `health ${worst}`;
  element.replaceChildren(h("ul", {}, findings.map(([text, kind]) => h("li", {}, h("span", { class: `dot ${kind}` }), " ", text))));
}
