// Decodes images and runs the model, away from the page. One message in, one out, in order.
import { Detector } from "./detector.js";

const LIBRARIES = {
  wasm: { script: "./ort/ort.wasm.bundle.min.js", binary: "./ort/ort-wasm-simd-threaded.wasm" },
  webgpu: { script: "./ort/ort.webgpu.bundle.min.js", binary: "./ort/ort-wasm-simd-threaded.asyncify.wasm" },
};
const MOST_THREADS = 4;
let detector = null;
let last = Promise.resolve();

self.addEventListener("message", ({ data }) => {
  last = last.then(() => answer(data));
});

async function answer({ id, open, image }) {
  try {
    self.postMessage({ id, value: open ? await openModel(open) : await detect(image) });
  } catch (error) {
    self.postMessage({ id, error: error.message });
  }
}

async function openModel(provider) {
  const model = JSON.parse(new TextDecoder().decode(await load("model.json")));
  const [bytes, golden] = await Promise.all([load("model.onnx"), model.golden ? load("golden.json") : null]);
  await requireSame(bytes, model);
  const { script, binary } = LIBRARIES[provider];
  const ort = await import(script).catch((error) => {
    throw new Error(`ONNX Runtime could not be loaded (${error.message}): is the folder ort complete?`);
  });
  // Several threads need memory that they share, which browsers give to pages with the headers COOP and COEP alone.
  const threads = self.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency || 1) : 1;
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = { wasm: new URL(binary, import.meta.url).href };
  const session = await ort.InferenceSession.create(bytes, { executionProviders: [provider] }).catch((error) => {
    throw new Error(`ONNX Runtime cannot run this model by ${provider}: ${error.message}`);
  });
  detector = new Detector(ort, session, model);
  const verdict = await detector.selfTest(golden && JSON.parse(new TextDecoder().decode(golden)), (png) =>
    decode(new Blob([png], { type: "image/png" })),
  );
  return { model, verdict, threads };
}

async function load(name) {
  const response = await fetch(name).catch((error) => {
    throw new Error(`${name} could not be loaded: ${error.message}`);
  });
  if (!response.ok) throw new Error(`${name} could not be loaded: the server answers ${response.status}.`);
  return new Uint8Array(await response.arrayBuffer());
}

// A folder that was copied in part, or a model that was put in place of another.
async function requireSame(bytes, { bytes: size, sha256 }) {
  const wrong = (got, expected) => {
    throw new Error(
      `model.onnx is not the file that this page was made for (${got}, expected ${expected}): copy the folder again, ` +
        "or make it anew with aweigh export --format web.",
    );
  };
  if (bytes.length !== size) wrong(`${bytes.length} bytes`, size);
  if (!crypto.subtle) return; // of plain http from another machine
  const digest = Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)));
  const found = digest.map((byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== sha256) wrong(`sha256 ${found.slice(0, 12)}`, sha256.slice(0, 12));
}

async function detect(image) {
  const start = performance.now();
  const { pixels, channels, width, height } = await decode(image);
  const decode_ms = performance.now() - start;
  const answered = await detector.detect(pixels, channels, width, height);
  return { ...answered, timing_ms: { decode: decode_ms, ...answered.timing_ms } };
}

// EXIF's orientation is applied and colour profiles are not, as by the runtime; transparency goes on white.
async function decode(image) {
  if (image instanceof Blob && !image.size) throw new Error("The file is empty (0 bytes).");
  const bitmap =
    image instanceof Blob
      ? await createImageBitmap(image, { colorSpaceConversion: "none" }).catch(() => {
          throw new Error(`${image.name || "The file"} is not an image that this browser can read, or it is damaged.`);
        })
      : image;
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error(`An image of ${width}x${height} pixels is too large for this browser.`);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  try {
    return { pixels: context.getImageData(0, 0, width, height).data, channels: 4, width, height };
  } catch {
    throw new Error(`An image of ${width}x${height} pixels is too large for this browser.`);
  }
}
