"use strict";
// The sample channel app: it shows each purpose with its notice, and posts what
// the person chooses. Nothing is sent before somebody acts.

const jurisdiction = "IE";
const source = "assent-demo/1";
const $ = (id) => document.getElementById(id);

// An unguessable device id, kept in this browser only.
function subject() {
  let id = localStorage.getItem("assent-demo-subject");
  if (!id) {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    id = "device:" + Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
    localStorage.setItem("assent-demo-subject", id);
  }
  return id;
}

async function call(method, path, body, key) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  if (key) headers["Idempotency-Key"] = key;
  const answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const json = await answer.json();
  if (!answer.ok) {
    throw new Error([json.detail, ...(json.errors || []).map((e) => e.message)].filter(Boolean).join(" "));
  }
  return json;
}

// One act: the same body and key on each try, but for sent_at, so that a retry
// is the same event and the server can tell a slow clock.
async function send(path, body) {
  const key = crypto.randomUUID();
  for (let tries = 1; ; tries++) {
    try {
      return await call("POST", path, { ...body, sent_at: new Date().toISOString() }, key);
    } catch (problem) {
      if (!(problem instanceof TypeError) || tries === 3) throw problem; // only a lost connection is tried again
    }
  }
}

const evidence = (control) => ({ method: "toggle", control, control_default: "off", page_url: location.origin + location.pathname });

function act(purpose, on) {
  const event = { subject: subject(), purpose: purpose.id, action: on ? "grant" : "withdraw", jurisdiction, channel: "web", source,
    occurred_at: new Date().toISOString(), evidence: evidence("toggle") };
  if (on) event.notice = shown(purpose);
  return send("/v1/events", event);
}

function shown(purpose) {
  const { id, version, language, sha256 } = purpose.notice;
  return { id, version, language, sha256 };
}

function actOnAll(purposes, on) {
  const choices = {};
  for (const p of purposes) choices[p.id] = on ? { granted: true, notice: shown(p) } : false;
  return send("/v1/submissions", { subject: subject(), jurisdiction, channel: "web", source, occurred_at: new Date().toISOString(),
    evidence: evidence(on ? "accept_all" : "reject_all"), choices });
}

async function show(purposes, token) {
  const queries = purposes.map((p) => ({ subject: subject(), purpose: p.id, jurisdiction }));
  const { decisions } = await call("POST", "/v1/decisions", token ? { queries, at_least: token } : { queries });
  purposes.forEach((p, i) => {
    const d = decisions[i];
    p.box.checked = d.status === "granted";
    p.answer.dataset.allowed = d.allowed;
    p.answer.dataset.status = d.status;
    p.answer.textContent = d.status + ", reason " + d.reason + (d.since ? ", since " + d.since : "");
  });
}

function draw(purpose, onChange) {
  const box = document.createElement("input");
  box.type = "checkbox";
  box.id = "purpose-" + purpose.id;
  box.dataset.purpose = purpose.id;
  box.autocomplete = "off"; // a browser must not bring an old tick back
  const label = document.createElement("label");
  label.htmlFor = box.id;
  label.append(box, purpose.title);
  const text = document.createElement("p");
  text.textContent = purpose.notice ? purpose.notice.text || purpose.description || "" : purpose.description || "";
  const version = document.createElement("p");
  version.className = "quiet";
  version.textContent = purpose.notice ? "Notice " + purpose.notice.id + ", version " + purpose.notice.version : "No notice";
  const answer = document.createElement("p");
  answer.className = "answer";
  const frame = document.createElement("div");
  frame.className = "purpose";
  frame.append(label, text, version, answer);
  box.addEventListener("change", () => onChange(box.checked));
  return { ...purpose, box, answer, frame };
}

async function attempt(purposes, work) {
  $("message").textContent = "Sending…";
  try {
    const result = await work();
    const refused = (result.results || []).filter((r) => r.status >= 400);
    await show(purposes, latest(result));
    $("message").textContent = refused.length ? refused.length + " of your choices could not be recorded." : "Recorded.";
  } catch (problem) {
    await show(purposes).catch(() => {});
    $("message").textContent = "Not recorded: " + problem.message;
  }
}

// The tokens of one subject's events are all in one partition: the last covers them.
function latest(result) {
  if (result.token) return result.token;
  const tokens = (result.results || []).map((r) => r.token).filter(Boolean);
  return tokens[tokens.length - 1];
}

async function start() {
  $("subject").textContent = subject();
  const listed = (await call("GET", "/v1/purposes?jurisdiction=" + jurisdiction + "&language=en")).purposes
    .filter((p) => !p.group); // a group is withdrawn as a whole, never granted
  const purposes = [];
  for (const p of listed) {
    const drawn = draw(p, (on) => attempt(purposes, () => act(p, on)));
    purposes.push(drawn);
  }
  $("purposes").replaceChildren(...purposes.map((p) => p.frame));
  $("accept-all").addEventListener("click", () => attempt(purposes, () => actOnAll(purposes, true)));
  $("refuse-all").addEventListener("click", () => attempt(purposes, () => actOnAll(purposes, false)));
  $("forget").addEventListener("click", () => { localStorage.removeItem("assent-demo-subject"); location.reload(); });
  await show(purposes);
  document.body.dataset.ready = "true";
}

start().catch((problem) => { $("message").textContent = "The page could not start: " + problem.message; });
