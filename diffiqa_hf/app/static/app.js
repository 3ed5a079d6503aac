// Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
// Sends what is chosen to the server of this page, and shows the answer. It asks no other server for anything.
"use strict";

const $ = (id) => document.getElementById(id);

// -- tabs -------------------------------------------------------------------------------------------------------------

const tabs = [...document.querySelectorAll("[role=tab]")];

function show(tab) {
  for (const other of tabs) {
    const chosen = other === tab;
    other.setAttribute("aria-selected", String(chosen));
    $(other.getAttribute("aria-controls")).hidden = !chosen;
  }
}

for (const tab of tabs) {
  tab.addEventListener("click", () => show(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
    next.focus();
    show(next);
  });
}

// -- asking -----------------------------------------------------------------------------------------------------------

function line(place, text, kind) {
  const paragraph = document.createElement("p");
  paragraph.className = kind;
  paragraph.textContent = text;
  place.replaceChildren(paragraph);
}

function choice(form) {
  const data = new FormData(form);
  data.set("method", $("method").value);
  data.set("kind", document.querySelector("input[name=kind]:checked").value);
  return data;
}

// The answer of the server, or an error with its line.
async function ask(address, options) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch {
    throw new Error("the server does not answer, or what was sent is too large");
  }
  if (!answer.ok) throw new Error(await answer.text());
  return answer;
}

// Of several questions at one place only the answer to the last is shown.
const latest = new WeakMap();

async function fill(place, address, body) {
  const mine = {};
  latest.set(place, mine);
  line(place, "One moment ...", "busy");
  try {
    const answer = await ask(address, { method: "POST", body });
    const html = await answer.text();
    // The server's own template, in which every text is escaped.
    if (latest.get(place) === mine) place.innerHTML = html;
  } catch (error) {
    if (latest.get(place) === mine) line(place, error.message, "bad");
  }
}

// -- one photograph, and two ------------------------------------------------------------------------------------------

const one = document.querySelector("#one form");
const pair = document.querySelector("#pair form");
const many = document.querySelector("#many form");
let taken = null; // the camera's picture, if that was the last

for (const form of [one, pair]) form.addEventListener("submit", (event) => event.preventDefault());

function scoreOne() {
  const data = choice(one);
  if (taken !== null) data.set("photograph", taken, "camera.png");
  if (data.get("photograph").size) fill($("one-result"), one.getAttribute("action"), data);
}

function scorePair() {
  const data = choice(pair);
  if (data.get("first").size && data.get("second").size) fill($("pair-result"), pair.getAttribute("action"), data);
}

one.addEventListener("change", () => {
  taken = null;
  scoreOne();
});
pair.addEventListener("change", scorePair);
document.querySelector(".settings").addEventListener("change", () => {
  if (!$("one").hidden) scoreOne();
  if (!$("pair").hidden) scorePair();
});

document.addEventListener("click", (event) => {
  if (!event.target.matches(".why")) return;
  const face = event.target.closest(".face");
  const data = new FormData();
  data.set("crop", face.querySelector(".crop").src);
  fill(face.querySelector(".explanation"), "why", data);
});

// -- the camera -------------------------------------------------------------------------------------------------------

const video = document.querySelector("video");

function stopCamera() {
  for (const track of video.srcObject ? video.srcObject.getTracks() : []) track.stop();
  video.srcObject = null;
  document.querySelector(".camera").hidden = true;
  $("camera").disabled = false;
}

$("camera").addEventListener("click", async () => {
  if (!navigator.mediaDevices) {
    line($("one-result"), "The browser gives a page the camera on this machine or by https alone.", "bad");
    return;
  }
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } } });
  } catch (error) {
    line($("one-result"), `There is no camera: ${error.message}`, "bad");
    return;
  }
  document.querySelector(".camera").hidden = false;
  $("camera").disabled = true;
});

$("stop").addEventListener("click", stopCamera);
$("take").addEventListener("click", () => {
  if (!video.videoWidth) return;
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => {
    taken = blob;
    stopCamera();
    scoreOne();
  }, "image/png");
});

// -- many -------------------------------------------------------------------------------------------------------------

let batch = null; // the token of the one on the page

function progress(state) {
  document.querySelector(".progress").hidden = state === null;
  if (state === null) return;
  $("bar").max = state.total || 1;
  $("bar").value = state.done;
  $("far").textContent = state.state === "waiting" ? "waiting for its turn" : `${state.done} of ${state.total}`;
}

function forget() {
  if (batch !== null) fetch(`batches/${batch}`, { method: "DELETE", keepalive: true });
  batch = null;
}

async function watch(token) {
  while (batch === token) {
    const state = await (await ask(`batches/${token}`)).json();
    if (batch !== token) return;
    if (state.html !== undefined) {
      progress(null);
      $("many-result").innerHTML = state.html;
      return;
    }
    progress(state);
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}

async function scoreMany() {
  const data = choice(many);
  if (!data.get("photographs").size) return;
  forget();
  line($("many-result"), "Sending ...", "busy");
  $("cancel").disabled = false;
  try {
    const started = await (await ask(many.getAttribute("action"), { method: "POST", body: data })).json();
    batch = started.token;
    $("many-result").replaceChildren();
    progress({ state: "waiting", done: 0, total: started.total });
    await watch(batch);
  } catch (error) {
    progress(null);
    line($("many-result"), error.message, "bad");
  }
  $("again").hidden = false;
}

many.addEventListener("change", scoreMany);
many.addEventListener("submit", (event) => {
  event.preventDefault();
  scoreMany();
});

$("cancel").addEventListener("click", () => {
  $("cancel").disabled = true;
  if (batch !== null) fetch(`batches/${batch}/cancel`, { method: "POST" });
});

// Who leaves the page leaves nothing behind.
window.addEventListener("pagehide", forget);
