// What has happened in a campaign, a sentence for each event.

import { clock, h } from "./charts.js";

const WHY = { lost: "its worker fell silent", deadline: "its deadline passed", no_answer: "its answer could not be read", no_worker: "nobody serves its queue", payload_lost: "its update was lost", handed_back: "its worker gave it back", failed: "training failed" };

const LED = {
  launched: (event) => `launched by ${event.holder}`,
  resumed: (event) => `resumed by coordinator ${event.holder} (lease ${event.fence})`,
  took_over: (event) => `standby ${event.holder} took over from ${event.predecessor} (lease ${event.fence})`,
};

/** One event as a sentence. */
export function describe(event) {
  const say = (text, kind) => h("li", { "data-kind": event.kind }, h("time", {}, clock(event.seconds)), h("span", { class: `dot ${kind}` }), h("span", {}, text));
  switch (event.kind) {
    case "worker": return say(`worker ${event.worker} ${event.event === "lost" ? "fell silent" : event.event}`, { joined: "good", lost: "bad", left: "info" }[event.event]);
    case "reissue": return say(`task ${event.task} re-issued (attempt ${event.attempt}): ${WHY[event.reason] ?? event.reason}${event.detail ? `. ${event.worker} says: ${event.detail}` : ""}`, "warn");
    case "rejections": return say(`refused: ${Object.entries(event.reasons).map(([reason, n]) => `${n} ${reason}`).join(", ")}${Object.keys(event.workers).filter(Boolean).length ? `, from ${Object.keys(event.workers).filter(Boolean).slice(0, 3).join(", ")}` : ""}`, "bad");
    case "phase": return say(event.state === "running" ? "resumed" : event.state, "info");
    case "request": return say(`refused to ${event.request || "do what was asked"}: ${event.reason}: ${event.detail}`, "bad");
    case "rollback": return say(`diverged; version ${event.version} goes on from version ${event.good_version}`, "bad");
    case "end": return say(`${event.state}${event.reason ? `: ${event.reason}` : ""}`, "info");
    case "coordinator": return say(LED[event.event]?.(event) ?? `coordinator ${event.holder}: ${event.event}`, event.event === "launched" ? "good" : "warn");
    case "left_out": return say(`${event.lines} more events at this time`, "");
    default: return say(event.kind, "");
  }
}
