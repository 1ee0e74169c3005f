// All campaigns of the broker.

import { h, short } from "./charts.js";
import { $, card, cell, scoreCell, showHealth, statePill, table } from "./pieces.js";
import { Queues, Workers } from "./tables.js";
import { sum } from "./text.js";

export class Overview {
  constructor() {
    this.sentence = h("div", { class: "health" });
    this.table = table([["campaign", ""], ["state", "text"], ["version", ""], ["score", ""], ["merged", ""], ["merged /s", ""], ["refused", "optional"], ["workers", ""], ["strategy", "text optional"]]);
    this.campaigns = card("Campaigns", "the newest first", "", this.table.element);
    this.queues = new Queues("");
    this.workers = new Workers(null);
    $("main").replaceChildren(h("h1", { class: "hidden" }, "Overview"), this.sentence, this.campaigns.element, this.queues.element, this.workers.element);
    $("crumbs").textContent = "";
    document.title = "fedtide monitor";
  }
  update(message) {
    const rows = message.campaigns;
    this.table.body.replaceChildren(...rows.map((row) => h("tr", {},
      cell(h("a", { href: `#/c/${encodeURIComponent(row.campaign)}` }, row.campaign)),
      cell(statePill(row), "text"), cell(row.versions), cell(row.scores[0] ? scoreCell(row.scores[0]) : null), cell(row.merged === undefined ? "–" : short(row.merged)),
      cell(row.state === "running" ? (row.recent_updates_per_second ?? 0).toFixed(1) : "–"), cell(row.rejected ? sum(Object.values(row.rejected)) : "–", "optional"),
      cell(row.live_workers), cell(row.strategy, "text optional"))));
    if (!rows.length) this.table.body.replaceChildren(h("tr", {}, h("td", { colspan: 9 }, h("p", { class: "empty" }, "No campaign yet: launch one with fedtide run SPEC.toml --broker URL"))));
    const running = rows.filter((row) => row.state === "running"), leaderless = running.filter((row) => !row.writer);
    const backed = message.queues.filter((queue) => queue.depth && (queue.oldest_seconds > 30 || !queue.workers));
    const silent = message.workers.silent ?? 0, alive = sum(Object.values(message.workers)) - silent;
    const findings = [[`${running.length} of ${rows.length} campaigns running`, "good"], [`${alive} worker${alive === 1 ? "" : "s"} alive`, alive ? "good" : "warn"]];
    if (silent) findings.push([`${silent} silent`, "warn"]);
    findings.push(backed.length ? [`backed up: ${backed.map((queue) => queue.queue).join(", ")}`, "warn"] : ["no queue backed up", "good"]);
    if (leaderless.length) findings.push([`without a coordinator: ${leaderless.map((row) => row.campaign).join(", ")}`, "bad"]);
    showHealth(this.sentence, findings);
    this.queues.update(message);
    this.workers.update(message);
  }
}
