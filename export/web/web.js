// The page without a server: what computes, whether it computes what the trained model found, and what is shown.
import { createPage, showHealth } from "./page.js";
import { describe } from "./self_test.js";

const $ = (id) => document.getElementById(id);

// The detector computes in a worker of its own, so that the page answers meanwhile.
class Engine {
  constructor(provider) {
    this.waiting = new Map();
    this.worker = new Worker("worker.js", { type: "module" });
    this.worker.addEventListener("message", ({ data }) => {
      const { resolve, reject } = this.waiting.get(data.id);
      this.waiting.delete(data.id);
      if (data.error) reject(new Error(data.error));
      else resolve(data.value);
    });
    this.worker.addEventListener("error", (event) => {
      event.preventDefault();
      for (const { reject } of this.waiting.values()) {
        reject(new Error(`The worker failed: ${event.message || "worker.js could not be loaded"}.`));
      }
      this.waiting.clear();
    });
    this.opened = this.ask({ open: provider });
  }

  ask(message) {
    const id = crypto.getRandomValues(new Uint32Array(1))[0];
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, ...message });
    });
  }

  close() {
    this.worker.terminate();
  }
}

let engine = null;

const page = createPage({
  stages: ["decode", "preprocess", "network", "postprocess"],
  detect: async (image) => {
    if (!engine) throw new Error("No model is open: see the message above.");
    const asked = engine;
    await asked.opened;
    return asked.ask({ image: image.blob ?? image.bitmap });
  },
});

function showVerdict(state, title, text) {
  $("verdict").className = `verdict ${state}`;
  $("verdict-title").textContent = title;
  $("verdict-text").textContent = text;
}

async function start(provider) {
  engine?.close();
  const started = (engine = new Engine(provider));
  showHealth("loading the model");
  showVerdict("", "Comparing with the trained model", "The golden images of the file are being run.");
  let opened;
  try {
    opened = await started.opened;
  } catch (error) {
    if (engine !== started) return;
    engine.close();
    engine = null;
    showHealth("not ready", "down");
    showVerdict("failed", "Not compared", "The model could not be run.");
    return page.fail(error);
  }
  if (engine !== started) return;
  const { model, verdict, threads } = opened;
  const { height, width } = model.input;
  const where = provider === "webgpu" ? "WebGPU" : `WebAssembly, ${threads} ${threads === 1 ? "thread" : "threads"}`;
  page.fail(null);
  page.setModel(model, `${width}x${height}, ${model.precision}, ${where}, version ${model.version}`);
  showHealth("ready", "ready");
  if (!verdict.images) {
    showVerdict("", "Not compared", "The file holds no golden images: it was exported with --golden 0.");
  } else if (verdict.passed) {
    showVerdict("passed", "This browser computes what the trained model found", describe(verdict, model.rule));
  } else {
    showVerdict("failed", "This browser computes otherwise than the trained model", describe(verdict, model.rule));
  }
  page.again();
}

$("webgpu").addEventListener("change", () => start($("webgpu").checked ? "webgpu" : "wasm"));

async function offerWebGpu() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  $("webgpu-field").hidden = !adapter;
}

offerWebGpu();
start("wasm");
