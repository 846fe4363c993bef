/* SPDX-License-Identifier: MIT
 * gpu.h: a worker whose model is in the memory of a GPU. Only where the program is built for one (make train-cuda).
 * Work goes to a stream of the worker's own. Whatever goes wrong on the GPU ends the program with a line. */
#ifndef TRAIN_GPU_H
#define TRAIN_GPU_H

#include "device.h"

#include "grawa.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Before anything else of this: is there a GPU for this process (the rank-th, counted around)? If not, the program
 * ends with a line. A process that has called it must not be forked. */
void gpu_begin(size_t rank);

/* On the GPU that gpu_begin has found, for batches up to a size: softmax regression or the MLP. By the thread that
 * trains; it may be closed by another one. */
device *gpu_open(const model *m, size_t largest_batch);

/* For an object of the library on this GPU: the field `cuda`, at first without memory, as X_memory wants it; then with
 * as much as it says. `net`, a transport that knows host memory only, becomes one that takes the GPU's. All of it stays
 * until gpu_return, when the objects are closed. */
void gpu_describe(device *d, weft_cuda *c);
void gpu_lend(device *d, weft_cuda *c, size_t bytes);
void gpu_stage(device *d, weft_transport *net);
void gpu_return(device *d);

#ifdef __cplusplus
}
#endif

#endif
