// Draws what the server tells. Whatever the API says becomes text, never markup.

const COUNTS = ["num_contacts", "completed", "running", "failed", "expired", "canceled"];
const SILENCE = 40_000; // ms: the server speaks at least every 15 s, so the line is dead
const AGAIN = 1_000; // ms

const $ = (selector, within = document) => within.querySelector(selector);
const campaigns = new Map(); // id: the row as it was told, with the element that shows it
let heardAt = null;
let isAsking = true;
let source, watchdog;

// --- the connection

function connect() {
  source?.close();
  source = new EventSource("events");
  source.onmessage = (event) => {
    listen();
    hear(JSON.parse(event.data));
  };
  source.onerror = () => {
    say("lost");
    // The browser comes back by itself, unless what answered was no stream of events.
    if (source.readyState === EventSource.CLOSED) listen(AGAIN);
  };
}

function listen(patience = SILENCE) {
  clearTimeout(watchdog);
  watchdog = setTimeout(() => {
    say("lost");
    connect();
    listen();
  }, patience);
}

function say(state) {
  const since = heardAt ? `This is how it was at ${heardAt.toLocaleTimeString()}. ` : "";
  $("#connection").dataset.state = state;
  write($("#connection"), state === "live" ? "Live" : `No connection. ${since}Trying again…`);
}

// --- what is heard

function hear({ is_all, campaigns: rows, asking }) {
  if (is_all) forget(new Set(rows.map((row) => row.id)));
  for (const row of rows) {
    const element = campaigns.get(row.id)?.element ?? appear();
    campaigns.set(row.id, { ...row, element });
  }
  isAsking = !asking.stopped;
  for (const { id } of isAsking ? rows : campaigns.values()) draw(campaigns.get(id));
  heardAt = new Date();
  say("live");
  write($("#asking"), pace(asking));
  write($("#stopped"), asking.stopped && `Nothing is asked any more. ${asking.stopped}`);
  $("#stopped").hidden = !asking.stopped;
  if (is_all || rows.length) summarize();
}

function forget(kept) {
  for (const [id, { element }] of campaigns) {
    if (kept.has(id)) continue;
    element.remove();
    campaigns.delete(id);
  }
}

function appear() {
  const element = $("#campaign").content.firstElementChild.cloneNode(true);
  $("#campaigns").append(element);
  return element;
}

function pace({ limit, learned, paused_for, requests }) {
  const rate = limit ? `${limit}${learned ? ", learned" : ""}` : "no limit met yet";
  const pause = paused_for ? ` · paused for ${paused_for} s` : "";
  return `${rate}${pause} · ${number(requests)} requests`;
}

// --- what is shown

function draw(row) {
  const element = row.element;
  element.dataset.group = group(row);
  write($(".name", element), row.name || row.id);
  write($(".id", element), row.name && row.id.slice(0, 8));
  $("th", element).title = row.id;
  write($(".status", element), words(row.status) || "Not asked yet");
  $(".status", element).dataset.status = row.status;
  const again = isAsking && row.failing && !row.ended ? " · It is asked again." : "";
  write($(".reason td", element), row.reason + again);
  $(".reason", element).hidden = !row.reason;
  $(".bar", element).setAttribute("aria-label", row.name || row.id);
  trace(row.history, element);
  measure(row.counts, element, row.ended && !row.failing);
}

// The line of a campaign: how much was done at each moment, from when it was first seen.
function trace(history, element) {
  const svg = $(".trend svg", element);
  svg.toggleAttribute("hidden", history.length < 2);
  if (history.length < 2) return;
  const [[start, before]] = history;
  const [end, now] = history.at(-1);
  const x = (at) => (100 * (at - start)) / (end - start || 1);
  $("polyline", svg).setAttribute("points", history.map(([at, done]) => `${x(at).toFixed(1)},${100 - done / 10}`).join(" "));
  const span = end - start < 90 ? `${end - start} seconds` : `${Math.round((end - start) / 60)} minutes`;
  svg.setAttribute("aria-label", `From ${Math.floor(before / 10)}% to ${Math.floor(now / 10)}% in ${span}`);
}

function summarize() {
  const rows = [...campaigns.values()];
  const total = {};
  for (const name of COUNTS) total[name] = rows.reduce((sum, row) => sum + (row.counts[name] ?? 0), 0);
  measure(total, $("#totals"));
  const wanted = plain($("#search").value);
  const isFound = (row) => plain(`${row.name} ${row.id}`).includes(wanted);
  for (const button of $("#show").children) {
    const isShown = (row) => (button.value === "all" || button.value === group(row)) && isFound(row);
    const count = rows.filter(isShown).length;
    write($("b", button), number(count));
    if (button.getAttribute("aria-pressed") === "false") continue;
    for (const row of rows) row.element.hidden = !isShown(row);
    $("#none").hidden = count > 0;
  }
  arrange(rows);
}

const ORDERS = {
  given: () => 0,
  name: (a, b) => (a.name || a.id).localeCompare(b.name || b.id),
  status: (a, b) => a.status.localeCompare(b.status),
  least: (a, b) => share(a) - share(b),
  contacts: (a, b) => (b.counts.num_contacts ?? -1) - (a.counts.num_contacts ?? -1),
  failed: (a, b) => (b.counts.failed ?? -1) - (a.counts.failed ?? -1),
};

// Sorting is stable, so equal ones stay in the order of the ids.
function arrange(rows) {
  const sorted = rows.toSorted(ORDERS[$("#sort").value]);
  let place = $("#campaigns thead");
  for (const { element } of sorted) {
    if (place.nextElementSibling !== element) place.after(element);
    place = element;
  }
}

function share({ counts, history }) {
  return counts.num_contacts ? history.at(-1)[1] : 2_000; // one without contacts is not behind
}

// For a search: "promocion" finds "Promoción".
function plain(text) {
  return text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase().trim();
}

function measure(counts, element, hasEnded = false) {
  const of = counts.num_contacts;
  for (const name of COUNTS) {
    const cell = $(`[data-count=${name}]`, element);
    write(cell, of === undefined ? "–" : number(counts[name]));
    cell.classList.toggle("nothing", !counts[name]);
    const part = $(`.bar .${name}`, element);
    if (part) part.style.width = of ? `${(100 * counts[name]) / of}%` : 0;
  }
  const done = counts.completed + counts.failed + counts.expired + counts.canceled;
  // Rounded down: nothing says 100 % that is not done.
  const share = of ? Math.min(100, Math.floor((100 * done) / of)) : 100 * hasEnded;
  write($("[data-share]", element), of === undefined ? "–" : `${share}%`);
  const bar = $(".bar", element);
  bar.setAttribute("aria-valuenow", share);
  bar.setAttribute("aria-valuetext", of === undefined ? "not known" : `${share}% of ${number(of)} contacts`);
}

function group(row) {
  if (row.failing) return "failing";
  return row.ended ? "ended" : "going";
}

function words(status) {
  const text = status.replaceAll("_", " ").toLowerCase();
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function number(count) {
  return count.toLocaleString("en");
}

function write(element, text) {
  // A text that stays is not written again: screen readers would read it out.
  if (element.textContent !== text) element.textContent = text;
}

$("#show").addEventListener("click", ({ target }) => {
  const pressed = target.closest("button");
  if (!pressed) return;
  for (const button of $("#show").children) button.setAttribute("aria-pressed", button === pressed);
  summarize();
});

$("#search").addEventListener("input", summarize);
$("#sort").addEventListener("change", summarize);

connect();
listen();
