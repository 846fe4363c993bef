/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "trainer.h"

#ifdef WEFT_CUDA
#include "gpu.h"
#endif
#include "util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static device *device_of(const options *o, const model *m) {
#ifdef WEFT_CUDA
    if (o->device == DEVICE_CUDA) return gpu_open(m, o->batch);
#endif
    return device_cpu(m, o->batch);
}

void trainer_init(trainer *t, const options *o, const model *m, const dataset *d, const partition *share, size_t rank,
                  const tensor_list *initial) {
    t->model = m;
    t->data = d;
    t->optimiser = o->optimiser;
    t->batch = o->batch;
    t->device = device_of(o, m);
    const device_verbs *can = t->device->can;
    t->params = can->tensors_new(t->device);
    t->grads = can->tensors_new(t->device);
    can->put(t->device, &t->params, initial);
    t->sgd = (sgd){.momentum = (float)o->momentum, .weight_decay = (float)o->weight_decay};
    t->sgd.velocity = can->tensors_new(t->device);
    t->adam = (adam){.beta1 = (float)o->momentum, .beta2 = 0.999f, .weight_decay = (float)o->weight_decay};
    t->adam.first = can->tensors_new(t->device);
    t->adam.second = can->tensors_new(t->device);
    sampler_init(&t->sampler, share, rank, d, o->seed);
    t->x = new_floats(o->batch * d->features);
    t->y = new_array(o->batch, 1);
    t->index = new_array(o->batch, sizeof *t->index);
}

void trainer_free(trainer *t) {
    tensor_list *all[] = {&t->params, &t->grads, &t->sgd.velocity, &t->adam.first, &t->adam.second};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) t->device->can->tensors_free(t->device, all[i]);
    t->device->can->close(t->device);
    sampler_free(&t->sampler);
    free(t->x);
    free(t->y);
    free(t->index);
}

void trainer_draw(trainer *t) {
    sampler_next(&t->sampler, t->batch, t->index);
    dataset_gather(t->data, &t->data->train, t->index, t->batch, t->x, t->y);
}

double trainer_gradient(trainer *t, const tensor_list *at, tensor_list *into, size_t *right) {
    return t->device->can->batch(t->device, at, t->x, t->y, t->batch, into, right);
}

void trainer_step(trainer *t, float rate) {
    if (t->optimiser == OPTIMISER_ADAM)
        t->device->can->adam_step(t->device, &t->adam, &t->params, &t->grads, rate);
    else
        t->device->can->sgd_step(t->device, &t->sgd, &t->params, &t->grads, rate);
}

/* ---- State ---- */

#define TRAINER_MAGIC UINT64_C(0x31307472616E6965) /* also says the byte order */

typedef struct state_head {
    uint64_t magic, hash; /* of all that follows it */
    uint64_t parameters, tensors, optimiser, job;
    uint64_t step, adam_steps;
    double seconds;
} state_head;

/* Everything that changes, tensor by tensor. */
static size_t lists(const trainer *t, const tensor_list *list[3]) {
    list[0] = &t->params;
    list[1] = t->optimiser == OPTIMISER_ADAM ? &t->adam.first : &t->sgd.velocity;
    list[2] = &t->adam.second;
    return t->optimiser == OPTIMISER_ADAM ? 3 : 2;
}

size_t trainer_state_bytes(const trainer *t) {
    const tensor_list *list[3];
    return sizeof(state_head) + lists(t, list) * t->model->parameters * sizeof(float);
}

/* Between one of these lists and its place in a state. */
static tensor_list place_of(const trainer *t, const void *at) {
    tensor_list p = {{NULL}};
    float *next = (float *)(uintptr_t)at;
    for (size_t i = 0; i < t->model->tensors; next += t->model->tensor[i++].count) p.tensor[i] = next;
    return p;
}

static uint64_t hash_of(const unsigned char *p, size_t bytes) {
    uint64_t h = UINT64_C(1469598103934665603);
    while (bytes--) h = (h ^ *p++) * UINT64_C(1099511628211);
    return h;
}

static uint64_t state_hash(const void *state, size_t bytes) {
    const size_t skip = offsetof(state_head, parameters);
    return hash_of((const unsigned char *)state + skip, bytes - skip);
}

void trainer_write(const trainer *t, uint64_t step, double seconds, void *out) {
    const tensor_list *list[3];
    const size_t n = lists(t, list), bytes = trainer_state_bytes(t);
    unsigned char *at = (unsigned char *)out + sizeof(state_head);
    state_head h = {
        TRAINER_MAGIC, 0,      t->model->parameters, t->model->tensors, (uint64_t)t->optimiser, t->job, step,
        t->adam.steps, seconds};
    for (size_t k = 0; k < n; k++, at += t->model->parameters * sizeof(float)) {
        tensor_list place = place_of(t, at);
        t->device->can->get(t->device, &place, list[k]);
    }
    memcpy(out, &h, sizeof h);
    h.hash = state_hash(out, bytes);
    memcpy(out, &h, sizeof h);
}

bool trainer_read(trainer *t, const void *state, size_t bytes, bool with_model, uint64_t *step, double *seconds) {
    const tensor_list *list[3];
    const size_t n = lists(t, list);
    const unsigned char *at = (const unsigned char *)state + sizeof(state_head);
    state_head h;
    if (bytes != trainer_state_bytes(t)) return false;
    memcpy(&h, state, sizeof h);
    if (h.magic != TRAINER_MAGIC || h.parameters != t->model->parameters || h.tensors != t->model->tensors ||
        h.optimiser != (uint64_t)t->optimiser || h.job != t->job || h.hash != state_hash(state, bytes))
        return false;
    for (size_t k = 0; k < n; k++, at += t->model->parameters * sizeof(float)) {
        const tensor_list place = place_of(t, at);
        tensor_list to = *list[k];
        if (k > 0 || with_model) t->device->can->put(t->device, &to, &place);
    }
    t->adam.steps = h.adam_steps;
    *step = h.step;
    *seconds = h.seconds;
    return true;
}

/* ---- Files ---- */

static void name_file(char *out, size_t room, const char *folder, size_t rank, const char *end) {
    const int n = snprintf(out, room, "%s/worker-%zu%s", folder, rank, end);
    if (n < 0 || (size_t)n >= room) bad_input("--save: the name is too long");
}

void trainer_save(const trainer *t, const char *folder, size_t rank, uint64_t step, const void *more,
                  size_t more_bytes) {
    char name[4096], fresh[4096];
    const size_t bytes = trainer_state_bytes(t);
    void *state = new_array(bytes, 1);
    name_file(name, sizeof name, folder, rank, "");
    name_file(fresh, sizeof fresh, folder, rank, ".new");
    trainer_write(t, step, 0.0, state);
    FILE *out = fopen(fresh, "wb");
    const bool written =
        out && fwrite(state, 1, bytes, out) == bytes && (!more_bytes || fwrite(more, 1, more_bytes, out) == more_bytes);
    if (!out || fclose(out) != 0 || !written || rename(fresh, name) != 0) bad_input("%s: %s", name, strerror(errno));
    free(state);
}

void *trainer_load(const trainer *t, const char *folder, size_t rank, size_t *more_bytes) {
    char name[4096];
    const size_t bytes = trainer_state_bytes(t);
    name_file(name, sizeof name, folder, rank, "");
    FILE *in = fopen(name, "rb");
    if (!in && errno == ENOENT) return NULL;
    if (!in) bad_input("%s: %s", name, strerror(errno));
    if (fseek(in, 0, SEEK_END) != 0) bad_input("%s: %s", name, strerror(errno));
    const long end = ftell(in);
    if (end < 0 || (size_t)end < bytes)
        bad_input("%s: expected at least %zu bytes for this model and optimiser, got %ld", name, bytes, end);
    unsigned char *state = new_array((size_t)end, 1);
    rewind(in);
    if (fread(state, 1, (size_t)end, in) != (size_t)end) bad_input("%s: %s", name, strerror(errno));
    fclose(in);
    *more_bytes = (size_t)end - bytes;
    return state;
}
