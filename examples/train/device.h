/* SPDX-License-Identifier: MIT
 * device.h: where a worker's tensors are, and what computes with them: the processor and its memory, or a GPU (gpu.h).
 * A list of tensors belongs to the device that made it. */
#ifndef TRAIN_DEVICE_H
#define TRAIN_DEVICE_H

#include "model.h"
#include "optim.h"

#include <stddef.h>
#include <stdint.h>

typedef struct device device;

typedef struct device_verbs {
    tensor_list (*tensors_new)(device *d); /* zeros */
    void (*tensors_free)(device *d, tensor_list *t);
    /* from and into tensors of the processor's; done when they return */
    void (*put)(device *d, tensor_list *to, const tensor_list *host);
    void (*get)(device *d, tensor_list *host, const tensor_list *from);
    /* as model_batch; x and y are the processor's */
    double (*batch)(device *d, const tensor_list *params, const float *x, const uint8_t *y, size_t n,
                    tensor_list *grads, size_t *correct);
    /* as in optim.h */
    void (*sgd_step)(device *d, sgd *o, tensor_list *params, const tensor_list *grads, float rate);
    void (*adam_step)(device *d, adam *o, tensor_list *params, const tensor_list *grads, float rate);
    void (*close)(device *d);
} device_verbs;

struct device {
    const device_verbs *can;
    const struct model *model; /* (so that it is C++, too) */
};

/* The processor, for batches up to a size. One object is one worker's. */
device *device_cpu(const model *m, size_t largest_batch);

#endif
