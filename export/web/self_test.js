// Are two sets of detections the same? The rule of aweigh's self-test: pairs one to one, counts of what differs.
const SAME_OBJECT_IOU = 0.5;

// ours, theirs: boxes (four numbers each), scores and labels, in pixels of the network input. ours is the trained model.
export function compare(ours, theirs, post, rule) {
  const floor = Math.max(lowestReported(ours.scores, post), lowestReported(theirs.scores, post));
  const borderline = Math.fround(floor + rule.score);
  const [ourCount, theirCount] = [ours.scores.length, theirs.scores.length];
  const candidates = [];
  for (let a = 0; a < ourCount; a++) {
    for (let b = 0; b < theirCount; b++) {
      const shift = distance(ours.boxes, 4 * a, theirs.boxes, 4 * b);
      const iou = overlap(ours.boxes, 4 * a, theirs.boxes, 4 * b);
      if (!(iou > SAME_OBJECT_IOU || shift <= rule.moved_px)) continue; // boxes without area have no IoU
      // The score counts as much as the overlap; the distance only orders equals.
      const score = Math.abs(Math.fround(ours.scores[a] - theirs.scores[b]));
      candidates.push({ a, b, shift, cost: 1 - iou + score + 1e-9 * shift, same: ours.labels[a] === theirs.labels[b] });
    }
  }
  candidates.sort((p, q) => p.cost - q.cost || p.a - q.a || p.b - q.b);
  const takenA = new Set();
  const takenB = new Set();
  const pairs = [];
  // Of the same label first, then what is left over.
  for (const pair of [...candidates.filter((c) => c.same), ...candidates.filter((c) => !c.same)]) {
    if (takenA.has(pair.a) || takenB.has(pair.b)) continue;
    takenA.add(pair.a);
    takenB.add(pair.b);
    pairs.push(pair);
  }
  const alone = (scores, taken) => Array.from(scores).filter((score, i) => !taken.has(i) && score > borderline).length;
  const moved = ({ shift }) => shift > rule.moved_px;
  const still = pairs.filter((pair) => pair.same && !moved(pair));
  return {
    compared: ourCount,
    lost: alone(ours.scores, takenA),
    new: alone(theirs.scores, takenB),
    relabelled: pairs.filter(({ same }) => !same).length,
    moved: pairs.filter(moved).length,
    max_moved_px: Math.max(0, ...pairs.map(({ shift }) => shift)),
    max_score_error: Math.max(0, ...still.map(({ a, b }) => Math.abs(theirs.scores[b] - ours.scores[a]))),
  };
}

// What the comparisons of all images say together. rule.share of the detections may differ.
export function verdictOf(matches, rule) {
  const sum = (key) => matches.reduce((total, match) => total + match[key], 0);
  const most = (key) => Math.max(0, ...matches.map((match) => match[key]));
  const [compared, lost, extra] = [sum("compared"), sum("lost"), sum("new")];
  const differing = lost + extra + sum("relabelled") + sum("moved");
  const allowed = Math.trunc(rule.share * Math.max(compared, compared - lost + extra));
  const [maxMoved, maxScore] = [most("max_moved_px"), most("max_score_error")];
  return {
    passed: differing <= allowed && maxScore <= rule.score,
    images: matches.length,
    detections: compared,
    lost,
    new: extra,
    relabelled: sum("relabelled"),
    moved: sum("moved"),
    allowed,
    max_box_error_px: maxMoved,
    max_score_error: maxScore,
  };
}

// A verdict in words.
export function describe(verdict, rule) {
  const { images, detections, lost, new: extra, relabelled, moved, allowed } = verdict;
  return (
    `${images} golden ${images === 1 ? "image" : "images"}, ${detections} detections: ${lost} lost, ${extra} new, ` +
    `${relabelled} relabelled, ${moved} moved by more than ${rule.moved_px} px, together at most ${allowed}; largest ` +
    `box error ${verdict.max_box_error_px.toPrecision(2)} px; largest score error ` +
    `${verdict.max_score_error.toExponential(1)}, at most ${rule.score}`
  );
}

// The score below which a detection of this image is not reported: the threshold, or the last of a full list.
function lowestReported(scores, post) {
  return scores.length === post.max_det ? Math.min(...scores) : post.score_threshold;
}

function distance(first, a, second, b) {
  let largest = 0;
  for (let i = 0; i < 4; i++) largest = Math.max(largest, Math.abs(Math.fround(first[a + i] - second[b + i])));
  return largest;
}

function overlap(first, a, second, b) {
  const side = (i) => Math.max(0, Math.min(first[a + i + 2], second[b + i + 2]) - Math.max(first[a + i], second[b + i]));
  const area = (boxes, at) => (boxes[at + 2] - boxes[at]) * (boxes[at + 3] - boxes[at + 1]);
  const common = side(0) * side(1);
  const whole = area(first, a) + area(second, b) - common;
  return whole > 0 ? common / whole : 0;
}
