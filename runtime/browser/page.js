// What the pages that show a detector share: where images come from, thresholds, classes, the list, times.
import { draw } from "./drawing.js";

const $ = (id) => document.getElementById(id);
const CAMERA_PIXELS = 1280;
const WITHOUT_BEST = 0.3; // the threshold of a class that has no best one

// detect(image, signal): asks for the detections of image.blob, a file, or of image.bitmap, a frame of the camera.
// stages: names in timing_ms of its answers; what is left of the time is shown as the transfer.
// refused(error): called with what detect threw.
export function createPage({ detect, stages, refused = () => {} }) {
  const allStages = [...stages, "transfer"];
  const state = { image: null, answer: null, hiddenClasses: new Set(), classes: new Map(), running: null, stream: null };

  function fail(error) {
    $("error").hidden = !error;
    $("error").textContent = error ? error.message : "";
    if (error) refused(error);
  }

  // classes: of id, name, color and best_score, which is null where there is none.
  function setModel({ classes, score_threshold: floor }, about) {
    state.classes = new Map(classes.map((found) => [found.id, found]));
    state.hiddenClasses.clear();
    $("about").textContent = about;
    $("score").min = floor;
    const hasBest = classes.some(({ best_score: best }) => best !== null);
    $("best-field").hidden = !hasBest;
    $("best").checked = hasBest;
    $("classes").replaceChildren(...classes.map(classChip));
    showScore();
  }

  // Asks again for the image that is shown, as of another model.
  function again() {
    if (state.image && !state.stream) send(state.image);
  }

  const colourOf = (id) => state.classes.get(id).color;

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
    element.style.background = colourOf(id);
    return element;
  }

  // All detections are in the answer: thresholds and classes work on it without asking again.
  function shown() {
    return (state.answer?.detections ?? []).filter(
      (d) => d.score > floorOf(d.class_id) && !state.hiddenClasses.has(d.class_id),
    );
  }

  function floorOf(id) {
    return $("best").checked ? state.classes.get(id).best_score ?? WITHOUT_BEST : Number($("score").value);
  }

  function showScore() {
    $("score-value").textContent = $("best").checked ? "best" : Number($("score").value).toFixed(2);
    show();
  }

  function show(marked) {
    if (!state.image) return;
    const detections = shown();
    $("view").hidden = false;
    $("drop").hidden = true;
    draw($("canvas"), state.image.bitmap, detections, colourOf, marked);
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
    const times = { ...state.answer.timing_ms, transfer: Math.max(0, state.answer.total_ms - inside) };
    const colour = (stage) => `var(--stage-${allStages.indexOf(stage) + 1})`;
    $("bar").replaceChildren(
      ...allStages.map((stage) => {
        const part = document.createElement("span");
        part.style.cssText = `flex:${times[stage]} 0 0;background:${colour(stage)}`;
        return part;
      }),
    );
    const rows = allStages.flatMap((stage) => timingRow(stage, times[stage], colour(stage)));
    $("timing").replaceChildren(...rows, ...timingRow("in all", state.answer.total_ms, "transparent", "total"));
  }

  function timingRow(name, ms, colour, className = "") {
    const term = Object.assign(document.createElement("dt"), { className });
    const key = Object.assign(document.createElement("i"), { ariaHidden: "true" });
    key.style.background = colour;
    term.append(key, name);
    return [term, Object.assign(document.createElement("dd"), { textContent: `${ms.toFixed(1)} ms`, className })];
  }

  async function send({ blob, bitmap }) {
    state.running?.abort();
    const running = (state.running = new AbortController());
    document.body.classList.add("busy");
    try {
      const start = performance.now();
      const answer = await detect({ blob, bitmap }, running.signal);
      if (running.signal.aborted) return;
      answer.total_ms = performance.now() - start;
      // More formats may have been read than the browser shows; then there is nothing to draw on.
      bitmap ??= await createImageBitmap(blob).catch(() => {
        throw new Error(`The image was read, but this browser cannot show ${blob.type || "it"}.`);
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
    send({ blob: file });
  }

  async function startCamera() {
    try {
      // Without https, browsers offer a camera to pages of this machine alone.
      if (!navigator.mediaDevices) throw new Error("this page needs https, or the address localhost");
      state.stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: CAMERA_PIXELS } } });
    } catch (error) {
      return fail(new Error(`The camera cannot be used: ${error.message}`));
    }
    fail(null);
    $("camera").setAttribute("aria-pressed", "true");
    $("camera").textContent = "Stop the camera";
    $("video").srcObject = state.stream;
    await $("video").play();
    // One frame at a time: the next is taken when this one is answered.
    while (state.stream) {
      await send({ bitmap: await createImageBitmap($("video")) });
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
  $("score").addEventListener("input", () => {
    $("best").checked = false;
    showScore();
  });
  $("best").addEventListener("change", showScore);
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
  return { fail, setModel, again };
}

// What the header says of the state: "ready", "down" (in red), or a word in grey.
export function showHealth(text, state = "") {
  $("health").textContent = text;
  $("health").className = state;
}
