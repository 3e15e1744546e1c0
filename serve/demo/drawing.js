// Boxes and names on a canvas that has the image's own size: a box of the answer is a box of the canvas.

const GOLDEN_RATIO = 0.618033988749895;

// The colours of aweigh predict: the same for a class everywhere, far apart for neighbouring ids.
export function classColour(id) {
  const hue = ((id * GOLDEN_RATIO) % 1) * 6;
  const value = [1, 0.8, 0.9][id % 3];
  const channel = (n) => {
    const k = (n + hue) % 6;
    return Math.round(255 * value * (1 - 0.85 * Math.max(0, Math.min(k, 4 - k, 1))));
  };
  return [channel(5), channel(3), channel(1)];
}

export const css = (rgb) => `rgb(${rgb.join(" ")})`;

export function draw(canvas, image, detections, marked) {
  if (canvas.width !== image.width || canvas.height !== image.height) {
    canvas.width = image.width;
    canvas.height = image.height;
  }
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  // As large as the canvas is shown, whatever the image's own size.
  const ratio = canvas.width / (canvas.clientWidth || canvas.width);
  const line = 2 * Math.max(1, Math.round(ratio));
  const size = Math.max(6, 13 * ratio);
  context.font = `600 ${size}px system-ui, "DejaVu Sans", sans-serif`;
  context.textBaseline = "middle";
  for (const found of [...detections].reverse()) {
    const [x1, y1, x2, y2] = found.box.map(Math.round); // an even line on whole pixels is sharp
    context.globalAlpha = marked && marked !== found ? 0.35 : 1;
    context.lineWidth = marked === found ? 2 * line : line;
    context.strokeStyle = css(classColour(found.class_id));
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  }
  for (const found of marked ? [marked] : [...detections].reverse()) label(context, found, size);
  context.globalAlpha = 1;
}

function label(context, found, size) {
  const text = `${found.label} ${found.score.toFixed(2)}`;
  const colour = classColour(found.class_id);
  const width = context.measureText(text).width + size * 0.7;
  const height = size * 1.45;
  const { width: right, height: bottom } = context.canvas;
  const x = Math.max(0, Math.min(found.box[0], right - width));
  const above = found.box[1] - height;
  // Above the box; where there is no room, inside at its top.
  const y = Math.min(above >= 0 ? above : Math.max(0, found.box[1]), bottom - height);
  context.fillStyle = css(colour);
  context.fillRect(x, y, width, height);
  const [red, green, blue] = colour;
  context.fillStyle = 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#000" : "#fff";
  context.fillText(text, x + size * 0.35, y + height / 2);
}
