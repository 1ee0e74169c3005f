// Numbers and durations as people read them.

import { clock, short } from "./charts.js";

export const sum = (values) => values.reduce((a, b) => a + b, 0);
export const percent = (value, digits = 1) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(digits)} %`);
// Accuracies are read in percent; any other metric as the number that it is (fl_core/metrics/names.py).
const isPercent = (name) => /^(balanced_|top_\d+_)?accuracy$/.test(name);
export const scoreText = (name, value, digits = 1) => (isPercent(name) ? percent(value, digits) : short(value));
export const scoreLabel = (score) => `${score.name.replaceAll("_", " ")} ${score.higher_is_better ? "↑" : "↓"}`;

export function bytes(count) {
  let n = count;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (n < 1000) return `${unit === "B" ? n : n.toFixed(1)} ${unit}`;
    n /= 1000;
  }
  return `${n.toFixed(1)} TB`;
}

export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.0005) return "<1 ms";
  if (seconds < 1) return `${Math.round(1000 * seconds)} ms`;
  return seconds < 60 ? `${seconds.toFixed(1)} s` : clock(seconds);
}
