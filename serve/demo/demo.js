// The page of a server: which model is asked, and whether the server is there.
import { createPage, showHealth } from "/static/page/page.js";
import { detect, isReady, listModels, setToken } from "./api.js";

const $ = (id) => document.getElementById(id);
let models = [];

const page = createPage({
  stages: ["decode", "preprocess", "queue", "network", "postprocess"],
  detect: async ({ blob, bitmap }, signal) => detect($("model").value, blob ?? (await jpegOf(bitmap)), signal),
  refused: (error) => {
    if (error.status !== 401) return;
    $("access").hidden = false;
    $("token").focus();
  },
});

async function jpegOf(bitmap) {
  const frame = new OffscreenCanvas(bitmap.width, bitmap.height);
  frame.getContext("2d").drawImage(bitmap, 0, 0);
  return frame.convertToBlob({ type: "image/jpeg", quality: 0.9 });
}

async function loadModels() {
  try {
    models = await listModels();
  } catch (error) {
    return page.fail(error);
  }
  page.fail(null);
  $("access").hidden = true;
  $("model").replaceChildren(...models.map((model) => new Option(model.name, model.name)));
  chooseModel();
}

function chooseModel() {
  const model = models.find((m) => m.name === $("model").value);
  const { input, precision, device, version } = model;
  page.setModel(
    model,
    `${input.width}x${input.height}, ${precision}, ${device.replace("ExecutionProvider", "")}, version ${version}`,
  );
  page.again();
}

$("model").addEventListener("change", chooseModel);
$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken($("token").value);
  $("token").value = "";
  loadModels();
});

async function watchHealth() {
  const ready = await isReady();
  showHealth(ready ? "ready" : "not ready", ready ? "ready" : "down");
  setTimeout(watchHealth, 10_000);
}

loadModels();
watchHealth();
