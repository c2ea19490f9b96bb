#!/bin/bash
# Several nodes without a scheduler: run this on each, the first with NODE=0, all with the same HEAD.
# HEAD=node-a NODES=2 NODE=0 bash examples/cluster/torchrun.sh cifar10-saauxbn data=cifar10:/data out=/shared/a
set -euo pipefail
torchrun --nnodes "${NODES:-1}" --node_rank "${NODE:-0}" --nproc_per_node "${GPUS:-gpu}" \
    --master_addr "${HEAD:-localhost}" --master_port "${PORT:-29500}" \
    -m robustsabn train "$@"
