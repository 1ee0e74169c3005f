// The page: a list of campaigns, and one campaign. Everything shown comes from /api; a server-sent event a second
// brings what has changed. Text from devices only ever becomes text nodes.

import { HeatMap, LineChart, clock, h, short, spark } from "./charts.js";

const $ = (id) => document.getElementById(id);
const PARTS = [
  ["queue", "waited in queue", "--grey"], ["fetch", "fetched base", "--blue"], ["train", "trained", "--green"],
  ["encode", "encoded", "--violet"], ["send", "sent", "--orange"], ["log", "waited in log", "--yellow"],
  ["merge", "decoded and merged", "--red"],
];
const LEDGER = [
  ["merged", "--green"], ["rejected", "--red"], ["expired", "--orange"], ["cancelled", "--grey"], ["out", "--blue"],
];
const STATE_CLASS = { running: "good", paused: "warn", interrupted: "warn", failed: "bad", finished: "info", stopped: "info" };
const WORKER_CLASS = { training: "good", idle: "info", loading: "warn", delivering: "warn", leaving: "warn", silent: "bad", gone: "" };
const sum = (values) => values.reduce((a, b) => a + b, 0);
const percent = (value, digits = 1) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(digits)} %`);
// Accuracies are read in percent; any other metric as the number that it is (fl_core/metrics/names.py).
const isPercent = (name) => /^(balanced_|top_\d+_)?accuracy$/.test(name);
const scoreText = (name, value, digits = 1) => (isPercent(name) ? percent(value, digits) : short(value));
const scoreLabel = (score) => `${score.name.replaceAll("_", " ")} ${score.higher_is_better ? "↑" : "↓"}`;
function bytes(count) {
  let n = count;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (n < 1000) return `${unit === "B" ? n : n.toFixed(1)} ${unit}`;
    n /= 1000;
  }
  return `${n.toFixed(1)} TB`;
}
function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.0005) return "<1 ms";
  if (seconds < 1) return `${Math.round(1000 * seconds)} ms`;
  return seconds < 60 ? `${seconds.toFixed(1)} s` : clock(seconds);
}
const pill = (text, kind = "") => h("span", { class: `pill ${kind}` }, text);
const css = (name) => `var(${name})`;

// -- theme ---------------------------------------------------------------------------------------------------------

function applyTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
}
applyTheme(localStorage.getItem("theme"));
$("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const next = dark ? "light" : "dark";
  localStorage.setItem("theme", next);
  applyTheme(next);
});

// -- link to the server --------------------------------------------------------------------------------------------

let source = null, view = null, lastHeard = 0;

function connect(campaign) {
  source?.close();
  source = new EventSource(`/api/live${campaign ? `?campaign=${encodeURIComponent(campaign)}` : ""}`);
  const mine = source;
  for (const name of ["hello", "now"]) {
    source.addEventListener(name, (event) => {
      if (source !== mine) return;
      lastHeard = Date.now();
      const message = JSON.parse(event.data);
      showLink("live", "good");
      showOutage(message.error);
      showBroker(message.broker);
      view?.update(message, name === "hello");
    });
  }
  source.addEventListener("error", () => {
    if (source !== mine) return;
    showLink("reconnecting", "bad");
    // A browser gives up after some answers (a campaign that is not known yet, a proxy's error page): we do not.
    if (mine.readyState === EventSource.CLOSED) setTimeout(() => { if (source === mine) connect(campaign); }, 2000);
  });
}
setInterval(() => { if (lastHeard && Date.now() - lastHeard > 8000) showLink("no word", "bad"); }, 2000);

function showLink(text, kind) {
  $("link").textContent = text;
  $("link").className = `pill ${kind}`;
}
function showOutage(error) {
  $("outage").hidden = !error;
  $("outage").textContent = error ? `What is shown is the last that was seen. ${error}` : "";
}
function showBroker(broker) {
  if (!broker) return;
  const limit = broker.max_memory_bytes ? ` of ${bytes(broker.max_memory_bytes)}` : "";
  $("broker").textContent = `broker ${broker.version}, ${bytes(broker.memory_bytes)}${limit}`;
}

// -- tables --------------------------------------------------------------------------------------------------------

function table(columns) {
  const body = h("tbody");
  const head = h("tr", {}, columns.map(([name, kind]) => h("th", { scope: "col", class: kind }, name)));
  return { body, element: h("div", { class: "scroll" }, h("table", {}, h("thead", {}, head), body)) };
}
const cell = (content, kind = "") => h("td", { class: kind }, content === null || content === undefined ? "–" : content);
const scoreCell = (score) => h("span", { title: score.higher_is_better ? "better when higher" : "better when lower" },
  h("span", { class: "quiet" }, `${scoreLabel(score)} `), scoreText(score.name, score.final));
const statePill = (row) => pill(row.state ? row.state + (row.stop_reason ? ` (${row.stop_reason})` : "") : "no word yet", STATE_CLASS[row.state] ?? "");
const tile = (value, label, share) => h("div", { class: "tile" }, h("b", {}, value), h("span", {}, label),
  share === undefined ? null : h("div", { class: "meter" }, h("i", { css: { width: `${Math.min(100, 100 * share)}%` } })));

/** What the health card says of a campaign that has no fault. */
function allIsWell(now, over) {
  if (over) return `It is over: ${now.state}${now.stop_reason ? ` (${now.stop_reason})` : ""}.`;
  return now.state === "paused" ? "Paused: no new tasks; late updates are still merged." : "Healthy: led, merging, the ledger adds up.";
}

function card(title, note, kind, ...content) {
  const small = h("small", {}, note);
  const heading = h("h2", {}, title, small);
  return { element: h("section", { class: `card ${kind}`, "aria-label": title }, heading, ...content), heading, small };
}

/** The queues: shared by both views. */
class Queues {
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
class Workers {
  constructor(campaign) {
    this.campaign = campaign;
    this.page = 0;
    this.sort = "worker";
    const columns = [["worker", "worker", ""], ["state", "state", "text"], ["task", null, "text optional"], ["seen", "seen", ""]];
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
    this.card.small.textContent = Object.entries(message.workers).map(([state, n]) => `${n} ${state === "silent" ? "lost" : state}`).join(", ") || "none has registered";
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
    if (!answer.rows.length) this.body.replaceChildren(h("tr", {}, h("td", { colspan: 9 }, h("p", { class: "empty" }, "No worker here: start one with fedtide-worker --broker URL --data MODULE:CALLABLE"))));
  }
  row(row) {
    const state = row.state === "silent" ? "lost" : row.state;
    const task = row.holding ? row.holding.split("/")[1].replace(/-[0-9a-f]+#/, " attempt ") : "–";
    const common = [cell(row.worker), cell(h("span", { title: row.trouble ?? "" }, pill(state, WORKER_CLASS[row.state]), row.trouble ? h("span", { class: "quiet" }, ` fails: ${row.trouble}`) : ""), "text"), cell(task, "text optional"), cell(row.seen === null ? "–" : span(row.seen))];
    if (!this.campaign) return h("tr", { "data-worker": row.worker }, ...common, cell(row.done), cell(row.failed), cell(row.bytes_up === undefined ? "–" : bytes(row.bytes_up), "optional"), cell(row.host, "text optional"));
    return h("tr", { "data-worker": row.worker }, ...common, cell(row.updates), cell(spark([...row.sparks, ...Array(Math.max(0, 24 - row.sparks.length)).fill(null)], css("--green")), "optional"),
      cell(row.staleness === null ? "–" : row.staleness.toFixed(1)), cell(span(row.train)), cell(row.rejected || "–"));
  }
}

// -- overview ------------------------------------------------------------------------------------------------------

class Overview {
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
    if (silent) findings.push([`${silent} lost`, "warn"]);
    findings.push(backed.length ? [`backed up: ${backed.map((queue) => queue.queue).join(", ")}`, "warn"] : ["no queue backed up", "good"]);
    if (leaderless.length) findings.push([`without a coordinator: ${leaderless.map((row) => row.campaign).join(", ")}`, "bad"]);
    showHealth(this.sentence, findings);
    this.queues.update(message);
    this.workers.update(message);
  }
}


function showHealth(element, findings) {
  const worst = ["bad", "warn"].find((each) => findings.some(([, kind]) => kind === each)) ?? "good";
  element.className = `health ${worst}`;
  element.replaceChildren(h("ul", {}, findings.map(([text, kind]) => h("li", {}, h("span", { class: `dot ${kind}` }), " ", text))));
}

// -- one campaign --------------------------------------------------------------------------------------------------

class Campaign {
  constructor(name) {
    this.name = name;
    this.evaluations = [];
    this.intervals = [];
    this.events = [];
    this.bounds = [];
    this.byTime = true;
    this.state = h("span");
    this.leader = h("span", { class: "quiet" });
    this.controls = h("span", { class: "controls" });
    this.health = h("div", { class: "health" });
    this.tiles = h("div", { class: "tiles" });
    const holders = ["score", "rate", "stale"].map(() => h("div"));
    const axis = h("span", { class: "tabs" }, [true, false].map((time) => h("button", { type: "button", "aria-pressed": String(time === this.byTime),
      onclick: () => { this.byTime = time; for (const each of axis.children) each.setAttribute("aria-pressed", String(each === axis.children[time ? 0 : 1])); this.drawScores(); } },
      time ? "over time" : "over merged updates")));
    this.shown = null; // the metric beside the loss; null for the first
    this.choice = h("select", { "aria-label": "Metric", hidden: true, onchange: () => { this.shown = this.choice.value; this.drawScores(); } });
    this.scoreCard = card("Scores", "", "twothirds", holders[0]);
    this.scoreCard.heading.append(h("span", { class: "tools" }, this.choice, axis));
    this.scoreCard.element.id = "scores";
    this.staleCard = card("Staleness over time", "how many versions behind merged updates were", "half", holders[2]);
    this.rateCard = card("Merge rate", "updates merged per second", "half", holders[1]);
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
      this.health, this.tiles, this.scoreCard.element, this.feedCard.element, this.staleCard.element, this.rateCard.element,
      this.ledgerCard.element, this.partsCard.element, this.queues.element, this.rejectedCard.element, this.workers.element);
    this.scores = new LineChart(holders[0], { label: "Metric and loss of evaluated versions", height: 290 });
    this.rates = new LineChart(holders[1], { label: "Updates merged per second" });
    this.stale = new HeatMap(holders[2], { label: "Staleness over time" });
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
    this.drawScores();
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
      if (lost.length) findings.push([`lost in the last two minutes: ${[...new Set(lost)].slice(0, 5).join(", ")}`, "warn"]);
      const backed = message.queues.filter((queue) => now.queues?.includes(queue.queue) && queue.depth && (queue.oldest_seconds > 30 || !queue.workers));
      if (backed.length) findings.push([`queue backed up: ${backed.map((queue) => `${queue.queue} (${queue.workers ? span(queue.oldest_seconds) : "no worker"})`).join(", ")}`, "warn"]);
      if (now.checkpoint_age_seconds > 300) findings.push([`the newest checkpoint is ${clock(now.checkpoint_age_seconds)} old`, "warn"]);
    }
    const refused = sum(Object.values(now.rejected)), ended = now.merged + refused;
    if (ended > 20 && refused > 0.1 * ended) findings.push([`${percent(refused / ended, 0)} of the updates are refused`, "warn"]);
    if (now.waits_for && !over) findings.push([`nothing is merged before there are ${now.waits_for}`, "warn"]);
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

  /** One metric on the left, the loss on the right; a select where there are several metrics. */
  drawScores() {
    const found = (this.now?.scores ?? []).filter((score) => score.name !== "loss"), names = found.map((score) => score.name);
    const chosen = found.find((score) => score.name === this.shown) ?? found[0], name = chosen?.name ?? "";
    if (names.join() !== [...this.choice.options].map((option) => option.value).join()) {
      this.choice.replaceChildren(...found.map((score) => h("option", { value: score.name }, scoreLabel(score))));
    }
    this.choice.hidden = names.length < 2;
    this.choice.value = name;
    const rows = this.evaluations.map((e) => [this.byTime ? e[0] : e[2], e[5][name] ?? null, e[3]]);
    const bound = (metric) => this.now?.targets?.find((target) => target.metric === metric)?.bound;
    this.scores.draw(rows, { time: this.byTime, names: [name.replaceAll("_", " "), "loss"], colours: [css("--blue"), css("--orange")],
      formats: [(v) => scoreText(name, v), short], axes: [(v) => scoreText(name, v, 0), short], targets: [bound(name), bound("loss")], nothing: "not evaluated yet" });
    const key = (colour, text) => h("span", {}, h("span", { class: "swatch", css: { background: css(colour) } }), text);
    const loss = this.evaluations.some((e) => e[3] !== null) ? key("--orange", "loss ↓") : null;
    this.scoreCard.small.replaceChildren(...[chosen ? key("--blue", scoreLabel(chosen)) : null, " \u2002", loss].filter(Boolean));
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
      h("p", { class: "quiet" }, `Re-issued: ${now.reissued}. Updates that answered no open task (duplicates, late ones): ${sum(Object.values(now.surplus))}. Log entries that wait for a checkpoint: ${now.log_entries ?? 0}${now.checkpoint_age_seconds === undefined ? "" : `; the newest one is ${clock(now.checkpoint_age_seconds)} old`}.`));
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
    const rows = Object.entries(now.rejected).toSorted((a, b) => b[1] - a[1]);
    const refused = sum(rows.map((row) => row[1])), most = Math.max(1, ...rows.map((row) => row[1]));
    this.rejectedCard.small.textContent = refused ? `${refused}, ${percent(refused / (now.merged + refused))} of all that came` : "";
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
    this.said.textContent = answer ? (await answer.json()).error : "the monitor does not answer";
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

const WHY = { lost: "its worker fell silent", deadline: "its deadline passed", no_answer: "its answer could not be read", no_worker: "nobody serves its queue", payload_lost: "its update was lost", handed_back: "its worker gave it back", failed: "training failed" };

const LED = {
  launched: (event) => `launched by ${event.holder}`,
  resumed: (event) => `resumed by coordinator ${event.holder} (lease ${event.fence})`,
  took_over: (event) => `standby ${event.holder} took over from ${event.predecessor} (lease ${event.fence})`,
};

/** One event as a sentence. */
function describe(event) {
  const say = (text, kind) => h("li", { "data-kind": event.kind }, h("time", {}, clock(event.seconds)), h("span", { class: `dot ${kind}` }), h("span", {}, text));
  switch (event.kind) {
    case "worker": return say(`worker ${event.worker} ${event.event === "lost" ? "is lost: it fell silent" : event.event}`, { joined: "good", lost: "bad", left: "info" }[event.event]);
    case "reissue": return say(`task ${event.task} re-issued (attempt ${event.attempt}): ${WHY[event.reason] ?? event.reason}${event.detail ? `. ${event.worker} says: ${event.detail}` : ""}`, "warn");
    case "rejections": return say(`refused: ${Object.entries(event.reasons).map(([reason, n]) => `${n} ${reason}`).join(", ")}${Object.keys(event.workers).filter(Boolean).length ? `, from ${Object.keys(event.workers).filter(Boolean).slice(0, 3).join(", ")}` : ""}`, "bad");
    case "phase": return say(event.state === "running" ? "resumed" : event.state, "info");
    case "rollback": return say(`diverged; version ${event.version} goes on from version ${event.good_version}`, "bad");
    case "end": return say(`${event.state}${event.reason ? `: ${event.reason}` : ""}`, "info");
    case "coordinator": return say(LED[event.event]?.(event) ?? `coordinator ${event.holder}: ${event.event}`, event.event === "launched" ? "good" : "warn");
    case "left_out": return say(`${event.lines} more events at this time`, "");
    default: return say(event.kind, "");
  }
}

// -- where we are --------------------------------------------------------------------------------------------------

function go() {
  const match = location.hash.match(/^#\/c\/(.+)$/), campaign = match ? decodeURIComponent(match[1]) : "";
  view = campaign ? new Campaign(campaign) : new Overview();
  connect(campaign);
  window.scrollTo(0, 0);
}
window.addEventListener("hashchange", () => { go(); $("main").focus({ preventScroll: true }); });
go();
