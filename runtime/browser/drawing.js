// Boxes and names on a canvas that has the image's own size: a box of the answer is a box of the canvas.

// colour: what the server gives as the colour of a class id; aweigh predict draws with the same ones.
export function draw(canvas, image, detections, colour, marked) {
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
    context.strokeStyle = colour(found.class_id);
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  }
  context.globalAlpha = 1;
  const taken = []; // plates drawn so far: left, top, right, bottom
  for (const found of marked ? [marked] : detections) label(context, found, colour(found.class_id), size, taken);
}

// A label that finds no free place at its box is left away, the last one's first; the colour still shows the class.
function label(context, found, colour, size, taken) {
  const text = `${found.label} ${found.score.toFixed(2)}`;
  const width = context.measureText(text).width + size * 0.7;
  const height = size * 1.45;
  const place = freePlace(context.canvas, found.box, width, height, size * 0.2, taken);
  if (!place) return;
  const [x, y] = place;
  taken.push([x, y, x + width, y + height]);
  context.fillStyle = colour;
  context.fillRect(x, y, width, height);
  context.fillStyle = isLight(colour) ? "#000" : "#fff";
  context.fillText(text, x + size * 0.35, y + height / 2);
}

// Above or below the box, else at a corner inside it, wherever no other label is covered; as aweigh predict does.
function freePlace({ width: right, height: bottom }, [x1, y1, x2, y2], width, height, gap, taken) {
  if (width > right || height > bottom) return null;
  const inside = [Math.max(y1, 0), Math.min(y2, bottom) - height];
  for (const y of [y1 - height, y2, ...inside]) {
    for (const flush of [x1, x2 - width]) {
      const x = Math.min(Math.max(flush, 0), right - width);
      const covers = taken.some(
        ([l, t, r, b]) => x + gap < r && l + gap < x + width && y + gap < b && t + gap < y + height,
      );
      if (y >= 0 && y <= bottom - height && !covers) return [x, y];
    }
  }
  return null;
}

function isLight(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140;
}
