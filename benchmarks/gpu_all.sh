#!/usr/bin/env bash
# All measurements that need an NVIDIA GPU, in parts of at most eight minutes each.
#
#   benchmarks/gpu_all.sh PART...            parts run one after another; without one, the list of them
#
# Needs: a CUDA device; an environment in which aweigh[train,export,gpu] and pytest are installed, whose python is first
#   in PATH or named by PYTHON (a CUDA build of torch brings Triton along; onnxruntime-gpu needs the same CUDA's
#   libraries). Installs nothing, and fetches nothing.
# Reads: AWEIGH_TEST_DATA, for the tests' reference numbers and the pictures of datasets/bccd; without it the tests that
#   need it are skipped, and pictures are generated.
# Writes: reports, and a log of each part, to results/ (RESULTS names another folder); exported files lie in
#   results/models and are used again.
# Exit code: 0; 1 where a part failed or took longer than eight minutes (the others have run); 2 an unknown part;
#   3 no CUDA device. A missed limit (a loss above 5 % of a step, PAA's step above 1.1 of FCOS's) is a failure of its part.
# Engines are built only where a TensorRT is installed, and by it alone.
set -u -o pipefail

cd "$(dirname "$0")/.." || exit 3
PYTHON=${PYTHON:-python}
RESULTS=${RESULTS:-results}
MODELS=$RESULTS/models
AWEIGH=("$PYTHON" -c "import sys; from aweigh.runtime.cli.main import main; sys.exit(main())")
DEVICE=cuda
SECONDS_A_PART=${SECONDS_A_PART:-480}
PARTS=(tests losses compile train-1 train-2 train-3 pixels files speed decoding compare options streams post papers engines)

usage() {
    cat <<'END'
usage: benchmarks/gpu_all.sh PART...
  tests     tests with the marker gpu: kernels against their plain forms, launches and waits counted, a step's waits
  losses    every loss against a plain focal loss, 12, 100 and 300 objects
  compile   every loss as torch.compile makes it, next to the loss as it is
  train-1   share of the loss in a step: fcos, paa (r50, 800x1344, batch 16, bf16); PAA at most 1.1 of FCOS
  train-2   the same: dw, o2f
  train-3   the same: autoassign, ala
  pixels    training images resized and coloured by the host's processes, and by the GPU (--augment-on)
  files     export what the next parts take: r50 at 800x1344, with NMS and without, fp32 and fp16 (no GPU is used)
  speed     ONNX Runtime on the GPU: latency and pictures per second at batch 1 and 8
  decoding  pictures per second with JPEGs decoded by the host, and by the GPU; skipped without nvImageCodec
  compare   NMS-free against NMS, and fp16 against fp32, in turns
  options   ONNX Runtime: bound buffers, CUDA graph, channels last, cuDNN's searches, each in turns with none
  streams   ONNX Runtime: one to eight callers at once, plain and with bound buffers
  post      what post-processing costs in the graph: NMS, its matrix form, none; fcos and dw
  papers    forward and NMS time of the papers' networks, exported and eager
  engines   TensorRT: engines of the same files, built and timed; skipped where TensorRT is not installed
END
}

# A command of a part: until the time of the part is up; what it says goes to its log too.
part() {
    local name=$1
    shift
    local left=$((deadline - SECONDS))
    if [ "$left" -le 0 ]; then
        echo "gpu_all.sh: $name: no time left for: $*" >&2
        return 1
    fi
    echo "+ $*" | tee -a "$RESULTS/$name.log"
    timeout --kill-after=10 "$left" "$@" 2>&1 | tee -a "$RESULTS/$name.log"
}

installed() {
    "$PYTHON" -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('$1') is None)"
}

tests() {
    part tests "$PYTHON" -m pytest -q -m gpu tests/train/kernels tests/train/methods tests/train/loop \
        tests/train/process tests/train/data/loading tests/runtime/backends tests/runtime/device_images \
        tests/export/test_ort_options.py
}

losses() {
    part losses "$PYTHON" benchmarks/losses.py --device "$DEVICE" --rounds 50 --out "$RESULTS/losses_gpu.json"
}

train_speed() {
    local name=$1 methods=$2
    shift 2
    part "$name" "$PYTHON" benchmarks/train_speed.py --device "$DEVICE" --model r50 --imgsz 800x1344 --batch 16 \
        --methods "$methods" --rounds 12 --limit-loss 0.05 "$@" --out "$RESULTS/train_speed_gpu_$name.json"
}

pixels() {
    part pixels "$PYTHON" benchmarks/train_speed.py --device "$DEVICE" --model r50 --imgsz 800x1344 --batch 16 \
        --methods fcos --rounds 24 --augment-on host,device --out "$RESULTS/train_speed_gpu_pixels.json"
}

compile() {
    part compile "$PYTHON" benchmarks/losses.py --device "$DEVICE" --compile --rounds 20 \
        --out "$RESULTS/losses_compiled_gpu.json"
}

files() {
    local method post precision
    mkdir -p "$MODELS"
    for method in o2f fcos; do
        [ -e "$MODELS/$method.pt" ] || part files env PYTHONPATH=benchmarks "$PYTHON" -c \
            "from pathlib import Path
from support.untrained import write_checkpoint
write_checkpoint(Path('$MODELS/$method.pt'), 'r50', '$method', (800, 1344))" || return 1
        post=nms
        [ "$method" = o2f ] && post=none
        for precision in fp32 fp16; do
            [ -e "$MODELS/$method-$precision.onnx" ] || part files "${AWEIGH[@]}" export \
                --model "$MODELS/$method.pt" --post "$post" --precision "$precision" --batch 1-8 --no-verify --golden 0 \
                --out "$MODELS/$method-$precision.onnx" || return 1
        done
    done
}

speed() {
    local file models=() source=()
    files || return 1
    for file in o2f-fp32 o2f-fp16 fcos-fp32 fcos-fp16; do
        models+=(--model "$MODELS/$file.onnx")
    done
    part speed "$PYTHON" benchmarks/latency.py "${models[@]}" --device "$DEVICE" --batch 1,8 --concurrency 1 \
        --seconds 8 --out "$RESULTS/latency_gpu.json" || return 1
    [ -d "${AWEIGH_TEST_DATA:-}/datasets/bccd" ] || return 0
    source=(--source "$AWEIGH_TEST_DATA/datasets/bccd")
    part speed "$PYTHON" benchmarks/throughput.py --model "$MODELS/o2f-fp16.onnx" --device "$DEVICE" "${source[@]}" \
        --rounds 10 --out "$RESULTS/throughput_gpu.json"
}

decoding() {
    if ! installed nvidia || ! installed nvidia.nvimgcodec; then
        echo "decoding: nvImageCodec is not installed here: skipped"
        return 0
    fi
    [ -d "${AWEIGH_TEST_DATA:-}/datasets/bccd" ] || { echo "decoding: needs AWEIGH_TEST_DATA: skipped"; return 0; }
    files || return 1
    part decoding "$PYTHON" benchmarks/throughput.py --model "$MODELS/o2f-fp16.onnx" \
        --model "$MODELS/o2f-fp16.onnx@decode_on=device" --device "$DEVICE" --source "$AWEIGH_TEST_DATA/datasets/bccd" \
        --work folder --rounds 10 --out "$RESULTS/decoding_gpu.json"
}

compare() {
    files || return 1
    local batch
    for batch in 1 8; do
        part compare "$PYTHON" benchmarks/compare.py --device "$DEVICE" --batch "$batch" --rounds 30 \
            --a "$MODELS/fcos-fp16.onnx" --b "$MODELS/o2f-fp16.onnx" --b "$MODELS/fcos-fp32.onnx" \
            --out "$RESULTS/compare_gpu_batch$batch.json" || return 1
    done
}

options() {
    files || return 1
    local batch words status=0
    # Each by itself: what one build of ONNX Runtime lacks must not hide the others.
    for words in binding graph nhwc heuristic default graph+nhwc+heuristic; do
        for batch in 1 8; do
            part options "$PYTHON" benchmarks/compare.py --device "$DEVICE" --batch "$batch" --rounds 30 \
                --a "$MODELS/o2f-fp16.onnx" --b "$MODELS/o2f-fp16.onnx@ort_options=$words" \
                --out "$RESULTS/options_gpu_${words//+/-}_batch$batch.json" || status=1
        done
    done
    return $status
}

streams() {
    files || return 1
    part streams "$PYTHON" benchmarks/latency.py --model "$MODELS/o2f-fp16.onnx" \
        --model "$MODELS/o2f-fp16.onnx@ort_options=binding" --device "$DEVICE" --batch 1 --concurrency 1,2,4,8 \
        --seconds 6 --out "$RESULTS/streams_gpu.json"
}

post() {
    local method
    for method in fcos dw; do
        part post "$PYTHON" benchmarks/postprocess_cost.py --device "$DEVICE" --method "$method" --batches 1,8 \
            --rounds 30 --out "$RESULTS/postprocess_gpu_$method.json" || return 1
    done
}

papers() {
    part papers "$PYTHON" benchmarks/papers_tables.py --device "$DEVICE" --architectures r50 --seconds 5 \
        --models "$MODELS/papers" --out "$RESULTS/papers_gpu.json"
}

engines() {
    local file models=()
    if ! installed tensorrt; then
        echo "engines: TensorRT is not installed here: skipped"
        return 0
    fi
    files || return 1
    for file in o2f-fp16 fcos-fp16; do
        [ -e "$MODELS/$file.engine" ] || part engines "${AWEIGH[@]}" export \
            --model "$MODELS/$file.onnx" --format engine --opt-batch 1,8 --no-verify \
            --timing-cache "$MODELS/timing.cache" --out "$MODELS/$file.engine" || return 1
        models+=(--model "$MODELS/$file.engine")
    done
    [ -e "$MODELS/o2f-bf16.engine" ] || part engines "${AWEIGH[@]}" export --model "$MODELS/o2f.pt" --format engine \
        --precision bf16 --post none --batch 1-8 --opt-batch 1,8 --no-verify --golden 0 \
        --timing-cache "$MODELS/timing.cache" --out "$MODELS/o2f-bf16.engine" || return 1
    models+=(--model "$MODELS/o2f-bf16.engine")
    part engines "$PYTHON" benchmarks/latency.py "${models[@]}" --batch 1,8 --seconds 8 --out "$RESULTS/engines_gpu.json"
}

if [ $# -eq 0 ]; then
    usage
    exit 2
fi
for name in "$@"; do
    [[ " ${PARTS[*]} " == *" $name "* ]] || {
        echo "gpu_all.sh: no part $name; expected of: ${PARTS[*]}" >&2
        exit 2
    }
done
mkdir -p "$RESULTS"
failed=()
for name in "$@"; do
    if [ "$name" != files ] && ! "$PYTHON" -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then
        echo "gpu_all.sh: $name: torch sees no CUDA device" >&2
        exit 3
    fi
    deadline=$((SECONDS + SECONDS_A_PART))
    : >"$RESULTS/$name.log"
    case $name in
    train-1) train_speed train-1 fcos,paa --limit-over fcos=1.1 ;;
    train-2) train_speed train-2 dw,o2f ;;
    train-3) train_speed train-3 autoassign,ala ;;
    *) "$name" ;;
    esac || failed+=("$name")
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "gpu_all.sh: failed: ${failed[*]}" >&2
    exit 1
fi
