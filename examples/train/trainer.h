/* SPDX-License-Identifier: MIT
 * trainer.h: everything a worker needs for a step; and what of it another one, or a later life, needs to go on. */
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H

#include "data.h"
#include "device.h"
#include "model.h"
#include "nn.h"
#include "optim.h"
#include "options.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct trainer {
    const model *model;
    const dataset *data;
    optimiser optimiser;
    size_t batch;
    uint64_t job;   /* of which its state is; set before trainer_init */
    device *device; /* tensors are there */
    tensor_list params, grads;
    sgd sgd;
    adam adam; /* one of the two is in use */
    sampler sampler;
    float *x;
    uint8_t *y;
    uint32_t *index;
} trainer;

void trainer_init(trainer *t, const options *o, const model *m, const dataset *d, const partition *share, size_t rank,
                  const tensor_list *initial);
void trainer_free(trainer *t);

/* The next batch, into x and y. */
void trainer_draw(trainer *t);

/* Forward and backward on it: the gradient of its mean loss; returns the loss, summed. */
double trainer_gradient(trainer *t, const tensor_list *at, tensor_list *into, size_t *right);

/* The optimiser's step. */
void trainer_step(trainer *t, float rate);

/* ---- State: parameters, the optimiser's, and how far it is, in the byte order of this machine ---- */

size_t trainer_state_bytes(const trainer *t);
void trainer_write(const trainer *t, uint64_t step, double seconds, void *out);

/* false: this is no state of such a trainer; nothing has changed then. model: false: its parameters are left out. */
bool trainer_read(trainer *t, const void *state, size_t bytes, bool model, uint64_t *step, double *seconds);

/* A file for it and for what the rule has saved of itself (`more`), as DIR/worker-RANK, whole or not at all. */
void trainer_save(const trainer *t, const char *folder, size_t rank, uint64_t step, const void *more,
                  size_t more_bytes);

/* NULL: there is no such file. Else the state, and behind it what the rule had saved; give it back with free(). A file
 * that is no saved state ends the program with a line. */
void *trainer_load(const trainer *t, const char *folder, size_t rank, size_t *more_bytes);

#endif
