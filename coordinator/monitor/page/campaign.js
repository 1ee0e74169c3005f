// One campaign: its curves, its ledger, where the time goes, and what operators may do.

import { clock, h, HeatMap, LineChart, short } from "./charts.js";
import { describe } from "./events.js";
import { $, allIsWell, card, cell, css, pill, showHealth, statePill, table, tile } from "./pieces.js";
import { Scores } from "./scores.js";
import { Queues, Workers } from "./tables.js";
import { percent, scoreLabel, scoreText, span, sum } from "./text.js";

// Refused for who sent it, which ends no task.
const UNTRUSTED = new Set(["bad_signature", "unknown_worker", "revoked"]);
const PARTS = [
  ["queue", "waited in queue", "--grey"], ["fetch", "fetched base", "--blue"], ["train", "trained", "--green"],
  ["encode", "encoded", "--violet"], ["send", "sent", "--orange"], ["log", "waited in log", "--yellow"],
  ["merge", "decoded and merged", "--red"],
];
const LEDGER = [
  ["merged", "--green"], ["rejected", "--red"], ["expired", "--orange"], ["cancelled", "--grey"], ["out", "--blue"],
];

export class Campaign {
  constructor(name) {
    this.name = name;
    this.evaluations = [];
    this.intervals = [];
    this.events = [];
    this.bounds = [];
    this.state = h("span");
    this.leader = h("span", { class: "quiet" });
    this.controls = h("span", { class: "controls" });
    this.health = h("div", { class: "health" });
    this.tiles = h("div", { class: "tiles" });
    const holders = ["rate", "stale"].map(() => h("div"));
    this.scores = new Scores();
    this.staleCard = card("Staleness over time", "how many versions behind merged updates were", "half", holders[1]);
    this.rateCard = card("Merge rate", "updates merged per second", "half", holders[0]);
    this.ledgerBody = h("div");
    this.ledgerCard = card("Ledger", "every task issued ends as exactly one of these", "half", this.ledgerBody);
    this.ledgerCard.element.id = "ledger";
    this.partsBody = h("div");
    this.partsCard = card("Where the time goes", "mean of an update's life, from issue to merge", "half", this.partsBody);
    this.rejectedBody = h("div", { class: "rows" });
    this.parked = h("div");
    this.quarantine = h("details", { ontoggle: () => this.loadQuarantine() }, h("summary", {}, "The quarantine behind it"), this.parked);
    this.rejectedCard = card("Refused updates", "", "half", this.rejectedBody, this.quarantine);
    this.feedList = h("ol", { class: "feed", id: "feed", tabindex: "0", "aria-label": "Events, the newest first" });
    this.feedCard = card("Events", "the newest first", "third", this.feedList);
    this.queues = new Queues("half", []);
    this.workers = new Workers(name);
    $("main").replaceChildren(
      h("div", { class: "head" }, h("h1", {}, name), this.state, this.leader, h("span", { class: "grow" }), this.controls),
      this.health, this.tiles, this.scores.element, this.feedCard.element, this.staleCard.element, this.rateCard.element,
      this.ledgerCard.element, this.partsCard.element, this.queues.element, this.rejectedCard.element, this.workers.element);
    this.rates = new LineChart(holders[0], { label: "Updates merged per second" });
    this.stale = new HeatMap(holders[1], { label: "Staleness over time" });
    $("crumbs").textContent = `› ${name}`;
    document.title = `${name} · fedtide`;
  }

  update(message) {
    const now = message.campaign;
    this.takeNews(message.news);
    this.queues.only = now.queues ?? null;
    this.queues.update(message);
    this.workers.update(message);
    if (!now.state) {
      this.state.replaceChildren(pill("launched; no word from its coordinator yet", "warn"));
      return;
    }
    this.now = now;
    this.state.replaceChildren(statePill(now));
    const over = now.over;
    const nobody = over ? `after ${clock(now.wall_seconds)}` : "no coordinator leads it now";
    this.leader.textContent = now.writer ? `led by ${now.writer}` : nobody;
    this.showControls(message.control ? now.requests : []);
    this.showHealth(now, message, over);
    this.showTiles(now, over);
    this.scores.draw(this.evaluations, now);
    this.drawRates(now);
    this.drawStaleness();
    this.showLedger(now);
    this.showParts(now);
    this.showRejected(now);
  }

  takeNews(news) {
    if (!news) return;
    this.bounds = news.bounds;
    if (news.whole) { this.evaluations = []; this.intervals = []; this.events = []; }
    this.evaluations.splice(news.first_evaluation, Infinity, ...news.evaluations);
    this.intervals.splice(news.first_interval, Infinity, ...news.intervals);
    if (news.events.length || news.whole) {
      this.events.push(...news.events);
      this.events = this.events.slice(-200);
      this.feedList.replaceChildren(...this.events.toReversed().map(describe));
      if (!this.events.length) this.feedList.replaceChildren(h("li", { class: "empty" }, "nothing yet"));
    }
  }

  showHealth(now, message, over) {
    const findings = [];
    const hole = now.issued - now.merged - sum(Object.values(now.rejected)) - now.expired - now.cancelled - now.out;
    if (!over) {
      if (!now.writer) findings.push(["no coordinator leads this campaign: start it again with --resume", "bad"]);
      else if (now.status_age_seconds > 10) findings.push([`its coordinator has not said anything for ${span(now.status_age_seconds)}`, "bad"]);
      const last = this.intervals.at(-1)?.[0] ?? 0, still = now.wall_seconds - last;
      if (now.state === "running" && still > 60 && still > 0.2 * now.wall_seconds) findings.push([`nothing was merged for ${clock(still)}`, "bad"]);
      if (!now.live_workers) findings.push(["no worker serves its queues", "bad"]);
      const lost = this.events.filter((event) => event.kind === "worker" && event.event === "lost" && event.seconds > now.wall_seconds - 120).map((event) => event.worker);
      if (lost.length) findings.push([`silent in the last two minutes: ${[...new Set(lost)].slice(0, 5).join(", ")}`, "warn"]);
      const backed = message.queues.filter((queue) => now.queues?.includes(queue.queue) && queue.depth && (queue.oldest_seconds > 30 || !queue.workers));
      if (backed.length) findings.push([`queue backed up: ${backed.map((queue) => `${queue.queue} (${queue.workers ? span(queue.oldest_seconds) : "no worker"})`).join(", ")}`, "warn"]);
      if (now.checkpoint_age_seconds > 300) findings.push([`the newest checkpoint is ${clock(now.checkpoint_age_seconds)} old`, "warn"]);
    }
    const refused = sum(Object.values(now.rejected)), ended = now.merged + refused;
    if (ended > 20 && refused > 0.1 * ended) findings.push([`${percent(refused / ended, 0)} of the updates are refused`, "warn"]);
    if (now.waits_for && !over) findings.push([`nothing is merged before there are ${now.waits_for}`, "warn"]);
    if (now.privacy?.spent && !over) findings.push([`${now.privacy.spent} of ${now.privacy.devices} devices have spent their privacy budgets`, "warn"]);
    if (now.fruitless?.sentence) findings.push([`nothing comes of it: ${now.fruitless.sentence}`, over ? "bad" : "warn"]);
    if (hole) findings.push([`the ledger does not add up: ${hole} tasks are missing`, "bad"]);
    if (!findings.length) findings.push([allIsWell(now, over), "good"]);
    showHealth(this.health, findings);
  }

  showTiles(now, over) {
    const goal = now.goal, score = now.scores[0];
    const tiles = [
      score ? tile(scoreText(score.name, score.final), `${scoreLabel(score)}, best ${scoreText(score.name, score.best)}`) : tile("–", "not evaluated yet"),
      tile(short(now.versions), "version"),
      tile(over ? short(now.updates_per_second) : (now.recent_updates_per_second ?? 0).toFixed(1), over ? "merged per second, over all" : "merged per second now"),
      ...(now.privacy ? [tile(`${now.privacy.epsilon.toFixed(2)} / ${now.privacy.budget.toFixed(2)}`, `epsilon spent / budget, delta ${now.privacy.delta}`)] : []),
      tile(`${now.staleness.p50} / ${now.staleness.p95}`, `staleness p50 / p95, max ${now.staleness.max}`),
      tile(`${now.live_workers ?? 0}`, `workers, ${now.claimed ?? 0} tasks in hand`),
      tile(`${now.buffered ?? 0} of ${now.buffer_size ?? 0}`, "buffer", (now.buffered ?? 0) / (now.buffer_size || 1)),
    ];
    if (goal && !over) {
      const left = goal.seconds_left === null ? "" : `, about ${clock(goal.seconds_left)} left`;
      tiles.push(tile(percent(goal.share, 0), `of ${goal.text}${left}`, goal.share));
    } else tiles.push(tile(clock(now.wall_seconds), over ? "from launch to end" : "since launch"));
    this.tiles.replaceChildren(...tiles);
  }

  /** Updates per second in at most about 120 columns. */
  columns(most) {
    const end = Math.max(this.now?.wall_seconds ?? 0, this.intervals.at(-1)?.[0] ?? 0);
    const width = Math.max(1, end / most), found = [];
    for (const [seconds, , , updates, counts] of this.intervals) {
      const place = Math.floor(seconds / width);
      const column = (found[place] ??= { updates: 0, counts: counts.map(() => 0) });
      column.updates += updates;
      counts.forEach((count, i) => { column.counts[i] += count; });
    }
    return { width, end, found };
  }

  drawRates(now) {
    const { width, found } = this.columns(100), rows = [];
    for (let i = 0; i < found.length - (now.over ? 0 : 1); i++) rows.push([(i + 0.5) * width, (found[i]?.updates ?? 0) / width, null]);
    this.rates.draw(rows, { names: ["merged per second", ""], colours: [css("--green"), ""], area: true, xMax: now.wall_seconds, nothing: "nothing was merged yet" });
  }

  drawStaleness() {
    const { width, end, found } = this.columns(60), columns = [];
    found.forEach((column, i) => { if (column) columns.push([i * width, Math.min(end, (i + 1) * width), column.counts]); });
    const labels = this.bounds.map((bound, i) => (i && this.bounds[i - 1] + 1 < bound ? `${this.bounds[i - 1] + 1}–${bound}` : `${bound}`));
    labels.push(`>${this.bounds.at(-1)}`);
    this.stale.draw(columns, { labels, colour: css("--violet"), name: "staleness" });
  }

  showLedger(now) {
    const counts = { ...now, rejected: sum(Object.values(now.rejected)) };
    const hole = now.issued - sum(LEDGER.map(([name]) => counts[name]));
    const stack = h("div", { class: "stack", role: "img", "aria-label": `issued ${now.issued}: ${LEDGER.map(([name]) => `${name} ${counts[name]}`).join(", ")}${hole ? `, missing ${hole}` : ""}` },
      LEDGER.filter(([name]) => counts[name]).map(([name, colour]) => h("i", { title: `${name} ${counts[name]}`, css: { "flex-grow": counts[name], "flex-basis": "4px", background: css(colour) } })),
      hole ? h("i", { class: "hole", title: `missing ${hole}`, css: { "flex-grow": Math.abs(hole), "flex-basis": "40px" } }) : null);
    const terms = LEDGER.flatMap(([name, colour], i) => [i ? " + " : "", h("span", { class: "swatch", css: { background: css(colour) } }), `${name} `, h("b", {}, String(counts[name]))]);
    this.ledgerBody.replaceChildren(stack,
      h("p", { class: "equation" }, "issued ", h("b", {}, String(now.issued)), hole ? " ≠ " : " = ", ...terms, " ", hole ? pill(`${hole} missing`, "bad") : pill("adds up", "good")),
      h("p", { class: "quiet" }, `Re-issued: ${now.reissued}. Updates that answered no open task (duplicates, late ones): ${sum(Object.values(now.surplus))}. Entries that wait for the coordinator: ${now.inbox_entries ?? 0}; in the log, for a checkpoint: ${now.log_entries ?? 0}${now.checkpoint_age_seconds === undefined ? "" : `; the newest one is ${clock(now.checkpoint_age_seconds)} old`}.`));
  }

  showParts(now) {
    const parts = now.part_quantiles;
    if (!parts || !now.timing.updates) { this.partsBody.replaceChildren(h("p", { class: "empty" }, "no update was admitted yet")); return; }
    const total = sum(PARTS.map(([key]) => parts[key].mean)) || 1;
    this.partsBody.replaceChildren(
      h("div", { class: "stack", role: "img", "aria-label": PARTS.map(([key, name]) => `${name} ${span(parts[key].mean)}`).join(", ") },
        PARTS.filter(([key]) => parts[key].mean > 0).map(([key, name, colour]) => h("i", { title: `${name}: ${span(parts[key].mean)} (p95 ${span(parts[key].p95)})`, css: { "flex-grow": parts[key].mean / total, "flex-basis": "0", background: css(colour) } }))),
      h("div", { class: "legend" }, PARTS.map(([key, name, colour]) => h("span", { title: `p95 ${span(parts[key].p95)}` }, h("span", { class: "swatch", css: { background: css(colour) } }), `${name} `, h("b", {}, span(parts[key].mean))))),
      h("p", { class: "quiet" }, advice(parts, total, now)));
  }

  showRejected(now) {
    const refused = sum(Object.values(now.rejected));
    const rows = [...Object.entries(now.rejected), ...Object.entries(now.surplus).filter(([reason]) => UNTRUSTED.has(reason))].toSorted((a, b) => b[1] - a[1]);
    const most = Math.max(1, ...rows.map((row) => row[1]));
    const forged = sum(Object.entries(now.surplus).map(([reason, count]) => (UNTRUSTED.has(reason) ? count : 0)));
    const share = refused ? `${refused}, ${percent(refused / (now.merged + refused))} of all that came` : "";
    this.rejectedCard.small.textContent = [share, forged ? `${forged} not signed by a member as its own` : ""].filter(Boolean).join("; ");
    this.rejectedBody.replaceChildren(...rows.map(([reason, count]) => h("div", { class: "reason" }, h("span", {}, reason), h("i", { css: { width: `${(100 * count) / most}%` } }), h("b", {}, String(count)))));
    if (!rows.length) this.rejectedBody.replaceChildren(h("p", { class: "empty" }, "none so far"));
    this.quarantine.hidden = !now.parked_entries;
  }

  async loadQuarantine() {
    if (!this.quarantine.open) return;
    const answer = await fetch(`/api/campaigns/${encodeURIComponent(this.name)}/rejected`).then((r) => r.json()).catch(() => ({ rows: [] }));
    const list = table([["when", ""], ["reason", "text"], ["worker", "text"], ["task", ""], ["detail", "text"]]);
    list.body.append(...(answer.rows ?? []).map((row) => h("tr", {}, cell(row.when), cell(row.reason, "text"), cell(row.worker, "text"), cell(row.task), cell(row.detail, "text wrap"))));
    this.parked.replaceChildren(list.element, h("p", { class: "quiet" }, "More, and how to let one in: ", h("code", {}, `fedtide rejected ${this.name} --show N`)));
  }

  // -- control -----------------------------------------------------------------------------------------------------

  showControls(wanted) {
    const key = wanted.join();
    if (this.shownControls === key) return;
    this.shownControls = key;
    this.said = h("span", { class: "quiet", role: "status" });
    this.controls.replaceChildren(this.said, ...wanted.map((request) => h("button", { type: "button", class: request === "stop" ? "danger" : "", onclick: () => this.ask(request) }, request)));
  }

  async ask(request) {
    let token = sessionStorage.getItem("token");
    if (!token && !(token = prompt("Token of --control"))) return;
    if (request === "stop" && !confirm(`Stop ${this.name} for good? What was received is merged, what is out is cancelled.`)) return;
    const answer = await fetch(`/api/campaigns/${encodeURIComponent(this.name)}/control`, {
      method: "POST", headers: { authorization: `Bearer ${token}`, "content-type": "application/json" }, body: JSON.stringify({ request }),
    }).catch(() => null);
    if (answer?.status === 202) { sessionStorage.setItem("token", token); this.said.textContent = `asked to ${request}`; return; }
    if (answer?.status === 401) sessionStorage.removeItem("token");
    const said = await answer?.json().catch(() => null); // a proxy's own page is no JSON
    this.said.textContent = said?.error ?? (answer ? `refused with status ${answer.status}` : "the monitor does not answer");
  }
}

/** What the longest part asks for. */

function advice(parts, total, now) {
  const share = (key) => parts[key].mean / total;
  if (share("log") + share("merge") > 0.4) return "Updates wait for the coordinator: give it a faster core, a larger buffer_size, or a smaller codec.";
  if (share("queue") > 0.5) return `Tasks wait for workers: more workers would merge faster, or a concurrency below ${now.concurrency}.`;
  if (share("fetch") + share("send") > 0.4) return "The network is the bottleneck: a smaller codec (fp16, int8, top-k) or more local steps per task.";
  return "Most of the time is training: more or faster workers make the campaign faster.";
}
