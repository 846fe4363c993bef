/* SPDX-License-Identifier: MIT
 * saddles.c: saddle.h, as this program uses it. */
#include "saddles.h"
#ifdef WEFT_CUDA
#include "gpu.h"
#endif
#include "util.h"

#include <stdlib.h>

struct saddles {
    saddle *x;
    const weft_transport *net;
    void *memory;
    void (*look)(void *ctx); /* while it waits; NULL: it sleeps */
    void *look_ctx;
#ifdef WEFT_CUDA
    weft_cuda gpu;
#endif
};

bool is_saddle(algorithm a) {
    return a == ALGORITHM_QSADDLE || a == ALGORITHM_NSADDLE || a == ALGORITHM_QGM || a == ALGORITHM_NGC ||
           a == ALGORITHM_DPSGD || a == ALGORITHM_DSGDM;
}

static saddle_variant variant_of(algorithm a) {
    switch (a) {
    case ALGORITHM_NSADDLE: return SADDLE_N;
    case ALGORITHM_QGM: return SADDLE_QGM;
    case ALGORITHM_NGC: return SADDLE_NGC;
    case ALGORITHM_DPSGD: return SADDLE_DPSGD;
    case ALGORITHM_DSGDM: return SADDLE_DSGDM;
    default: return SADDLE_Q;
    }
}

saddles *saddles_new(algorithm a, const options *o, device *gpu, weft_tensors params, const weft_transport *net,
                     const weft_graph *graph, bool late, weft_recorder *box, uint64_t timeout_ns, weft_status *s,
                     weft_detail *why) {
    saddles *x = new_array(1, sizeof *x);
    saddle_desc d = {.struct_size = sizeof d};
    d.params = params;
    d.transport = net;
    d.graph = graph;
    d.variant = variant_of(a);
    d.learning_rate = o->rate;
    if (d.variant == SADDLE_Q || d.variant == SADDLE_N) d.rho = o->rho > 0.0 ? o->rho : WEFT_ZERO;
    d.beta = o->momentum > 0.0 ? o->momentum : WEFT_ZERO;
    d.weight_decay = o->weight_decay;
    d.gamma = o->gamma;
    d.codec = o->codec;
    d.seed = o->seed;
    d.join = late;
    d.timeout_ns = timeout_ns;
    d.trace = weft_recorder_event;
    d.trace_ctx = box;
#ifdef WEFT_CUDA
    weft_memory_report report;
    if (gpu) {
        gpu_describe(gpu, &x->gpu);
        d.cuda = &x->gpu;
        saddle_memory(&d, &report);
        gpu_lend(gpu, &x->gpu, report.device_bytes);
    }
#else
    (void)gpu;
#endif
    size_t bytes = saddle_memory(&d, NULL);
    x->net = net;
    x->memory = new_array(bytes, 1);
    *s = saddle_init_detail(&x->x, &d, x->memory, bytes, why);
    if (*s == WEFT_OK) return x;
    saddles_free(x);
    return NULL;
}

/* Where the tensors of a view are. */
static tensor_list list_of(const weft_tensors *view) {
    tensor_list t = {{NULL}};
    for (size_t i = 0; i < view->count; i++) t.tensor[i] = view->tensor[i].data;
    return t;
}

void saddles_look_with(saddles *x, void (*look)(void *ctx), void *ctx) {
    x->look = look;
    x->look_ctx = ctx;
}

void saddles_link(saddles *x, uint32_t rank, bool up) {
    (void)(up ? saddle_peer_up : saddle_peer_lost)(x->x, rank);
}

static weft_status saddles_wait(saddles *x, saddle_want *want) {
    weft_status s;
    if (!x->look) return saddle_wait(x->x, want);
    while ((s = want ? saddle_next(x->x, want) : saddle_poll(x->x)) == WEFT_AGAIN) x->look(x->look_ctx);
    return s;
}

weft_status saddles_step(saddles *x, double rate, rule_differentiate differentiate, void *ctx) {
    saddle_want want;
    weft_status s = saddle_set_learning_rate(x->x, rate);
    if (s != WEFT_OK) return s;
    while ((s = saddles_wait(x, &want)) == WEFT_WANT_GRADIENT) {
        const tensor_list at = list_of(&want.at);
        tensor_list into = list_of(&want.into);
        differentiate(ctx, &at, &into, want.peer == x->net->rank && !want.climbed);
    }
    return s;
}

weft_status saddles_idle(saddles *x, uint64_t ns) {
    weft_status s = WEFT_OK;
    for (uint64_t until = x->net->now(x->net->ctx) + ns; s >= 0 && x->net->now(x->net->ctx) < until;) {
        x->net->wait(x->net->ctx, until);
        s = saddle_poll(x->x);
    }
    return s;
}

void *saddles_save(saddles *x, size_t *bytes) {
    void *out = NULL;
    if (saddle_save(x->x, NULL, 0, bytes) != WEFT_OK) {
        *bytes = 0;
        return NULL;
    }
    out = new_array(*bytes, 1);
    if (saddle_save(x->x, out, *bytes, bytes) != WEFT_OK) *bytes = 0;
    return out;
}

weft_status saddles_load(saddles *x, const void *saved, size_t bytes) {
    return saddle_load(x->x, saved, bytes);
}

weft_status saddles_leave(saddles *x) {
    weft_status s = saddle_leave(x->x);
    return s == WEFT_AGAIN ? saddles_wait(x, NULL) : s;
}

const weft_detail *saddles_detail(const saddles *x) {
    return saddle_detail(x->x);
}

void saddles_read(const saddles *x, rule_stats *out) {
    saddle_stats_t s = {0};
    saddle_stats(x->x, &s);
    *out = (rule_stats){s.steps, s.traffic.payload_sent};
}

void saddles_free(saddles *x) {
    if (x->x) saddle_close(x->x);
    free(x->memory);
    free(x);
}
