// One opened model file: pixels in, detections out. Used by the page's worker and in Node; both give their ONNX Runtime.
import { hasArea, placement, prepare, unmap } from "./preprocess.js";
import { compare, verdictOf } from "./self_test.js";

const INPUT = "images";

export class Detector {
  // model: what model.json holds. session: of ONNX Runtime, for model.onnx.
  constructor(ort, session, model) {
    this.ort = ort;
    this.session = session;
    this.model = model;
    this.spec = model.spec;
  }

  // pixels: width x height of 3 or 4 bytes, RGB or RGBA. Times are milliseconds.
  async detect(pixels, channels, width, height) {
    const start = performance.now();
    const where = placement(width, height, this.spec.input);
    const bytes = prepare(pixels, channels, where, this.spec.input);
    const prepared = performance.now();
    const rows = await this.infer(bytes, where.inputWidth, where.inputHeight);
    const computed = performance.now();
    const detections = [];
    for (const at of best(rows)) {
      const box = unmap(rows.boxes.subarray(4 * at, 4 * at + 4), where);
      if (!hasArea(box)) continue;
      const { id, name } = this.spec.categories[rows.labels[at]];
      detections.push({ class_id: id, label: name, score: rows.scores[at], box });
    }
    const timing_ms = {
      preprocess: prepared - start,
      network: computed - prepared,
      postprocess: performance.now() - computed,
    };
    return { width, height, detections, timing_ms };
  }

  // The rows of one network input: boxes, scores and labels of those that were found.
  async infer(bytes, width, height) {
    const [smallest] = this.spec.batch;
    const batch = new Uint8Array(smallest * bytes.length).fill(this.spec.input.pad_value);
    batch.set(bytes); // rows after the first are filled up, and not looked at
    const input = new this.ort.Tensor("uint8", batch, [smallest, height, width, 3]);
    const outputs = await this.session.run({ [INPUT]: input });
    try {
      if (outputs.converged && !outputs.converged.data[0]) {
        throw new Error("The matrix form of NMS did not settle for this image: export the model with --nms onnx.");
      }
      const count = Number(outputs.num_dets.data[0]);
      return {
        boxes: outputs.boxes.data.slice(0, 4 * count),
        scores: outputs.scores.data.slice(0, count),
        labels: Array.from(outputs.labels.data.slice(0, count), Number),
      };
    } finally {
      input.dispose();
      for (const output of Object.values(outputs)) output.dispose();
    }
  }

  // Runs the file's golden images. decode: the bytes of a PNG to {pixels, channels, width, height}.
  async selfTest(golden, decode) {
    const matches = [];
    for (const { name, png, outputs } of golden?.pictures ?? []) {
      const { pixels, channels, width, height } = await decode(bytesOf(png));
      // Golden images have the size of the network input already.
      const where = { width, height, newWidth: width, newHeight: height, inputWidth: width, inputHeight: height };
      const rows = await this.infer(prepare(pixels, channels, where, this.spec.input), width, height);
      matches.push({ name, ...compare(expectedRows(outputs), rows, this.spec.post, this.model.rule) });
    }
    return verdictOf(matches, this.model.rule);
  }
}

function expectedRows({ boxes, scores, labels }) {
  return { boxes: Float32Array.from(boxes.flat()), scores: Float32Array.from(scores), labels };
}

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

// Positions by falling score; equal ones in the order of the graph.
function best({ scores }) {
  return Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a] || a - b);
}
