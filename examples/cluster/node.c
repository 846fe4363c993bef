/* SPDX-License-Identifier: MIT
 * node.c: the file of this program that implements the library's headers. */
#define GRAWA_IMPLEMENTATION
#define SUBSPACE_IMPLEMENTATION
#define HPSGD_IMPLEMENTATION
#define DSGD_AAU_IMPLEMENTATION
#include "grawa.h"
#include "subspace.h"
#include "hpsgd.h"
#include "dsgd_aau.h"

#include "node.h"
#include "train/util.h"

#include <stdlib.h>
#include <string.h>

static weft_tensors view_of(const model *m, const tensor_list *t, weft_tensor *view) {
    for (size_t i = 0; i < m->tensors; i++) view[i] = (weft_tensor){t->tensor[i], m->tensor[i].count, WEFT_F32};
    return (weft_tensors){view, m->tensors};
}

static uint64_t ns_of(double seconds) {
    return (uint64_t)(seconds * 1e9 + 0.5);
}

static void refused(const node *n, weft_status s, const weft_detail *why) {
    if (s != WEFT_OK)
        broken("%s, worker %lu: %s (%s: expected %llu, got %llu)", METHOD_NAME[n->of->method], (unsigned long)n->rank,
               weft_strerror(s), why->field ? why->field : "value", (unsigned long long)why->expected,
               (unsigned long long)why->got);
}

static void open_aau(node *n, bool comes_back) {
    const options *o = n->of->o;
    dsgd_aau_desc d = {.struct_size = sizeof d};
    weft_detail why;
    d.params = view_of(&n->of->task->model, &n->params, n->param);
    d.transport = &n->net;
    d.graph = n->of->graph;
    d.fan = o->fan;
    d.grace_ns = o->grace < 0.0 ? 0 : o->grace > 0.0 ? ns_of(o->grace) : DSGD_AAU_NO_GRACE;
    d.coalesce_ns = ns_of(o->coalesce);
    d.patience_ns = ns_of(o->patience);
    d.join = comes_back ? DSGD_AAU_JOIN : DSGD_AAU_FOUND;
    n->bytes = dsgd_aau_memory(&d, NULL);
    n->memory = new_array(n->bytes, 1);
    refused(n, dsgd_aau_init_detail(&n->aau, &d, n->memory, n->bytes, &why), &why);
}

static void open_grawa(node *n) {
    grawa_desc d = {.struct_size = sizeof d};
    weft_detail why;
    d.params = view_of(&n->of->task->model, &n->params, n->param);
    d.transport = &n->net;
    d.weighting = n->of->method == METHOD_MGRAWA ? GRAWA_BY_MODEL : GRAWA_BY_LAYER;
    d.period_steps = (uint32_t)n->of->o->period;
    n->bytes = grawa_memory(&d, NULL);
    n->memory = new_array(n->bytes, 1);
    refused(n, grawa_init_detail(&n->grawa, &d, n->memory, n->bytes, &why), &why);
}

static void open_subspace(node *n) {
    subspace_desc d = {.struct_size = sizeof d};
    weft_detail why;
    n->grads = tensors_new(&n->of->task->model);
    d.gradients = view_of(&n->of->task->model, &n->grads, n->grad);
    d.transport = &n->net;
    d.rule = n->of->method == METHOD_MEAN ? SUBSPACE_MEAN : SUBSPACE_NORMALISED;
    d.momentum = n->of->method == METHOD_MEAN ? 0.0 : 0.99;
    n->bytes = subspace_memory(&d, NULL);
    n->memory = new_array(n->bytes, 1);
    refused(n, subspace_init_detail(&n->subspace, &d, n->memory, n->bytes, &why), &why);
}

static void open_hpsgd(node *n) {
    hpsgd_desc d = {.struct_size = sizeof d};
    weft_detail why;
    d.params = view_of(&n->of->task->model, &n->params, n->param);
    d.transport = &n->net;
    d.carry = n->of->o->beta;
    d.max_steps = (uint32_t)n->of->o->most_steps;
    n->bytes = hpsgd_memory(&d, NULL);
    n->memory = new_array(n->bytes, 1);
    refused(n, hpsgd_init_detail(&n->hpsgd, &d, n->memory, n->bytes, &why), &why);
}

void node_open(node *n, bool comes_back) {
    const model *m = &n->of->task->model;
    n->params = tensors_new(m);
    if (!comes_back) tensors_copy(m, &n->params, &n->of->initial);
    sgd_init(&n->sgd, m, (float)n->of->o->momentum, 0.0f, false);
    if (n->of->task->kind != TASK_QUADRATIC)
        sampler_init(&n->sampler, &n->of->task->share, n->rank, &n->of->task->data, n->of->o->seed);
    switch (n->of->method) {
    case METHOD_DSGD_AAU: open_aau(n, comes_back); break;
    case METHOD_MGRAWA:
    case METHOD_LGRAWA: open_grawa(n); break;
    case METHOD_HPSGD: open_hpsgd(n); break;
    default: open_subspace(n); break;
    }
}

void node_close(node *n) {
    if (n->aau) dsgd_aau_close(n->aau);
    if (n->grawa) grawa_close(n->grawa);
    if (n->subspace) subspace_close(n->subspace);
    if (n->hpsgd) hpsgd_close(n->hpsgd);
    n->aau = NULL;
    n->grawa = NULL;
    n->subspace = NULL;
    n->hpsgd = NULL;
    free(n->memory);
    n->memory = NULL;
}

void node_free(node *n) {
    const model *m = &n->of->task->model;
    node_close(n);
    tensors_free(m, &n->params);
    tensors_free(m, &n->grads);
    sgd_free(&n->sgd, m);
    if (n->of->task->kind != TASK_QUADRATIC) sampler_free(&n->sampler);
}

const tensor_list *node_model(node *n, tensor_list *room) {
    weft_tensor view[MAX_TENSORS];
    const weft_tensors all = view_of(&n->of->task->model, room, view);
    if (n->hpsgd && hpsgd_model(n->hpsgd, &all) == WEFT_OK) return room;
    return &n->params;
}

weft_status node_start(node *n) {
    if (n->aau) return dsgd_aau_start(n->aau);
    if (n->hpsgd) return hpsgd_start(n->hpsgd);
    return n->grawa ? grawa_start(n->grawa) : WEFT_OK;
}

static void local_step(node *n, const tensor_list *grads) {
    sgd_step(&n->sgd, &n->of->task->model, &n->params, grads, (float)n->of->o->rate);
}

/* (subspace_aggregate would wait for the others inside; here all wait side by side.) */
static weft_status submit_all(node *n) {
    return subspace_submit(n->subspace, 0, n->of->task->model.tensors);
}

/* WANT_GRADIENT: the view is new, and the round that it cut short is wanted again: the gradients are as they were. */
static weft_status after_aggregate(node *n, weft_status s) {
    if (s == WEFT_WANT_GRADIENT) s = submit_all(n);
    if (s == WEFT_OK) local_step(n, &n->grads);
    return s;
}

weft_status node_gradient(node *n) {
    tensor_list *grads = n->subspace ? &n->grads : &n->of->grads;
    weft_tensor view[MAX_TENSORS];
    task_gradient(n->of->task, n->rank, n->steps++, &n->sampler, &n->params, grads);
    if (n->subspace) return after_aggregate(n, submit_all(n));
    local_step(n, grads);
    if (n->aau) return dsgd_aau_step(n->aau);
    if (n->hpsgd) return hpsgd_step(n->hpsgd);
    const weft_tensors all = view_of(&n->of->task->model, grads, view);
    return grawa_step(n->grawa, &all);
}

weft_status node_poll(node *n) {
    if (n->aau) return dsgd_aau_poll(n->aau);
    if (n->hpsgd) return hpsgd_poll(n->hpsgd);
    if (n->grawa) return grawa_poll(n->grawa);
    return after_aggregate(n, subspace_poll(n->subspace));
}

weft_status node_regroup(node *n, uint32_t epoch, const uint32_t *members, uint32_t count) {
    const weft_view v = {sizeof v, epoch, count, members};
    n->epoch = epoch;
    if (n->hpsgd) return hpsgd_regroup(n->hpsgd, &v);
    return n->grawa ? grawa_regroup(n->grawa, &v) : after_aggregate(n, subspace_regroup(n->subspace, &v));
}

uint64_t node_wake_ns(const node *n) {
    return n->aau ? dsgd_aau_wake_ns(n->aau) : UINT64_MAX;
}

bool node_listens(const node *n) {
    return (n->aau || n->hpsgd) && !n->of->o->deaf;
}

weft_status node_listen(node *n) {
    return n->aau ? dsgd_aau_poll(n->aau) : hpsgd_progress(n->hpsgd);
}

const weft_detail *node_detail(const node *n) {
    if (n->aau) return dsgd_aau_detail(n->aau);
    if (n->hpsgd) return hpsgd_detail(n->hpsgd);
    return n->grawa ? grawa_detail(n->grawa) : subspace_detail(n->subspace);
}

void node_read(const node *n, node_stats *out) {
    memset(out, 0, sizeof *out);
    if (n->aau) {
        dsgd_aau_stats_t s;
        dsgd_aau_stats(n->aau, &s);
        *out = (node_stats){s.epochs, s.led + s.followed, s.partners, s.alone, s.traffic};
    } else if (n->hpsgd) {
        hpsgd_stats_t s;
        hpsgd_stats(n->hpsgd, &s);
        *out = (node_stats){s.rounds, s.rounds, 0, 0, s.traffic};
    } else if (n->grawa) {
        grawa_stats_t s;
        grawa_stats(n->grawa, &s);
        *out = (node_stats){s.rounds, s.rounds, 0, 0, s.traffic};
    } else if (n->subspace) {
        subspace_stats_t s;
        subspace_stats(n->subspace, &s);
        *out = (node_stats){s.rounds, s.rounds, 0, 0, s.traffic};
    }
}
