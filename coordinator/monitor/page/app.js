// The page: a list of campaigns, and one campaign. Everything shown comes from /api; a server-sent event a second
// brings what has changed. Text from devices only ever becomes text nodes.

import { Campaign } from "./campaign.js";
import { Overview } from "./overview.js";
import { $ } from "./pieces.js";
import { bytes } from "./text.js";

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
      $("logout").hidden = !message.login;
      view?.update(message, name === "hello");
    });
  }
  source.addEventListener("error", () => {
    if (source !== mine) return;
    showLink("reconnecting", "bad");
    // A browser gives up after some answers (a campaign that is not known yet, a proxy's error page): we do not.
    if (mine.readyState === EventSource.CLOSED) setTimeout(() => { if (source === mine) connect(campaign); }, 2000);
    logInIfAsked();
  });
}
setInterval(() => { if (lastHeard && Date.now() - lastHeard > 8000) showLink("no word", "bad"); }, 2000);

/** A session that has ended shows in no event: another request tells, and the page itself leads to the form. */
async function logInIfAsked() {
  const answer = await fetch("/api/overview").catch(() => null);
  if (answer?.status === 401) location.reload();
}
// The next one at this browser types the token of --control as well.
$("logout").addEventListener("submit", () => sessionStorage.removeItem("token"));

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

// -- where we are --------------------------------------------------------------------------------------------------

function go() {
  const match = location.hash.match(/^#\/c\/(.+)$/), campaign = match ? decodeURIComponent(match[1]) : "";
  view = campaign ? new Campaign(campaign) : new Overview();
  connect(campaign);
  window.scrollTo(0, 0);
}
window.addEventListener("hashchange", () => { go(); $("main").focus({ preventScroll: true }); });
go();
