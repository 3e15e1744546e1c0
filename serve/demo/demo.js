// The page: where images come from, what is asked, what is shown.
import { Refused, detect, isReady, listModels, setToken } from "./api.js";
import { classColour, css, draw } from "./drawing.js";

const $ = (id) => document.getElementById(id);
const CAMERA_PIXELS = 1280;
const STAGES = ["decode", "preprocess", "queue", "network", "postprocess", "transfer"];

const state = { models: [], model: null, image: null, answer: null, hiddenClasses: new Set(), running: null, stream: null };

function fail(error) {
  $("error").hidden = !error;
  $("error").textContent = error ? error.message : "";
  if (error?.status === 401) {
    $("access").hidden = false;
    $("token").focus();
  }
}

async function loadModels() {
  try {
    state.models = await listModels();
  } catch (error) {
    return fail(error);
  }
  fail(null);
  $("access").hidden = true;
  $("model").replaceChildren(...state.models.map((model) => new Option(model.name, model.name)));
  chooseModel();
}

function chooseModel() {
  const model = state.models.find((m) => m.name === $("model").value);
  state.model = model;
  state.hiddenClasses.clear();
  $("about").textContent =
    `${model.input.width}x${model.input.height}, ${model.precision}, ${model.device.replace("ExecutionProvider", "")}, version ${model.version}`;
  $("score").min = model.score_threshold;
  $("classes").replaceChildren(...model.classes.map(classChip));
  showScore();
  if (state.image && !state.stream) send(state.image.blob, state.image.bitmap);
}

function classChip({ id, name }) {
  const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
  box.addEventListener("change", () => {
    if (box.checked) state.hiddenClasses.delete(id);
    else state.hiddenClasses.add(id);
    show();
  });
  const chip = document.createElement("label");
  chip.append(box, dot(id), name);
  return chip;
}

function dot(id) {
  const element = document.createElement("span");
  element.className = "dot";
  element.style.background = css(classColour(id));
  return element;
}

// All detections are in the answer: thresholds and classes work on it without asking again.
function shown() {
  const floor = Number($("score").value);
  return (state.answer?.detections ?? []).filter((d) => d.score > floor && !state.hiddenClasses.has(d.class_id));
}

function showScore() {
  $("score-value").textContent = Number($("score").value).toFixed(2);
  show();
}

function show(marked) {
  if (!state.image) return;
  const detections = shown();
  $("view").hidden = false;
  $("drop").hidden = true;
  draw($("canvas"), state.image.bitmap, detections, marked);
  if (!state.answer || marked !== undefined) return;
  const counts = new Map();
  for (const { label } of detections) counts.set(label, (counts.get(label) ?? 0) + 1);
  const words = [...counts].sort((a, b) => b[1] - a[1]).map(([name, count]) => `${count} ${name}`);
  $("summary").textContent = words.join(", ") || "Nothing above this score";
  $("canvas").setAttribute("aria-label", `The image with boxes: ${$("summary").textContent}`);
  $("results").hidden = false;
  $("list").replaceChildren(...(detections.length ? detections.map(listEntry) : [nothing()]));
  showTiming();
}

function nothing() {
  return Object.assign(document.createElement("li"), { className: "none", textContent: "None above this score." });
}

function listEntry(found) {
  const button = Object.assign(document.createElement("button"), { type: "button" });
  const name = Object.assign(document.createElement("span"), { textContent: found.label });
  const score = Object.assign(document.createElement("span"), { textContent: found.score.toFixed(2) });
  button.append(dot(found.class_id), name, score);
  button.title = found.box.map((v) => v.toFixed(1)).join(", ");
  for (const event of ["mouseenter", "focus"]) button.addEventListener(event, () => show(found));
  for (const event of ["mouseleave", "blur"]) button.addEventListener(event, () => show(null));
  const item = document.createElement("li");
  item.append(button);
  return item;
}

function showTiming() {
  const inside = Object.values(state.answer.timing_ms).reduce((sum, ms) => sum + ms, 0);
  const stages = { ...state.answer.timing_ms, transfer: Math.max(0, state.answer.total_ms - inside) };
  const colour = (stage) => `var(--stage-${STAGES.indexOf(stage) + 1})`;
  $("bar").replaceChildren(
    ...STAGES.map((stage) => {
      const part = document.createElement("span");
      part.style.cssText = `flex:${stages[stage]} 0 0;background:${colour(stage)}`;
      return part;
    }),
  );
  const rows = STAGES.flatMap((stage) => timingRow(stage, stages[stage], colour(stage)));
  $("timing").replaceChildren(...rows, ...timingRow("in all", state.answer.total_ms, "transparent", "total"));
}

function timingRow(name, ms, colour, className = "") {
  const key = document.createElement("i");
  key.style.background = colour;
  const term = Object.assign(document.createElement("dt"), { textContent: name, className });
  const value = Object.assign(document.createElement("dd"), { textContent: `${ms.toFixed(1)} ms`, className });
  return [key, term, value];
}

async function send(blob, bitmap) {
  state.running?.abort();
  const running = (state.running = new AbortController());
  document.body.classList.add("busy");
  try {
    const start = performance.now();
    const answer = await detect($("model").value, blob, running.signal);
    if (running.signal.aborted) return;
    answer.total_ms = performance.now() - start;
    // The server may read formats that the browser does not show; then there is nothing to draw on.
    bitmap ??= await createImageBitmap(blob).catch(() => {
      throw new Refused(0, `The server read the image, but this browser cannot show ${blob.type || "it"}.`);
    });
    Object.assign(state, { answer, image: { blob, bitmap } });
    fail(null);
    show();
  } catch (error) {
    if (!running.signal.aborted) fail(error);
  } finally {
    if (state.running === running) document.body.classList.remove("busy");
  }
}

function take(files) {
  const file = [...(files ?? [])][0];
  if (!file) return;
  stopCamera();
  send(file);
}

async function startCamera() {
  try {
    state.stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: CAMERA_PIXELS } } });
  } catch (error) {
    return fail(new Refused(0, `The camera cannot be used: ${error.message}`));
  }
  $("camera").setAttribute("aria-pressed", "true");
  $("camera").textContent = "Stop the camera";
  $("video").srcObject = state.stream;
  await $("video").play();
  // One frame at a time: the next is taken when this one is answered.
  while (state.stream) {
    const bitmap = await createImageBitmap($("video"));
    const frame = new OffscreenCanvas(bitmap.width, bitmap.height);
    frame.getContext("2d").drawImage(bitmap, 0, 0);
    await send(await frame.convertToBlob({ type: "image/jpeg", quality: 0.9 }), bitmap);
    await new Promise(requestAnimationFrame);
    if (!$("error").hidden) stopCamera();
  }
}

function stopCamera() {
  state.stream?.getTracks().forEach((track) => track.stop());
  state.stream = null;
  $("camera").setAttribute("aria-pressed", "false");
  $("camera").textContent = "Use the camera";
}

$("file").addEventListener("change", (event) => {
  take(event.target.files);
  event.target.value = ""; // the same file may be chosen again
});
$("choose").addEventListener("click", () => $("file").click());
$("camera").addEventListener("click", () => (state.stream ? stopCamera() : startCamera()));
$("model").addEventListener("change", chooseModel);
$("score").addEventListener("input", showScore);
$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken($("token").value);
  $("token").value = "";
  loadModels();
});
window.addEventListener("resize", () => show(null));
document.addEventListener("paste", (event) => take(event.clipboardData.files));
for (const event of ["dragenter", "dragover"]) {
  document.addEventListener(event, (e) => {
    e.preventDefault();
    document.body.classList.add("over");
  });
}
document.addEventListener("dragleave", (e) => {
  if (!e.relatedTarget) document.body.classList.remove("over");
});
document.addEventListener("drop", (e) => {
  e.preventDefault();
  document.body.classList.remove("over");
  take(e.dataTransfer.files);
});

async function watchHealth() {
  const ready = await isReady();
  $("health").textContent = ready ? "ready" : "not ready";
  $("health").className = ready ? "ready" : "down";
  setTimeout(watchHealth, 10_000);
}

loadModels();
watchHealth();
