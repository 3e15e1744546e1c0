// Node: detections of images as JSON, a line for each. npm ci --ignore-scripts; node detect.mjs IMAGE...
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { Detector } from "./detector.js";
import { describe } from "./self_test.js";

const USAGE = "node detect.mjs [--conf X] [--threads N] [--check] [--no-self-test] IMAGE...";
const [CHECK_FAILED, BAD_INPUT, CANNOT_RUN] = [1, 2, 3];

class Stop extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

async function main() {
  const { values, positionals } = flags();
  const { default: ort } = await needed("onnxruntime-node");
  const { default: sharp } = await needed("sharp");
  const decode = async (source, name = "golden image") => {
    try {
      // As the runtime: EXIF's orientation is applied, profiles are not, transparency goes on white.
      const image = sharp(source, { ignoreIcc: true }).autoOrient().flatten({ background: "#fff" }).toColourspace("srgb");
      const { data, info } = await image.raw().toBuffer({ resolveWithObject: true });
      return { pixels: data, channels: info.channels, width: info.width, height: info.height };
    } catch (error) {
      throw new Stop(BAD_INPUT, `${name}: not an image, or damaged (${error.message})`);
    }
  };
  const detector = await open(ort, Number(values.threads));
  if (!values["no-self-test"]) {
    const golden = detector.model.golden ? JSON.parse(await fileHere("golden.json")) : null;
    const verdict = await detector.selfTest(golden, decode);
    if (values.check) console.log(JSON.stringify(verdict));
    if (!verdict.passed) {
      throw new Stop(CHECK_FAILED, `the self-test failed: ${describe(verdict, detector.model.rule)}`);
    }
  }
  for (const name of positionals) {
    const start = performance.now();
    const source = await readFile(name).catch((error) => {
      throw new Stop(BAD_INPUT, `${name}: cannot be read (${error.code})`);
    });
    const { pixels, channels, width, height } = await decode(source, name);
    const decode_ms = performance.now() - start;
    const answer = await detector.detect(pixels, channels, width, height);
    const detections = answer.detections.filter(({ score }) => values.conf === undefined || score > Number(values.conf));
    console.log(
      JSON.stringify({ image: name, width, height, detections, timing_ms: { decode: decode_ms, ...answer.timing_ms } }),
    );
  }
}

function flags() {
  let parsed;
  try {
    parsed = parseArgs({
      allowPositionals: true,
      options: {
        conf: { type: "string" },
        threads: { type: "string", default: "0" },
        check: { type: "boolean" },
        "no-self-test": { type: "boolean" },
      },
    });
  } catch (error) {
    throw new Stop(BAD_INPUT, `${error.message}\n${USAGE}`);
  }
  const { conf, threads, check } = parsed.values;
  if (conf !== undefined && !(Number(conf) >= 0 && Number(conf) <= 1)) {
    throw new Stop(BAD_INPUT, `--conf ${conf}: expected a number from 0 to 1`);
  }
  if (!Number.isInteger(Number(threads)) || Number(threads) < 0) {
    throw new Stop(BAD_INPUT, `--threads ${threads}: expected a number of threads, or 0 for all cores`);
  }
  if (!parsed.positionals.length && !check) throw new Stop(BAD_INPUT, USAGE);
  return parsed;
}

async function needed(name) {
  try {
    return await import(name);
  } catch (error) {
    throw new Stop(CANNOT_RUN, `${name} cannot be loaded (${error.code ?? error.message}); npm ci --ignore-scripts`);
  }
}

const fileHere = (name) => readFile(new URL(name, import.meta.url));

async function open(ort, threads) {
  const model = JSON.parse(await fileHere("model.json"));
  const bytes = await fileHere("model.onnx");
  if (createHash("sha256").update(bytes).digest("hex") !== model.sha256) {
    throw new Stop(BAD_INPUT, "model.onnx is not the file that model.json describes; aweigh export --format web again");
  }
  const session = await ort.InferenceSession.create(bytes, { intraOpNumThreads: threads });
  return new Detector(ort, session, model);
}

main().catch((error) => {
  console.error(`error: ${error.message}`);
  process.exitCode = error instanceof Stop ? error.code : CHECK_FAILED;
});
