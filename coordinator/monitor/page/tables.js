// The queues and the workers, which both views show.

import { h, spark } from "./charts.js";
import { card, cell, css, pill, table } from "./pieces.js";
import { bytes, span } from "./text.js";

const IDENTITY_CLASS = { enrolled: "good", expiring: "warn", invited: "warn", expired: "bad", revoked: "bad", unproven: "bad", unknown: "bad" };
const WORKER_CLASS = { training: "good", idle: "info", loading: "warn", delivering: "warn", leaving: "warn", silent: "bad", gone: "" };

/** The queues: shared by both views. */
export class Queues {
  constructor(kind, only = null) {
    this.only = only;
    this.series = {};
    this.table = table([["queue", ""], ["depth", ""], ["over time", "optional"], ["oldest", ""], ["wait p50 / p95", ""], ["in / out per s", ""], ["busy", ""]]);
    this.card = card("Queues", "tasks that wait for a worker", kind, this.table.element);
    this.element = this.card.element;
  }
  update(message) {
    if (message.queue_series) this.series = message.queue_series;
    for (const row of message.queues) {
      const points = (this.series[row.queue] ??= []);
      if (!points.length || points.at(-1)[0] < message.seen_at - 0.2) points.push([message.seen_at, row.depth, row.oldest_seconds]);
      if (points.length > 300) points.shift();
    }
    const shown = message.queues.filter((row) => !this.only || this.only.includes(row.queue));
    this.table.body.replaceChildren(...shown.map((row) => {
      const backed = row.oldest_seconds > 30 && row.depth > 0;
      const points = (this.series[row.queue] ?? []).slice(-120), bars = [];
      for (let i = 0; i < points.length; i += 3) bars.push(Math.max(...points.slice(i, i + 3).map((p) => p[1])));
      let state = backed ? pill("backed up", "warn") : null;
      if (row.workers === 0) state = pill("no worker", row.depth ? "bad" : "warn");
      return h("tr", {}, cell(h("span", {}, row.queue, " ", state)), cell(row.depth), cell(spark([...Array(40 - bars.length).fill(null), ...bars], css("--orange")), "optional"),
        cell(row.depth ? span(row.oldest_seconds) : "–"), cell(row.wait_p50_seconds === null ? "–" : `${span(row.wait_p50_seconds)} / ${span(row.wait_p95_seconds)}`),
        cell(`${row.arrivals_per_second.toFixed(1)} / ${row.departures_per_second.toFixed(1)}`),
        cell(`${row.busy} of ${row.workers}`));
    }));
    if (!shown.length) this.table.body.replaceChildren(h("tr", {}, h("td", { colspan: 7 }, h("p", { class: "empty" }, "No task was published yet."))));
  }
}

/** The workers, page by page: shared by both views. */
export class Workers {
  constructor(campaign) {
    this.campaign = campaign;
    this.page = 0;
    this.sort = "worker";
    const columns = [["worker", "worker", ""], ["state", "state", "text"], ["identity", null, "text identity"], ["task", null, "text optional"], ["seen", "seen", ""]];
    if (campaign) columns.push(["merged", "updates", ""], ["over time", null, "optional"], ["staleness", "staleness", ""], ["training", "train", ""], ["refused", "rejected", ""]);
    else columns.push(["done", "done", ""], ["failed", "failed", ""], ["sent", "bytes_up", "optional"], ["host", "host", "text optional"]);
    this.body = h("tbody");
    this.heads = columns.map(([name, key, kind]) => h("th", { scope: "col", class: kind },
      key ? h("button", { type: "button", onclick: () => this.order(key), "data-key": key, "data-name": name }, name) : name));
    this.search = h("input", { type: "search", placeholder: "find by name", "aria-label": "Find workers by name", size: 14, oninput: () => { this.page = 0; this.refresh(); } });
    this.where = h("span", { class: "quiet", role: "status" });
    this.back = h("button", { type: "button", "aria-label": "Previous page", onclick: () => { this.page -= 1; this.refresh(); } }, "‹");
    this.on = h("button", { type: "button", "aria-label": "Next page", onclick: () => { this.page += 1; this.refresh(); } }, "›");
    this.card = card("Workers", "", "", h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, this.heads)), this.body)));
    this.card.heading.append(h("span", { class: "tools" }, this.search, this.where, this.back, this.on));
    this.element = this.card.element;
    this.element.id = "workers";
    this.ticks = 0;
    this.show();
  }
  order(key) {
    this.sort = this.sort === key ? `-${key}` : key;
    this.page = 0;
    this.show();
    this.refresh();
  }
  show() {
    for (const head of this.heads) {
      const button = head.querySelector("button");
      if (!button) continue;
      const key = this.sort.replace("-", ""), here = button.dataset.key === key;
      const [arrow, order] = this.sort[0] === "-" ? [" ▾", "descending"] : [" ▴", "ascending"];
      button.textContent = button.dataset.name + (here ? arrow : "");
      head.setAttribute("aria-sort", here ? order : "none");
    }
  }
  update(message) {
    const counts = Object.entries(message.workers).map(([state, n]) => `${n} ${state}`).join(", ") || "none has registered";
    this.card.small.textContent = message.members ? `${counts} – ${message.members}` : counts;
    this.element.classList.toggle("without-identity", !message.members);
    if (this.ticks++ % 2 === 0) this.refresh();
  }
  async refresh() {
    const query = new URLSearchParams({ page: Math.max(0, this.page), size: 25, sort: this.sort, search: this.search.value });
    if (this.campaign) query.set("campaign", this.campaign);
    const asked = (this.asked = query.toString());
    const answer = await fetch(`/api/workers?${query}`).then((r) => (r.ok ? r.json() : null)).catch(() => null);
    if (!answer || asked !== this.asked) return;
    this.page = answer.page;
    const pages = Math.max(1, Math.ceil(answer.total / answer.size));
    this.where.textContent = pages > 1 ? `${answer.page + 1} of ${pages}` : "";
    this.back.hidden = this.on.hidden = pages < 2;
    this.back.disabled = answer.page === 0;
    this.on.disabled = answer.page >= pages - 1;
    this.body.replaceChildren(...answer.rows.map((row) => this.row(row)));
    if (!answer.rows.length) this.body.replaceChildren(h("tr", {}, h("td", { colspan: 10 }, h("p", { class: "empty" }, "No worker here: start one with fedtide-worker --broker URL --data MODULE:CALLABLE"))));
  }
  row(row) {
    const task = row.holding ? row.holding.split("/")[1].replace(/-[0-9a-f]+#/, " attempt ") : "–";
    const identity = h("span", {}, row.identity ? pill(row.identity_text, IDENTITY_CLASS[row.identity]) : "–",
      row.untrusted ? h("span", { class: "quiet", title: "not signed with its key, or with a certificate that does not count" }, ` ${row.untrusted} refused`) : "");
    const common = [cell(row.worker), cell(h("span", { title: row.trouble ?? "" }, pill(row.state, WORKER_CLASS[row.state]), row.trouble ? h("span", { class: "quiet" }, ` fails: ${row.trouble}`) : ""), "text"), cell(identity, "text identity"), cell(task, "text optional"), cell(row.seen === null ? "–" : span(row.seen))];
    if (!this.campaign) return h("tr", { "data-worker": row.worker }, ...common, cell(row.done), cell(row.failed), cell(row.bytes_up === undefined ? "–" : bytes(row.bytes_up), "optional"), cell(row.host, "text optional"));
    return h("tr", { "data-worker": row.worker }, ...common, cell(row.updates), cell(spark([...row.sparks, ...Array(Math.max(0, 24 - row.sparks.length)).fill(null)], css("--green")), "optional"),
      cell(row.staleness === null ? "–" : row.staleness.toFixed(1)), cell(span(row.train)), cell(row.rejected || "–"));
  }
}
