// From the pixels of an image to the network input: the arithmetic of aweigh's runtime, to the last digit.
//
// The same file is used by the page and in Node. Its only interpolation is OpenCV's INTER_LINEAR for 8 bits, which works
// with whole numbers, so that every machine gets the same bytes.
const COEFFICIENT = 2048; // 1 in fixed point

// Python's round(): halves go to the even neighbour.
export function roundHalfEven(value) {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 ? low + 1 : low;
}

// Where an image lies in the network input, at its left and top. spec: "input" of the model's contract.
export function placement(width, height, spec) {
  if (width < 1 || height < 1) throw new Error(`An image of ${width}x${height} pixels; expected at least 1x1.`);
  const [first, second] = spec.size_hw;
  let inputHeight = first;
  let inputWidth = second;
  let newHeight = first;
  let newWidth = second;
  if (spec.resize === "letterbox") {
    const scale = Math.min(first / height, second / width);
    newHeight = Math.max(1, roundHalfEven(height * scale));
    newWidth = Math.max(1, roundHalfEven(width * scale));
  } else if (spec.resize === "keep-ratio") {
    const scale = Math.min(first / Math.min(height, width), second / Math.max(height, width));
    newHeight = Math.max(1, Math.trunc(height * scale + 0.5));
    newWidth = Math.max(1, Math.trunc(width * scale + 0.5));
    inputHeight = Math.ceil(newHeight / spec.pad_multiple) * spec.pad_multiple;
    inputWidth = Math.ceil(newWidth / spec.pad_multiple) * spec.pad_multiple;
  } else if (spec.resize !== "stretch") {
    throw new Error(`The model resizes by ${spec.resize}; this page knows letterbox, keep-ratio and stretch.`);
  }
  const scaleX = newWidth / width;
  const scaleY = newHeight / height;
  return { width, height, newWidth, newHeight, inputWidth, inputHeight, scaleX, scaleY };
}

// The network input as bytes, RGB, row by row. pixels: width x height of 3 (RGB) or 4 (RGBA, alpha is skipped) bytes.
export function prepare(pixels, channels, where, spec) {
  const { width, height, newWidth, newHeight, inputWidth, inputHeight } = where;
  const out = new Uint8Array(inputWidth * inputHeight * 3).fill(spec.pad_value);
  if (newWidth === width && newHeight === height) copy(pixels, channels, where, out);
  else if (width === 2 * newWidth && height === 2 * newHeight) halve(pixels, channels, where, out);
  else resize(pixels, channels, where, out);
  return out;
}

function copy(pixels, channels, { width, height, inputWidth }, out) {
  for (let y = 0; y < height; y++) {
    for (let x = 0, from = y * width * channels, to = y * inputWidth * 3; x < width; x++, from += channels, to += 3) {
      out[to] = pixels[from];
      out[to + 1] = pixels[from + 1];
      out[to + 2] = pixels[from + 2];
    }
  }
}

// Half the size exactly: OpenCV takes the mean of four pixels there.
function halve(pixels, channels, { width, newWidth, newHeight, inputWidth }, out) {
  const stride = width * channels;
  for (let y = 0; y < newHeight; y++) {
    for (let x = 0; x < newWidth; x++) {
      const from = 2 * y * stride + 2 * x * channels;
      const to = (y * inputWidth + x) * 3;
      for (let c = 0; c < 3; c++) {
        const at = from + c;
        out[to + c] = (pixels[at] + pixels[at + channels] + pixels[at + stride] + pixels[at + stride + channels] + 2) >> 2;
      }
    }
  }
}

function resize(pixels, channels, where, out) {
  const { width, height, newWidth, newHeight, inputWidth } = where;
  const columns = taps(newWidth, width);
  // At the left and right edge the outer pixel counts alone.
  for (const tap of columns) {
    const inside = Math.min(Math.max(tap.first, 0), width - 1);
    if (tap.first < 0 || tap.first >= width - 1) [tap.near, tap.far] = [COEFFICIENT, 0];
    [tap.first, tap.second] = [inside, Math.min(inside + 1, width - 1)];
  }
  const rows = new RowCache((y, row) => stretch(pixels, y * width * channels, channels, columns, row), newWidth * 3);
  taps(newHeight, height).forEach(({ first, near, far }, y) => {
    const inside = (row) => Math.min(Math.max(row, 0), height - 1);
    const upper = rows.get(inside(first));
    const lower = rows.get(inside(first + 1));
    const to = y * inputWidth * 3;
    for (let i = 0; i < newWidth * 3; i++) {
      out[to + i] = (((near * (upper[i] >> 4)) >> 16) + ((far * (lower[i] >> 4)) >> 16) + 2) >> 2;
    }
  });
}

// For each new pixel along one axis: the first of two old ones, which may lie outside, and the weights of both.
function taps(newSize, size) {
  const scale = 1 / (newSize / size);
  return Array.from({ length: newSize }, (_, i) => {
    const position = Math.fround((i + 0.5) * scale - 0.5);
    const first = Math.floor(position);
    const share = Math.fround(position - first);
    return { first, near: fixed(Math.fround(1 - share)), far: fixed(share) };
  });
}

const fixed = (share) => roundHalfEven(Math.fround(share * COEFFICIENT));

function stretch(pixels, start, channels, columns, row) {
  let to = 0;
  for (const { first, second, near, far } of columns) {
    const a = start + first * channels;
    const b = start + second * channels;
    row[to++] = pixels[a] * near + pixels[b] * far;
    row[to++] = pixels[a + 1] * near + pixels[b + 1] * far;
    row[to++] = pixels[a + 2] * near + pixels[b + 2] * far;
  }
}

// The two rows that were stretched last: new rows mostly lie between the same ones.
class RowCache {
  constructor(fill, length) {
    this.fill = fill;
    this.kept = [0, 1].map(() => ({ y: -1, row: new Int32Array(length) }));
  }

  get(y) {
    let found = this.kept.find((entry) => entry.y === y);
    if (!found) {
      found = this.kept[0];
      found.y = y;
      this.fill(y, found.row);
    }
    this.kept = [...this.kept.filter((entry) => entry !== found), found]; // the other one is overwritten next
    return found.row;
  }
}

// Boxes [x1, y1, x2, y2] of the network input in pixels of the image, clipped to it, in 32 bits as the runtime has them.
export function unmap(box, { width, height, scaleX, scaleY }) {
  const clipped = (value, most) => Math.fround(Math.min(Math.max(value, 0), most));
  return [
    clipped(box[0] / scaleX, width),
    clipped(box[1] / scaleY, height),
    clipped(box[2] / scaleX, width),
    clipped(box[3] / scaleY, height),
  ];
}

const LEAST_SIDE_PX = Math.fround(0.01);

// Whether a box in pixels of the image has an area; others lie in the padding.
export function hasArea([x1, y1, x2, y2]) {
  return Math.fround(x2 - x1) >= LEAST_SIDE_PX && Math.fround(y2 - y1) >= LEAST_SIDE_PX;
}
